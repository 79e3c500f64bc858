"""Values are private: what one body does to its arguments, no other step, attempt, reader or resumed run sees."""

import asyncio
import copy
import pickle
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from carrara.engines.errors import EngineBusy
from carrara.runtime.codec import encode
from carrara.runtime.errors import HandleError, StepError
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.run import execute, submit, submit_map
from carrara.runtime.shapes import private
from carrara.runtime.step import StepOptions, StepSpec

MARK = "changed"


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Box:
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Sealed:
    items: Any = ()


class Page(BaseModel):
    lines: list[Any] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    title: str = ""


def mark(value: Any) -> None:
    """Change everything in `value` that can be changed."""
    match value:
        case bytearray():
            value += MARK.encode()
        case list() | deque():
            for part in value:
                mark(part)
            value.append(MARK)
        case dict():
            for part in value.values():
                mark(part)
            value[MARK] = MARK
        case set():
            value.add(MARK)
        case tuple():
            for part in value:
                mark(part)
        case Box() | Sealed():
            mark(value.items)
        case Page():
            mark(value.lines)
        case Open():
            mark(value.__pydantic_extra__)
            value.title += MARK


def spec(body: Callable[..., Any], **options: Any) -> StepSpec:
    name = body.__name__
    return StepSpec(name, body, fingerprint=name, options=StepOptions(inline=True, **options))


ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.sets(st.integers(), max_size=2)
        | st.binary(max_size=2).map(bytearray)
        | st.lists(inner, max_size=2).map(deque)
        | st.lists(inner, max_size=2).map(Box)
        | st.lists(inner, max_size=2).map(lambda found: Page(lines=found))
        | st.tuples(inner, inner)
        | st.builds(Pair, inner, inner)
        | st.builds(Sealed, inner)
        | st.builds(lambda extra: Open(extra=extra), inner)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_private_value_is_equal_and_shares_nothing_that_can_be_changed(value: Any) -> None:
    before = private(value)
    assert (before, type(before)) == (value, type(value))
    mark(value)
    again = private(before)
    mark(before)
    mark(value)
    assert private(again) == again


def test_what_cannot_be_changed_is_not_copied() -> None:
    for value in ("a", (1, ("b",)), frozenset({1}), Sealed((1, 2)), Pair(1, "b")):
        assert private(value) is value
    assert private(Sealed([1])) is not None
    client = object()
    assert private([client]) == [client]


class Dies(Exception):
    pass


def shaped(value: Any, die_at: int) -> Callable[[], Any]:
    """A workflow in which everybody changes what he was given; it dies at a moment of its own the first time."""

    def make() -> Any:
        found = private(value)
        kept.append(found)
        return found

    kept: list[Any] = []
    tries: Counter[str] = Counter()

    def change(found: Any, other: Any) -> Any:
        seen = encode([found, other])
        mark(found)
        mark(other)
        mark(kept[0] if kept else None)
        return [seen, found]

    def stumble(found: Any) -> Any:
        tries["stumble"] += 1
        seen = encode(found)
        mark(found)
        if tries["stumble"] == 1:
            raise EngineBusy("the first time", retry_after_s=1e-6)
        return seen

    async def workflow() -> Any:
        own = private(value)
        made = submit(spec(make), (), {})
        first = submit(spec(change), (made, own), {})
        mark(own)
        seen = await made
        mark(seen)
        second = submit(spec(change), (made, Box([seen])), {})
        if die_at == 0:
            await first
            raise Dies
        third = submit(spec(stumble, retries=1), (made,), {})
        fan = submit_map(spec(change), [made, own, [first]], {"other": made})
        if die_at == 1:
            await second
            await third
            raise Dies
        mark(await fan)
        if die_at == 2:
            raise Dies
        return [encode(await one) for one in (made, first, second, third, fan)]

    return workflow


@settings(max_examples=25, deadline=None)
@given(VALUES, st.integers(0, 2))
def test_a_resumed_run_sees_what_an_undisturbed_one_does(
    tmp_path_factory: pytest.TempPathFactory, value: Any, die_at: int
) -> None:
    journal = SqliteJournal(tmp_path_factory.mktemp("journal") / "journal.db")
    try:
        whole = asyncio.run(execute(shaped(value, 9), name="w", journal=journal))
        with pytest.raises(Dies):
            asyncio.run(execute(shaped(value, die_at), name="w", journal=journal, run_id="cut"))
        again = asyncio.run(execute(shaped(value, 9), name="w", journal=journal, run_id="cut"))
        assert again.reused > 0
        assert again.value == whole.value
    finally:
        journal.close()


