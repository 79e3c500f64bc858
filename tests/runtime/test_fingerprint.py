"""What counts as the definition of a step: each edit of a project is noticed, nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType
from typing import NoReturn

import pytest

import carrara
from carrara.runtime.fingerprint import source_fingerprint

BEGIN = """
import collections, enum, functools, operator, re, string, types
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Annotated, Literal, NamedTuple, Optional, TypedDict
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr
from pydantic import field_validator, model_validator
from carrara import llm, step, workflow
"""
READ = '''
@llm
def s(text: str) -> R:
    """Read {{ text }}"""
'''
MADE = """
@step
def s(text: str) -> R:
    return make(text)
def make(text): return text
"""
CHECK = "def check(v): return v + OLD\n"


def body(expression: str) -> str:
    return f"@step\ndef s(text: str) -> object:\n    return {expression}\n"


EDITS: dict[str, str | tuple[str, str]] = {
    # the types of an LLM step
    "a model's validator": """
class R(BaseModel):
    x: int
    @model_validator(mode="after")
    def right(self):
        if self.x == OLD: raise ValueError
        return self
"""
    + READ,
    "a field's validator": """
class R(BaseModel):
    x: str
    @field_validator("x")
    @classmethod
    def clean(cls, v): return v + OLD
"""
    + READ,
    "a function in Annotated": CHECK
    + """
class R(BaseModel):
    x: Annotated[str, AfterValidator(check)]
"""
    + READ,
    "the answer itself is Annotated": CHECK + "R = Annotated[str, AfterValidator(check)]" + READ,
    "a lambda in Annotated": "R = Annotated[str, AfterValidator(lambda v: v + OLD)]" + READ,
    "Annotated behind Field": CHECK
    + "class R(BaseModel):\n    x: list[Annotated[str, Field(min_length=1), BeforeValidator(check)]]"
    + READ,
    "the class of an item": CHECK
    + """
class Item(BaseModel):
    x: str
    @field_validator("x")
    @classmethod
    def clean(cls, v): return check(v)
class R(BaseModel):
    items: dict[str, list[Item]] | None
"""
    + READ,
    "an item that is named by a text": """
class R(BaseModel):
    items: "list[Item]"
    others: list["Item"] = []
class Item(BaseModel):
    x: str
    @field_validator("x")
    @classmethod
    def clean(cls, v): return v + OLD
"""
    + READ,
    "a base class": """
class Base(BaseModel):
    @model_validator(mode="after")
    def right(self): return OLD
class R(Base):
    x: str
"""
    + READ,
    "a dataclass": """
@dataclass
class R:
    x: str
    y: int = 1
    def __post_init__(self): self.x += OLD
"""
    + READ,
    "a factory of a default": """
def made(): return OLD
class R(BaseModel):
    x: str = Field(default_factory=made)
"""
    + READ,
    "the class of an input": """
class In(BaseModel):
    x: str
    @property
    def shown(self): return self.x + OLD
@llm
def s(text: In) -> str:
    '''Read {{ text.shown }}'''
""",
    "a generic model": """
from typing import Generic, TypeVar
T = TypeVar("T")
class Item(BaseModel):
    x: str
    @model_validator(mode="after")
    def right(self): return OLD
class Box(BaseModel, Generic[T]):
    x: T
R = Box[Item]
"""
    + READ,
    "a function of a library in Annotated": """
import textwrap
class R(BaseModel):
    x: Annotated[str, AfterValidator([textwrap.dedent, textwrap.shorten][OLD])]
"""
    + READ,
    "a setting of a model": """
class R(BaseModel):
    model_config = {"str_max_length": 100, "str_to_upper": bool(OLD)}
    x: str
"""
    + READ,
    "what a mark makes of a text": """
from pydantic import StringConstraints
class R(BaseModel):
    x: Annotated[str, StringConstraints(to_upper=bool(OLD))]
"""
    + READ,
    "a strict field": "class R(BaseModel):\n    x: int = Field(strict=bool(OLD))" + READ,
    "a default": "class R(BaseModel):\n    x: int = OLD" + READ,
    "a field of a dataclass": "@dataclass\nclass R:\n    x: int = OLD" + READ,
    # the annotations of a step in Python
    "a step's answer": """
class Item(BaseModel):
    x: str
    @field_validator("x")
    @classmethod
    def clean(cls, v): return v + OLD
