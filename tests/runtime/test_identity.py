"""Identities and fingerprints: the same work has the same hash in every process, other work another."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrara
from carrara.runtime.codec import CodecError, decode, encode
from carrara.runtime.fingerprint import source_fingerprint
from carrara.runtime.identity import LONG, identity, value_hash

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(carrara.__file__).parents[1])}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=8,
)


@given(plain, plain)
def test_hashes_are_equal_only_where_the_stored_texts_are(left: Any, right: Any) -> None:
    assert (value_hash(left) == value_hash(right)) == (encode(left) == encode(right))


@given(plain)
def test_a_value_read_from_the_journal_has_the_hash_of_the_one_that_was_written(value: Any) -> None:
    assert value_hash(decode(encode(value))) == value_hash(value)
    assert identity("f", (decode(encode(value)),), {}) == identity("f", (value,), {})


@given(st.lists(plain, max_size=3), st.dictionaries(st.text(), plain, max_size=3))
def test_the_order_of_keywords_does_not_count(args: list[Any], named: dict[str, Any]) -> None:
    turned = dict(reversed(named.items()))
    assert identity("f", tuple(args), named) == identity("f", tuple(args), turned)


def test_what_looks_alike_is_told_apart() -> None:
    seen = [
        identity("f", (1,), {}),
        identity("g", (1,), {}),
        identity("f", (1.0,), {}),
        identity("f", (True,), {}),
        identity("f", ("1",), {}),
        identity("f", ([1],), {}),
        identity("f", ((1,),), {}),
        identity("f", (1, None), {}),
        identity("f", (), {"x": 1}),
        identity("f", ({"a": 1, "b": 2},), {}),
        identity("f", ({"b": 2, "a": 1},), {}),  # the order of a dict can reach a prompt
        identity("f", ("a" * LONG,), {}),
        identity("f", ("a" * LONG + "b",), {}),
        identity("f", ("ä",), {}),
        identity("f", ('"',), {}),
    ]
    assert len(set(seen)) == len(seen)
    assert all(len(found) == 32 for found in seen)


def test_short_and_long_ways_to_the_same_arguments_agree() -> None:
    for value in ("text", "żółw", 'a "quoted" \n', "x" * (LONG - 1), 0, -7, 10**30):
        assert identity('finger"print', (value,), {}) == identity(
            'finger"print', (value,), dict[str, Any]()
        )
        assert identity("f", ([value],), {}) != identity("f", (value,), {})


def test_a_long_text_counts_by_its_content_wherever_it_lies() -> None:
    one, same, other = "x" * 50_000, "".join(["x"] * 50_000), "x" * 49_999 + "y"
    assert one is not same
    assert identity("f", ({"doc": [one]},), {}) == identity("f", ({"doc": [same]},), {})
    assert identity("f", ({"doc": [one]},), {}) != identity("f", ({"doc": [other]},), {})
    assert identity("f", (one,), {}) != identity("f", ({"$text": value_hash(one)},), {})


def test_functions_among_the_arguments_count_by_their_definition() -> None:
    def one(x: int) -> int:
        return x + 1

    def two(x: int) -> int:
        return x + 2

    assert identity("f", ([one],), {}) == identity("f", ([one],), {})
    assert identity("f", ([one],), {}) != identity("f", ([two],), {})


def test_an_argument_without_a_hash_is_named() -> None:
    with pytest.raises(CodecError, match=r"at \[1\]\.a\[0\]: an open file"), open(__file__) as file:
        identity("f", (1, {"a": [file]}), {})
    with pytest.raises(CodecError, match=r"at tool: an object"):
        identity("f", (), {"n": 1, "tool": object()})


def test_an_argument_that_contains_itself_has_no_identity() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(CodecError):
        identity("f", (ring,), {})


MODULE = '''
"""A module with a step."""

LIMIT = 3


class Shape:
    sides = 4


def helper(x):
    return x + LIMIT


def step(x, y=2):
    """Add."""
    return helper(x) * y + Shape.sides
'''


def fingerprint_of(tmp_path: Path, source: str, name: str = "step") -> str:
    """The fingerprint as a fresh process finds it."""
    (tmp_path / "module.py").write_text(source)
    program = (
        "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1]); import module\n"
        "from carrara.runtime.fingerprint import source_fingerprint\n"
        "print(source_fingerprint(getattr(module, sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), name],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("old", "new", "noticed"),
    [
        ("return helper(x) * y", "# the same\n    return  helper( x )*y", False),
        ('"""A module with a step."""', '"""Another title."""', False),
        ("* y + Shape", "* y - Shape", True),
        ("y=2", "y=3", True),
        ('"""Add."""', '"""Subtract."""', True),
        ("return x + LIMIT", "return x - LIMIT", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("sides = 4", "sides = 5", True),
        ("LIMIT = 3", "LIMIT = 3\nUNUSED = 1", False),
    ],
)
def test_a_fingerprint_notices_what_changes_the_result(
    tmp_path: Path, old: str, new: str, noticed: bool
) -> None:
    assert old in MODULE
    before = fingerprint_of(tmp_path, MODULE)
    assert len(before) == 32
    assert (fingerprint_of(tmp_path, MODULE.replace(old, new)) != before) is noticed


def test_a_fingerprint_is_the_same_for_a_module_and_for_the_script_that_it_is(
    tmp_path: Path,
) -> None:
    source = MODULE + dedent(
        """
        if __name__ == "__main__":
            from carrara.runtime.fingerprint import source_fingerprint
            print(source_fingerprint(step))
        """
    )
    imported = fingerprint_of(tmp_path, source)
    script = subprocess.run(
        [sys.executable, str(tmp_path / "module.py")],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    assert script.stdout.strip() == imported


FLOW = """
    import tools
    from helpers import clean
    from carrara import step, workflow

    KIT = {"shorten": tools.shorten}

    @step
    def first(text: str) -> str:
        return tools.strip(clean(text))

    @workflow
    async def flow(text: str) -> list[str]:
        return [await first(text), await KIT["shorten"](text), await tools.shout(text)]