def given_to(value_of: Callable[[Any], Any]) -> Any:
    """What a step's body gets for an argument made of the handle of ["a"]."""
    got: list[Any] = []

    async def workflow() -> None:
        source = submit(spec(lambda: ["a"]), (), {})
        await submit(spec(lambda found: got.append(found)), (value_of(source),), {})

    asyncio.run(execute(workflow))
    return got[0]


@dataclass
class Holder:
    held: Any


class Anyhow(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")

    held: Any = None


def with_extra(handle: Any) -> Anyhow:
    return Anyhow.model_construct(held=1, more=[handle])


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda h: [h, (h,)], [["a"], (["a"],)]),
        (lambda h: deque([h, 1], maxlen=2), deque([["a"], 1], maxlen=2)),
        (lambda h: OrderedDict(x=h), OrderedDict(x=["a"])),
        (lambda h: Pair(h, 1), Pair(["a"], 1)),
        (lambda h: Holder(h), Holder(["a"])),
        (lambda h: Anyhow(held=h), Anyhow(held=["a"])),
        (lambda h: Anyhow.model_construct(held=h), Anyhow.model_construct(held=["a"])),
        (with_extra, with_extra(["a"])),
        (lambda h: {"x": h}.values(), [["a"]]),
        (lambda h: {"x": h}.items(), [("x", ["a"])]),
    ],
)
def test_a_handle_is_found_wherever_data_may_be(made: Callable[[Any], Any], wanted: Any) -> None:
    found = given_to(made)
    assert (found, type(found)) == (wanted, type(wanted))


def test_handles_are_found_as_keys_and_in_sets() -> None:
    got: list[Any] = []

    async def workflow() -> None:
        one, two = (submit(spec(lambda n: n), (n,), {}) for n in (1, 2))
        found = ({one: two}, {one, two}, frozenset([two]), {("x", one): 3})
        await submit(spec(lambda value: got.append(value)), (found,), {})

    asyncio.run(execute(workflow))
    assert got == [({1: 2}, {1, 2}, frozenset([2]), {("x", 1): 3})]


def test_a_value_that_cannot_be_a_key_is_told() -> None:
    with pytest.raises(StepError, match=r"cannot be a key.*pass a list of the handles"):
        given_to(lambda handle: {handle: 1})
    with pytest.raises(StepError, match="cannot be in a set"):
        given_to(lambda handle: {handle})


class Opaque:
    def __init__(self, held: Any) -> None:
        self.held = held


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Opaque, "the attribute 'held' of a Opaque holds <handle of step"),
        (lambda h: Opaque({"x": h}), "the attribute 'held' of a Opaque holds"),
        (lambda h: (one for one in [h]), r"generator, which can be read only once: write list\("),
        (lambda h: map(str, [h]), "map, which can be read only once"),
        (lambda h: partial(max, h), "the attribute 'args' of a partial holds"),
        (str, "cannot make text of the handle"),
        (lambda h: f"{h}", "cannot format the handle"),
        ("%s".__mod__, "cannot make text of the handle"),
        (bool, "cannot test the handle"),
        (list, "cannot iterate over the handle"),
        (lambda h: h // 2, "cannot compute with the handle"),
        (pickle.dumps, "cannot pickle the handle"),
    ],
)
def test_a_handle_where_no_step_would_see_its_value_is_an_error(
    made: Callable[[Any], Any], reason: str
) -> None:
    with pytest.raises(HandleError, match=reason):
        given_to(made)


class Typed(BaseModel):
    title: str


def test_a_handle_in_a_typed_field_is_told_with_the_way_out() -> None:
    wanted = r"the field 'title' of Typed was given <handle of step .*\. Await it first"
    with pytest.raises(HandleError, match=wanted):
        given_to(lambda handle: Typed(title=handle))


def test_a_deep_copy_of_data_keeps_its_handles() -> None:
    assert given_to(lambda handle: copy.deepcopy([handle])) == [["a"]]