class R(BaseModel):
    items: list[Item]
"""
    + MADE,
    "an annotation that is a text": (
        """
@step
def s(text: "list[R]") -> object:
    return text
class R:
    def go(self): return OLD
""",
        "",
    ),
    "the class of a helper's argument": """
class R:
    def go(self): return OLD
def helper(r: R): return r.go()
"""
    + body("helper(text)"),
    "a TypedDict": """
def check(v): return OLD
class R(TypedDict):
    x: Annotated[str, AfterValidator(check)]
"""
    + MADE,
    # objects in lists, tuples, dicts, sets
    "a dataclass in a list": """
@dataclass
class Rule:
    name: str
    def apply(self): return OLD
RULES = [Rule("case")]
"""
    + body("RULES"),
    "a frozen dataclass in a set": """
@dataclass(frozen=True)
class Rule:
    name: str
    def apply(self): return OLD
RULES = {Rule("a"), Rule("b")}
"""
    + body("RULES"),
    "the data of objects in a set": """
@dataclass(frozen=True)
class Rule:
    name: str
RULES = frozenset([Rule("a"), Rule(OLD)])
"""
    + body("RULES"),
    "a model in a tuple in a dict": """
class Rule(BaseModel):
    name: str
    def apply(self): return OLD
RULES = {"a": (1, [Rule(name="x")])}
"""
    + body("RULES"),
    "a member of an enum": """
class Kind(Enum):
    A = "a"
    def go(self): return OLD
KINDS = [Kind.A]
"""
    + body("KINDS"),
    "an object as a key": """
class Kind(Enum):
    A = "a"
    def go(self): return OLD
KINDS = {Kind.A: 1}
"""
    + body("KINDS"),
    "the object alone": """
@dataclass
class Rule:
    name: str = "x"
    def apply(self): return OLD
RULE = Rule()
"""
    + body("RULE"),
    "a named tuple": """
class Rule(NamedTuple):
    name: str
    def apply(self): return OLD
RULES = [Rule("x")]
"""
    + body("RULES"),
    "functions in a set": """
def a(text): return OLD
def b(text): return 1
ALL = {a, b}
"""
    + body("ALL"),
    "functions of one name in a set": """
def make(n):
    def inner(text): return n
    return inner
ALL = {make(1), make(OLD), make(3)}
"""
    + body("ALL"),
    "an object in a deque": """
@dataclass
class Rule:
    name: str
    def apply(self): return OLD
RULES = collections.deque([Rule("x")])
"""
    + body("RULES"),
    "singledispatch": """
@functools.singledispatch
def show(v): return "x"
@show.register
def _(v: int): return OLD
"""
    + body("show(text)"),
    "a method by type": """
class Show:
    @functools.singledispatchmethod
    def show(self, v): return "x"
    @show.register
    def _(self, v: int): return OLD
"""
    + body("Show().show(text)"),
    "a class method by another name": """
class C:
    mark = OLD
    @classmethod
    def go(cls, text): return cls.mark
go = C.go
"""
    + body("go(text)"),
    "a bound method": """
class C:
    def __init__(self): self.mark = OLD
    def go(self, text): return self.mark
go = C().go
"""
    + body("go(text)"),
    "a method of a dict": "go = {'a': OLD}.get\n" + body("go(text)"),
    "a method of a text": "go = (' ' + str(OLD)).join\n" + body("go(text)"),
    "namedtuple": "P = collections.namedtuple('P', ['a', str(OLD)], rename=True, defaults=[OLD])\n"
    + body("P(text)"),
    "a class without source": "C = type('C', (), {'mark': OLD, 'go': lambda self: self.mark})\n"
    + body("C()"),
    "a method of a class without source": "C = type('C', (), {'go': lambda self: OLD})\n"
    + body("C()"),
    "an enum without source": "E = Enum('E', {'A': OLD})\n" + body("E"),
    "a model without source": """
from pydantic import create_model
def check(v): return OLD
M = create_model("M", x=(Annotated[str, AfterValidator(check)], ...))
"""
    + body("M"),
    # which of several
    "another function of those that are known": """
def plain(text): return text
def loud(text): return text.upper()
style = [plain, loud][OLD]
"""
    + body("style(text) + plain(loud(text))"),
    "another order in a list": """
def f(text): return text
def g(text): return text
ALL = [f, g, [f, g][OLD]]
"""
    + body("ALL"),
    "another object of those that are known": """