"""
HELPERS = """
    MARK = "!"

    def clean(text: str) -> str:
        return text + MARK
"""
TOOLS = """
    from carrara import llm, step

    def strip(text):
        return text.strip()

    def unused(text):
        return text

    @step
    def shorten(text: str) -> str:
        return text[:3]

    @llm(system="Loud.")
    def shout(text: str) -> str:
        '''Shout: {{ text }}'''
"""


def hashes_of(folder: Path, **files: str) -> dict[str, str]:
    """The fingerprint of the step and the hash of the workflow of a project, found in a process of its own."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(dedent(text))
    code = (
        "import json\n"
        "from carrara.workflows.definition_hash import definition_hash\n"
        "from flow import first, flow\n"
        "print(json.dumps({'step': first.spec.fingerprint, 'flow': definition_hash(flow)}))"
    )
    root = str(Path(carrara.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(folder)])}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    hashes: dict[str, str] = json.loads(found.stdout)
    return hashes


PROJECT = {"flow": FLOW, "helpers": HELPERS, "tools": TOOLS}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return hashes_of(tmp_path_factory.mktemp("project") / "before", **PROJECT)


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("tools", "def unused(text)", "def unused(none)", set()),
        ("helpers", 'MARK = "!"', 'MARK = "?"', {"step", "flow"}),
        ("tools", "text.strip()", "text.lstrip()", {"step", "flow"}),
        ("tools", "text[:3]", "text[:4]", {"flow"}),
        ("tools", "Shout: {{ text }}", "Cry: {{ text }}", {"flow"}),
        ("tools", "Loud.", "Very loud.", {"flow"}),
    ],
    ids=["not used", "constant", "attribute", "in a dict", "prompt", "option"],
)
def test_the_other_files_of_a_project_count_where_they_are_used(
    tmp_path: Path, untouched: dict[str, str], name: str, old: str, new: str, changed: set[str]
) -> None:
    assert old in PROJECT[name]
    edited = {**PROJECT, name: PROJECT[name].replace(old, new)}
    after = hashes_of(tmp_path / "after", **edited)
    assert {part for part, found in after.items() if found != untouched[part]} == changed


def test_options_of_the_step_are_no_part_of_its_definition() -> None:
    def step(**_: object) -> Any:
        return lambda function: function

    def make_one() -> Any:
        @step(retries=1)
        def work(x: int) -> int:
            return x

        return work

    def make_two() -> Any:
        @step(retries=5, tags={"a"})
        def work(x: int) -> int:
            return x

        return work

    assert source_fingerprint(make_one()) == source_fingerprint(make_two())


