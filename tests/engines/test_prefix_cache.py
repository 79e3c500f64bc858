"""The prefix cache finds the longest known beginning, keeps its budget, and forgets the oldest first."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from carrara.engines.prefix_cache import PrefixCache

BLOCK = 4


@dataclass(frozen=True)
class Fake:
    """A payload that knows what it stands for."""

    key: str
    tokens: tuple[int, ...]
    size: int = 10


def cache(budget: int = 1000) -> PrefixCache[Fake]:
    return PrefixCache(budget, lambda payload: payload.size, BLOCK)


def put(into: PrefixCache[Fake], tokens: list[int], key: str = "", size: int = 10) -> int:
    return into.insert(key, tokens, lambda a, b: Fake(key, tuple(tokens[:b]), size))


def test_the_longest_known_beginning_is_found_in_whole_blocks() -> None:
    known = cache()
    assert put(known, list(range(10))) == 2
    assert known.find("", list(range(10))).tokens == 8
    hit = known.find("", [0, 1, 2, 3, 4, 5, 6, 99, 8])
    assert hit.tokens == 4
    assert hit.payloads == (Fake("", (0, 1, 2, 3)),)
    assert known.find("", [1, 2, 3, 4]).tokens == 0


def test_the_last_token_can_be_left_for_computing() -> None:
    known = cache()
    put(known, list(range(8)))
    assert known.find("", list(range(8)), most=7).tokens == 4


def test_keys_keep_equal_prompts_apart() -> None:
    known = cache()
    put(known, list(range(4)), "base")
    assert known.find("adapter", list(range(4))).tokens == 0
    assert known.find("base", list(range(4))).tokens == 4


def test_a_shared_beginning_is_made_once() -> None:
    known, made = cache(), []
    for tail in ([8, 9, 8, 9], [7, 7, 7, 7]):
        tokens = [0, 1, 2, 3, *tail]

        def make(a: int, b: int, tokens: list[int] = tokens) -> Fake:
            made.append((a, b))
            return Fake("", tuple(tokens[:b]))

        known.insert("", tokens, make)
    assert made == [(0, 4), (4, 8), (4, 8)]


def test_the_least_recently_used_goes_first_and_leaves_before_what_they_stand_on() -> None:
    known = cache(budget=30)
    put(known, [1, 1, 1, 1, 2, 2, 2, 2])
    put(known, [3, 3, 3, 3])
    known.find("", [1, 1, 1, 1, 2, 2, 2, 2])
    put(known, [4, 4, 4, 4])
    assert known.find("", [3, 3, 3, 3]).tokens == 0
    assert known.find("", [1, 1, 1, 1, 2, 2, 2, 2]).tokens == 8
    put(known, [5, 5, 5, 5, 5, 5, 5, 5])
    assert known.find("", [1, 1, 1, 1, 2, 2, 2, 2]).tokens == 4


def test_a_prompt_longer_than_the_budget_keeps_its_beginning() -> None:
    known = cache(budget=25)
    assert put(known, list(range(40))) == 2
    assert known.find("", list(range(40))).tokens == 8


def test_no_budget_keeps_nothing() -> None:
    known = cache(budget=0)
    assert put(known, list(range(8))) == 0
    assert known.stats().blocks == 0


def test_hits_are_counted() -> None:
    known = cache()
    put(known, list(range(8)))
    known.find("", list(range(8)))
    known.find("", [9] * 8)
    stats = known.stats()
    assert (stats.lookups, stats.hits, stats.asked_tokens, stats.found_tokens) == (2, 1, 16, 8)
    assert (stats.bytes, stats.blocks, stats.evicted_blocks) == (20, 2, 0)
    known.clear()
    assert (known.stats().bytes, known.stats().lookups) == (0, 2)
    assert known.find("", list(range(8))).tokens == 0


PROMPTS = st.lists(st.integers(0, 2), max_size=24)
KEYS = st.sampled_from(["base", "adapter"])


class PrefixCacheAgainstASet(RuleBasedStateMachine):
    """Whatever is found was inserted, in order; what was just inserted is there; the budget holds."""

    @initialize(budget=st.integers(0, 200))
    def begin(self, budget: int) -> None:
        self.cache = cache(budget)
        self.inserted: set[tuple[str, tuple[int, ...]]] = set()

    @rule(key=KEYS, tokens=PROMPTS, size=st.integers(1, 60))
    def insert(self, key: str, tokens: list[int], size: int) -> None:
        put(self.cache, tokens, key, size)
        for stop in range(BLOCK, len(tokens) + 1, BLOCK):
            self.inserted.add((key, tuple(tokens[:stop])))

    @rule(key=KEYS, tokens=PROMPTS)
    def find(self, key: str, tokens: list[int]) -> None:
        hit = self.cache.find(key, tokens)
        assert hit.tokens == len(hit.payloads) * BLOCK
        for number, payload in enumerate(hit.payloads, start=1):
            assert (payload.key, payload.tokens) == (key, tuple(tokens[: number * BLOCK]))
            assert (key, payload.tokens) in self.inserted

    @rule(key=KEYS, tokens=PROMPTS)
    def insert_with_room_and_find(self, key: str, tokens: list[int]) -> None:
        self.insert(key, tokens, size=1)
        if self.cache.budget >= 200:
            assert self.cache.find(key, tokens).tokens == len(tokens) // BLOCK * BLOCK

    @rule(key=KEYS, tokens=PROMPTS)
    def forget(self, key: str, tokens: list[int]) -> None:
        before = self.cache.stats()
        gone = self.cache.forget(key, tokens)
        after = self.cache.stats()
        assert self.cache.find(key, tokens).tokens == 0
        assert after.blocks == before.blocks - gone
        assert (after.bytes < before.bytes) == (gone > 0)

    @invariant()
    def the_budget_holds(self) -> None:
        if hasattr(self, "cache"):
            stats = self.cache.stats()
            assert 0 <= stats.bytes <= self.cache.budget


TestPrefixCacheAgainstASet = PrefixCacheAgainstASet.TestCase
TestPrefixCacheAgainstASet.settings = settings(
    max_examples=40, deadline=None, stateful_step_count=30
)


def test_what_was_computed_behind_a_forgotten_beginning_goes_with_it() -> None:
    known = cache()
    put(known, [1, 1, 1, 1, 2, 2, 2, 2])
    put(known, [1, 1, 1, 1, 3, 3, 3, 3])
    put(known, [4, 4, 4, 4])
    assert known.forget("", [1, 1, 1, 1, 9]) == 3
    assert known.find("", [1, 1, 1, 1, 3, 3, 3, 3]).tokens == 0
    assert known.find("", [4, 4, 4, 4]).tokens == 4
    assert known.stats().bytes == 10
    assert known.forget("", [1, 1, 1, 1]) == 0


@given(prompts=st.lists(PROMPTS, max_size=12))
@settings(deadline=None)
def test_without_pressure_nothing_is_lost(prompts: list[list[int]]) -> None:
    known = cache(10**9)
    for tokens in prompts:
        put(known, tokens)
    for tokens in prompts:
        assert known.find("", tokens).tokens == len(tokens) // BLOCK * BLOCK


def test_what_has_changed_is_dropped_with_all_that_follows_it() -> None:
    seals: dict[Fake, int] = {}
    known: PrefixCache[Fake] = PrefixCache(
        1000, lambda payload: payload.size, BLOCK, lambda payload: seals.get(payload, 0)
    )
    put(known, list(range(16)))
    put(known, [0, 1, 2, 3, 9, 9, 9, 9])
    assert known.find("", list(range(16))).tokens == 16
    seals[Fake("", (0, 1, 2, 3, 4, 5, 6, 7))] = 1  # its checksum is another one now
    assert known.find("", list(range(16))).tokens == 4
    assert known.stats().spoilt_blocks == 3
    assert known.stats().evicted_blocks == 0
    assert known.find("", [0, 1, 2, 3, 9, 9, 9, 9]).tokens == 8
    assert known.stats().bytes == 20