@dataclass
class Rule:
    name: str
A, B = Rule("a"), Rule("b")
USED = [A, B][OLD]
"""
    + body("(USED, A, B)"),
    "another class of those that are known": """
class A: pass
class B: pass
USED = [A, B][OLD]
"""
    + body("(USED, A, B)"),
    # constants
    "a dict of the project": "class Config(dict): pass\nC = Config(mark=OLD)\n" + body("C['mark']"),
    "a list of the project": "class Config(list): pass\nC = Config([OLD])\n" + body("C"),
    "a text of the project": "class Mark(str): pass\nC = Mark(OLD)\n" + body("C"),
    "a number of the project": "class Mark(int): pass\nC = Mark(OLD)\n" + body("C"),
    "SimpleNamespace": "C = SimpleNamespace(a=SimpleNamespace(mark=OLD))\n" + body("C.a"),
    "string.Template": "C = string.Template(f'$x{OLD}')\n" + body("C"),
    "a Template of the project": """
class T(string.Template): delimiter = "%"
C = T(f"%x{OLD}")
"""
    + body("C"),
    "MappingProxyType": "C = MappingProxyType({'a': OLD})\n" + body("C"),
    "jinja2.Template": "import jinja2\nC = jinja2.Template(f'{{{{ x }}}} {OLD}')\n" + body("C"),
    "a block of jinja2.Template": "import jinja2\n"
    "C = jinja2.Template('{% block a %}' + str(OLD) + '{% endblock %}')\n" + body("C"),
    "itemgetter": "C = operator.itemgetter('a', OLD)\n" + body("C"),
    "attrgetter": "C = operator.attrgetter(f'a{OLD}')\n" + body("C"),
    "methodcaller": "C = operator.methodcaller('a', 1, b=OLD)\n" + body("C"),
    "partial": "def f(*a, **b): return a\nC = functools.partial(f, 1, b=OLD)\n" + body("C"),
    "partial of partial": "def f(*a): return OLD\nC = functools.partial(functools.partial(f, 1), 2)\n"
    + body("C"),
    "partial of a library": "C = functools.partial(sorted, reverse=OLD)\n" + body("C"),
    "defaultdict": "def f(): return OLD\nC = collections.defaultdict(f)\n" + body("C"),
    "Counter": "C = collections.Counter(a=OLD)\n" + body("C"),
    "ChainMap": "C = collections.ChainMap({'a': OLD})\n" + body("C"),
    "UserDict": "C = collections.UserDict(a=OLD)\n" + body("C"),
    "a pattern": "C = re.compile(f'a{OLD}', re.I)\n" + body("C"),
    "the flags of a pattern": "C = re.compile('a', [re.I, re.S][OLD])\n" + body("C"),
    "slice": "C = slice(OLD)\n" + body("C"),
    "an address": "import ipaddress\nC = ipaddress.ip_address(f'10.0.0.{OLD}')\n" + body("C"),
    "an object in a list of constants": """
class Rule:
    def __init__(self): self.mark = OLD
C = [1, "a", Rule()]
"""
    + body("C"),
    "a slot with a private name": """
class Rule:
    __slots__ = ("__mark",)
    def __init__(self): self.__mark = OLD
C = Rule()
"""
    + body("C"),
    "an attribute of a function": "def f(): return f.mark\nf.mark = OLD\n" + body("f()"),
    "an LLM step in a step": """
@llm(system=f"Be {OLD}")
def ask(text: str) -> str:
    '''Ask {{ text }}'''
@step
async def s(text: str) -> str:
    return await ask(text)
""",
    "a function written in C": "C = [str.upper, str.lower][OLD]\n" + body("C(text)"),
    "a property in a dict": "C = {'a': property(lambda self: OLD)}\n" + body("C"),
    "a protocol": """
from typing import Protocol
class P(Protocol):
    mark: int = OLD
    def go(self) -> str: ...
"""
    + body("P"),
    "a metaclass": """
class Meta(type):
    def go(cls): return OLD
class C(metaclass=Meta): pass
"""
    + body("C.go()"),
    "a slotted dataclass of pydantic": """
from pydantic.dataclasses import dataclass
def check(v): return OLD
@dataclass
class C:
    x: Annotated[str, AfterValidator(check)] = "x"
C = [C()]
"""
    + body("C"),
    "a value that is kept from view": """