def test_values_that_a_function_closes_over_count() -> None:
    def make(n: Any) -> Any:
        def work(x: int) -> Any:
            return x, n

        return work

    assert source_fingerprint(make(1)) == source_fingerprint(make(1))
    assert source_fingerprint(make(1)) != source_fingerprint(make(2))
    assert source_fingerprint(make(make(1))) != source_fingerprint(make(make(2)))


def test_functions_that_call_each_other_and_functions_without_source_have_fingerprints() -> None:
    def ping(n: int) -> int:
        return pong(n - 1) if n else 0

    def pong(n: int) -> int:
        return ping(n - 1) if n else 1

    assert len({source_fingerprint(ping), source_fingerprint(pong)}) == 2
    scope: dict[str, Any] = {}
    exec("def a(x): return x + 1\ndef b(x): return x + 2\ndef c(x): return x + 1", scope)
    a, b, c = (source_fingerprint(scope[name]) for name in "abc")
    assert a != b
    assert a == c
    assert source_fingerprint(lambda x: x) != source_fingerprint(lambda x: -x)
    assert len(source_fingerprint(len)) == 32


def test_the_docstring_can_be_left_out() -> None:
    def make(text: str) -> Any:
        scope: dict[str, Any] = {}
        exec(f'def work(x):\n    """{text}"""\n    return x', scope)
        return scope["work"]

    def one(x: int) -> int:
        """One."""
        return x

    assert source_fingerprint(one, docstring=False) != source_fingerprint(one)
    assert source_fingerprint(make("a")) != source_fingerprint(make("b"))


OBJECTS = """
    import functools
    import socket
    import threading
    from dataclasses import dataclass
    from helpers import Words, loud
    from carrara import step, workflow

    def twice(function):
        @functools.wraps(function)
        def around(text: str) -> str:
            return function(text) + "twice"
        return around

    class Counted:
        def __init__(self, function):
            functools.update_wrapper(self, function)
            self.function = function

        def __call__(self, text: str) -> str:
            return self.function(text) + "counted"

    @dataclass
    class Settings:
        mark: str = "settings"

        def marked(self, text):
            return text + "marked"

    class Parser:
        __slots__ = ("parts", "again")

        def __init__(self, *parts):
            self.parts = parts
            self.again = self

        def parse(self, text):
            return text + "parsed"

    class Client:
        def __init__(self):
            self.lock = threading.Lock()
            self.socket = socket.socket()
            self.rest = object()
            self.call = lambda: self

    class Caller:
        def __call__(self, text):
            return text + "called"

    SETTINGS, CLIENT, CALLER = Settings(), Client(), Caller()
    PARSER = Parser(Words("inner"), {"held": [Words("listed")]})

    @functools.lru_cache
    @Counted
    def helper(text: str) -> str:
        return text

    @step
    @loud
    @twice
    def first(text: str) -> str:
        CLIENT.rest
        return helper(PARSER.parse(SETTINGS.marked(CALLER(text))))

    @workflow
    async def flow(text: str) -> str:
        return await first(text)
"""
WORDS = """
    import functools

    def loud(function):
        @functools.wraps(function)
        def around(*given, **named):
            return function(*given, **named) + "loud"
        return around

    class Words:
        def __init__(self, word):
            self.word = word + "word"

        def joined(self):
            return "joined"
"""


def test_decorators_and_objects_of_the_project_count_the_same_in_every_process(
    tmp_path: Path,
) -> None:
    files = {"flow": OBJECTS, "helpers": WORDS}
    before = hashes_of(tmp_path / "before", **files)
    assert hashes_of(tmp_path / "same", **files) == before
    told = ["twice", "counted", "settings", "marked", "parsed", "called", "inner", "listed"]
    edits = [("flow", f'"{word}"') for word in told]
    edits += [("helpers", f'"{word}"') for word in ("loud", "word", "joined")]
    for number, (name, old) in enumerate(edits):
        assert files[name].count(old) == 1
        edited = {**files, name: files[name].replace(old, '"changed"')}
        after = hashes_of(tmp_path / str(number), **edited)
        assert {part for part in after if after[part] == before[part]} == set(), old