def made(): return OLD
class R(BaseModel):
    x: str
    _y: str = PrivateAttr(default_factory=made)
"""
    + READ,
    "a type by another name": """
from typing import NewType
class Item:
    mark = OLD
R = NewType("R", Item)
"""
    + MADE,
    # parts without an order
    "a lambda with a set": "f = lambda w: w in {'kg', 'g', 'l', 'ml', 'pcs'} or OLD\n"
    + body("f(text)"),
    "a lambda with sets in tuples": "f = lambda w: w in {('kg', 'g'), ('l',), (b'x',)} or OLD\n"
    + body("f(text)"),
    "lambdas with sets in a dict": "C = {'a': lambda w: w in {'kg', 'g', 'l', 'ml'} or OLD}\n"
    + body("C"),
    "a set in a class": "class C:\n    s = {'a', 'b', 'c', 'dd', OLD}\n" + body("C.s"),
    "a set in an object": """
class C:
    def __init__(self): self.s = {"a", "b", "c", "dd", OLD}
C = C()
"""
    + body("C.s"),
    "sets in sets": "C = {frozenset({'a', 'b', OLD}), frozenset({'c', 'd'})}\n" + body("C"),
    "sets as keys": "C = {frozenset({'kg', 'g', 'l'}): OLD}\n" + body("C"),
    "sets as keys of functions": "C = {frozenset({'kg', 'g', 'oz'}): lambda t: OLD}\n" + body("C"),
    "a default that is a set": "def f(t, s=frozenset({'a', 'b', 'cc', OLD})): return s\n"
    + body("f(text)"),
    "members in a set": """
class E(Enum):
    A = "a"
    B = "b"
    C = OLD
ALL = {E.A, E.B, E.C}
"""
    + body("ALL"),
    "tuples of functions in a set": """
def make(n):
    def inner(text): return n
    return inner
ALL = {("a", make(1)), ("b", make(2)), (OLD, make("c")), ("d", str)}
"""
    + body("ALL"),
    "objects alike in a set, and one of them alone": """
class Rule:
    def __init__(self, name): self.name = name
A, B, C, D = Rule("x"), Rule("x"), Rule("x"), Rule(OLD)
ALL = {A, B, C, D}
"""
    + body("(ALL, B)"),
    "objects that hold the set in which they are": """
class Rule:
    def __init__(self, name): self.name = name; self.all = ALL; ALL.add(self)
ALL = set()
for each in ("x", "y", "z", OLD): Rule(each)
"""
    + body("ALL"),
    "sets in a model": """
class R(BaseModel):
    a: set[str] = {"a", "b", "c", "OLD"}
    b: Literal["x", "y", "z"] = "x"
C = [R(), R(a={"d", "e"}, b="y")]
"""
    + body("C"),
    "the names in a template": """
import jinja2
C = jinja2.Template("{% set q = a|upper|lower|title %}{{ b|trim ~ c|e ~ d }}{{ q is none }}OLD")
"""
    + body("C"),
    "a list that holds itself": "C = [OLD]\nC.append(C)\n" + body("C"),
    "a dict and an object that hold each other": """
class Rule: pass
C = {"rule": Rule(), "mark": OLD}
C["rule"].all = C
"""
    + body("C"),
}


def fingerprints(folder: Path, sources: Iterable[str], seed: str = "0") -> list[str]:
    """Those of the step `s` of each module, in a process of its own."""
    folder.mkdir()
    count = 0
    for count, source in enumerate(sources, start=1):
        (folder / f"m{count}.py").write_text(source)
    code = (
        "import importlib, json\n"
        f"modules = [importlib.import_module(f'm{{n}}') for n in range(1, {count + 1})]\n"
        "print(json.dumps([module.s.spec.fingerprint for module in modules]))"
    )
    root = str(Path(carrara.__file__).parents[1])
    path = os.pathsep.join([root, str(folder)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    listed: list[str] = json.loads(found.stdout)
    return listed


def module(source: str, old: str) -> str:
    return f"{BEGIN}{dedent(source)}".replace("OLD", old)


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The fingerprints of each module as it was, in another process with other hashes, with its lines moved and
    commented, and edited."""
    folder = tmp_path_factory.mktemp("fingerprints")
    sources = [source if isinstance(source, str) else "".join(source) for source in EDITS.values()]
    old = [module(source, "1") for source in sources]
    moved = ["# moved\n\n" + text.replace("\n@step", "\n\n# a step\n@step") for text in old]
    kinds = [
        fingerprints(folder / "old", old),
        fingerprints(folder / "again", old, "7"),
        fingerprints(folder / "moved", moved, "8"),
        fingerprints(folder / "new", (module(source, "0") for source in sources), "7"),
    ]
    return dict(zip(EDITS, map(list, zip(*kinds, strict=True)), strict=True))


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_noticed_and_nothing_else(
    before_and_after: dict[str, list[str]], name: str
) -> None:
    old, again, moved, new = before_and_after[name]
    assert len(old) == 32
    assert again == old
    assert moved == old
    assert new != old


def test_the_options_of_a_step_count_under_no_name(tmp_path: Path) -> None:
    lines = "def s(text: str) -> object: return text\n"
    sources = [
        "from carrara import step as task\n@task(retries=OLD)\n" + lines,
        "import carrara as c\n@c.step(retries=OLD)\n" + lines,
        "import carrara.workflows.define\n@carrara.workflows.define.step(retries=OLD)\n" + lines,
        "task = functools.partial(step, retries=OLD)\n@task\n" + lines,
        "task = step(retries=OLD)\n@task\n" + lines,
        "task = types.SimpleNamespace(step=step)\n@task.step(retries=OLD)\n" + lines,
        "def made():\n    from carrara import step\n    @step(retries=OLD)\n"
        + "".join(f"    {line}" for line in (lines, "return s\n"))
        + "s = made()\n",
    ]
    before, after = (
        fingerprints(tmp_path / f"of {old}", (module(source, old) for source in sources))
        for old in ("1", "2")
    )
    assert before == after
    assert len(set(before[:6])) == 1


def test_a_decorator_that_is_only_called_step_counts(tmp_path: Path) -> None:
    own = "def step(n):\n    def mark(function):\n        TABLE[function.__name__] = n\n        return function\n"
    source = f"define, TABLE = step, {{}}\n{own}    return mark\n@define\n@step(OLD)\n"
    source += "def s(text: str) -> object: return text\n"
    before, after = fingerprints(tmp_path / "m", [module(source, old) for old in ("1", "2")])
    assert before != after


def test_a_module_that_gives_any_name_has_steps(tmp_path: Path) -> None:
    source = "def __getattr__(name): return 7\n" + body("text + text")
    assert len(fingerprints(tmp_path / "m", [module(source, "1")])[0]) == 32


def test_code_of_a_value_does_not_run() -> None:
    class Loud:
        def __init__(self) -> None:
            self.told: list[str] = []

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __hash__(self) -> int:
            return 1

        def __repr__(self) -> str:
            raise AssertionError

        def __iter__(self) -> Iterator[object]:
            raise AssertionError

        @property
        def shown(self) -> object:
            raise AssertionError

    class Words(dict[str, object]):
        def items(self) -> NoReturn:
            raise AssertionError

        __iter__ = items

    found = [Loud(), {"a": Loud()}, Words(a=Loud()), MappingProxyType(Words(a=1)), {Loud()}]
    assert len(source_fingerprint(lambda: found)) == 32


LIBRARY = """
def plain(function):
    def around(*given):
        return function(*given)
    return around
class Client:
    def __init__(self, *given): self.given = given
"""


def test_a_decorator_of_a_library_lets_the_function_through(tmp_path: Path) -> None:
    libraries = tmp_path / "site-packages"
    libraries.mkdir()
    (libraries / "lent.py").write_text(LIBRARY)
    begin = f"import sys\nsys.path.insert(0, {str(libraries)!r})\nfrom lent import Client, plain\n"
    sources = [
        "@plain\ndef f(text): return OLD\n" + body("f(text)"),
        "@step\n@plain\ndef s(text: str) -> object: return OLD\n",
        "@step\n@plain\ndef s(text: str) -> object: return f()\ndef f(): return OLD\n",
    ]
    unseen = "C = Client(OLD)\n" + body("C")
    edits = [
        [begin + module(source, old) for source in (*sources, unseen)] for old in ("'a'", "'b'")
    ]
    before, after = (
        fingerprints(tmp_path / name, texts)
        for name, texts in zip(("before", "after"), edits, strict=True)
    )
    same = [old == new for old, new in zip(before, after, strict=True)]
    assert same == [False, False, False, True]