CLASSES = """
    import functools
    from dataclasses import dataclass, field
    from enum import Enum
    from typing import NamedTuple
    from helpers import *
    from carrara import step, workflow

    class Base:
        def begin(self, text):
            return inherited(text)

    class Parser(Base):
        tools = [listed]

        def __init__(self):
            self.mark = made()

        def parse(self, text):
            return in_method(text) + self.Inner().go(text)

        @property
        def name(self):
            return in_property("")

        @classmethod
        def of(cls, text):
            return in_class_method(text)

        @staticmethod
        def fixed(text):
            return in_static_method(text)

        @functools.cached_property
        def known(self):
            return cached("")

        @loud
        def shout(self, text):
            return text

        part = functools.partialmethod(partial, "x")

        class Inner:
            def go(self, text):
                return nested(text) + Other().go(text) + Parser.__name__

    class Other:
        def go(self, text):
            return reached(text)

    @dataclass
    class Settings:
        mark: str = field(default_factory=filled)

    class Kind(Enum):
        ONE = 1

        def told(self):
            return enumerated("")

    class Pair(NamedTuple):
        a: int = 1

        def told(self):
            return paired("")

    @step
    def first(text: str) -> str:
        return Parser().parse(text) + Settings().mark + Kind.ONE.told() + Pair().told()

    class Desk:
        async def ask(self, text):
            return await asked(text)

    @workflow
    async def flow(text: str) -> str:
        return await first(text) + await Desk().ask(text)
"""
USED = [
    "inherited", "listed", "made", "in_method", "in_property", "in_class_method", "in_static_method", "cached",
    "partial", "nested", "reached", "filled", "enumerated", "paired",
]  # fmt: skip
HELD = """
    import functools
    from carrara import step

    def loud(function):
        @functools.wraps(function)
        def around(*given):
            return function(*given) + "loud"
        return around

    @step
    def asked(text: str) -> str:
        return "asked"
"""


def test_what_the_methods_of_a_class_use_counts(tmp_path: Path) -> None:
    helpers = dedent(HELD) + "".join(
        f'\ndef {name}(*given):\n    return "{name}!"\n' for name in USED
    )
    files = {"flow": CLASSES, "helpers": helpers}
    before = hashes_of(tmp_path / "before", **files)
    assert hashes_of(tmp_path / "same", **files) == before
    edits = {f'"{name}!"': {"step", "flow"} for name in USED}
    edits |= {'+ "loud"': {"step", "flow"}, '"asked"': {"flow"}}
    for number, (old, changed) in enumerate(edits.items()):
        assert helpers.count(old) == 1
        edited = {**files, "helpers": helpers.replace(old, '+ "changed"')}
        after = hashes_of(tmp_path / str(number), **edited)
        assert {part for part in after if after[part] != before[part]} == changed, old


def test_classes_that_use_each_other_in_a_long_chain_have_a_fingerprint() -> None:
    def make(count: int, end: str) -> Any:
        scope: dict[str, Any] = {"__name__": "chained"}
        lines = [f"class C{n}:\n  def go(self):\n    return C{n + 1}().go()" for n in range(count)]
        lines.append(f"class C{count}:\n  def go(self):\n    return {end!r}")
        exec("\n".join([*lines, "def work():\n  return C0().go()"]), scope)
        return scope["work"]

    assert source_fingerprint(make(3_000, "a")) == source_fingerprint(make(3_000, "a"))
    assert source_fingerprint(make(3_000, "a")) != source_fingerprint(make(3_000, "b"))


def test_objects_that_hold_each_other_without_end_have_a_fingerprint() -> None:
    class Link:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    def make(count: int, end: str) -> Any:
        chain: Any = end
        for _ in range(count):
            chain = Link(chain)
        return lambda: chain

    assert source_fingerprint(make(5, "a")) != source_fingerprint(make(5, "b"))
    assert source_fingerprint(make(5_000, "a")) == source_fingerprint(make(6_000, "b"))


def test_an_object_as_large_as_a_gazetteer_is_looked_into_up_to_a_bound() -> None:
    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

    def make(count: int, first: str) -> Any:
        entries = [Entry(first), *(Entry("x") for _ in range(count))]
        return lambda: entries

    assert source_fingerprint(make(30_000, "a")) == source_fingerprint(make(30_000, "a"))
    assert source_fingerprint(make(30_000, "a")) != source_fingerprint(make(30_000, "b"))
