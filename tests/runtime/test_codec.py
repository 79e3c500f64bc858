"""Values go to JSON text and come back equal and of the same types, or are refused by name."""

import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import math
import uuid
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, RootModel, SecretStr

from carrara.engines.contract import Choice, Column, Table
from carrara.runtime.codec import CodecError, decode, encode, json_writer

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Item:
    name: str
    parts: list["Item"] = dataclasses.field(default_factory=list)
    seen: dt.date | None = None

    @cached_property
    def size(self) -> int:
        return 1 + sum(part.size for part in self.parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


class Recipe(BaseModel):
    title: str
    minutes: int | None = None
    colour: Colour = Colour.RED
    items: tuple[Item, ...] = ()
    url: HttpUrl | None = None
    _note: str = PrivateAttr("")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    hidden: set[int] = Field(default_factory=set, exclude=True)


class Names(RootModel[list[str]]):
    pass


class Page(BaseModel, Generic[T]):
    rows: list[T]


def exact(left: Any, right: Any) -> bool:
    """Equal, of the same types all the way down, NaN equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            exact(a, b) and exact(left[a], right[b]) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, list | tuple | collections.deque):
        return len(left) == len(right) and all(map(exact, left, right))
    if isinstance(left, set | frozenset):
        return left == right and {(type(x), x) for x in left} == {(type(x), x) for x in right}
    if dataclasses.is_dataclass(left):
        names = [each.name for each in dataclasses.fields(left)]
        return all(exact(getattr(left, name), getattr(right, name)) for name in names)
    return bool(left == right)


def test_nan_is_itself_in_a_class_with_slots() -> None:
    assert exact(decode(encode(Frozen(math.nan))), Frozen(math.nan))
    assert not exact(Frozen(1), Frozen(1.0))


natives = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$a", "$tuple"]), inner)
    ),
    max_leaves=12,
)
zones = st.sampled_from(
    [None, dt.UTC, ZoneInfo("Europe/Paris"), dt.timezone(dt.timedelta(hours=-3), "X")]
)
keys = (
    st.integers()
    | st.text()
    | st.binary()
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.timedeltas()
    | st.times(timezones=zones)
    | st.datetimes(timezones=zones)
    | st.sampled_from(
        [*Colour, *Size, Rights.READ | Rights.WRITE, Path("a/b"), PurePosixPath("/c")]
    )
)
values = st.recursive(
    natives
    | keys
    | st.complex_numbers(allow_nan=False)
    | st.builds(bytearray, st.binary())
    | st.just(range(3, 9, 2)),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.sets(keys)
        | st.frozensets(keys)
        | st.dictionaries(keys, inner)
        | st.dictionaries(keys, st.integers()).map(collections.Counter)
        | st.dictionaries(st.text(), inner).map(collections.OrderedDict)
        | st.builds(Point, st.integers(), inner)
        | st.builds(Frozen, inner)
        | st.builds(Item, st.text(), st.just([Item("x")]), st.dates())
        | st.builds(Recipe, title=st.text(), colour=st.sampled_from(Colour))
    ),
    max_leaves=10,
)


@given(natives)
def test_natives_come_back_exactly(value: Any) -> None:
    text = encode(value)
    text.encode()
    assert exact(decode(text), value)


@settings(max_examples=300)
@given(values)
def test_values_come_back_equal_and_of_their_types(value: Any) -> None:
    assert exact(decode(encode(value)), value)


@given(values)
def test_what_came_back_has_the_same_text_again(value: Any) -> None:
    text = encode(value)
    assert encode(decode(text)) == text


@given(values)
def test_the_text_is_standard_json(value: Any) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(encode(value), parse_constant=refuse)


def test_text_of_other_alphabets_is_stored_as_it_is_and_lone_surrogates_survive() -> None:
    assert encode("żółw 🐢") == '"żółw 🐢"'
    assert encode(["\ud800 half"]).isascii()
    assert decode(encode({"\ud800": "\udfff"})) == {"\ud800": "\udfff"}


def test_a_model_comes_back_with_what_was_set_hidden_or_private() -> None:
    recipe = Recipe(
        title="Bread", url="https://example.org/a", items=(Item("flour", [Item("rye")]),)
    )
    recipe._note = "n"
    back = decode(encode(recipe))
    assert back == recipe
    assert back._note == "n"
    assert back.model_fields_set == {"title", "url", "items"}
    opened = Open(hidden={1, 2}, more=[Colour.BLUE, (1, 2)])
    assert decode(encode(opened)) == opened
    assert decode(encode(opened)).more == [Colour.BLUE, (1, 2)]
    assert decode(encode(Names(["a"]))) == Names(["a"])


def test_validators_and_defaults_do_not_run_again_on_the_way_back() -> None:
    odd = Recipe.model_construct(title=5, minutes="soon")
    back = decode(encode(odd))
    assert back.__dict__ == odd.__dict__


def test_a_cached_property_is_computed_again_and_other_attributes_stay() -> None:
    item = Item("a", [Item("b")])
    assert item.size == 2
    item.note = "kept"  # type: ignore[attr-defined]
    back = decode(encode(item))
    assert "size" not in vars(back)
    assert back.note == "kept"


def test_generic_and_local_classes_are_found_through_the_annotation() -> None:
    class Local(BaseModel):
        n: int

    page = Page[Local](rows=[Local(n=1)])
    with pytest.raises(CodecError, match="name it in the step's return annotation"):
        encode(page)
    returns = dict[str, Page[Local]]
    assert decode(encode({"p": page}, returns), returns) == {"p": page}
    with pytest.raises(CodecError, match="is not loaded here"):
        decode(encode({"p": page}, returns))


def test_classes_that_pydantic_knows_come_back_if_they_come_back_equal() -> None:
    for value in (ipaddress.ip_address("10.0.0.1"), HttpUrl("https://example.org/")):
        back = decode(encode([value]))
        assert back == [value]
        assert type(back[0]) is type(value)


def test_contracts_of_the_engines_come_back() -> None:
    for contract in (Choice(("a", "b")), Table((Column("x", "integer"),), max_rows=3)):
        assert decode(encode(contract)) == contract


class Plain:
    def __eq__(self, other: object) -> bool:
        return True


class Shout(str):
    pass


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (
            {"items": [1, 2, 3, {"when": (x for x in ())}]},
            ".items[3].when",
            "a generator cannot be",
        ),
        ([map(str, [])], "[0]", "a map cannot be journaled; return a list"),
        ({"a b": {1: print}}, "['a b'][1]", "a function cannot be journaled"),
        ((1, {2, 3}, Plain()), "[2]", "make it a dataclass or a pydantic model"),
        (Item("x", [Item("y", Plain())]), ".parts[0].parts", "an object of class Plain"),
        (Recipe.model_construct(title=Plain()), ".title", "an object of class Plain"),
        ([Shout("hey")], "[0]", r"Shout is a kind of str that would come back as str; return str"),
        (collections.defaultdict(list), "", "return dict"),
        ([SecretStr("key")], "[0]", "SecretStr cannot be journaled"),
        ([ValueError("no")], "[0]", "an exception (ValueError) cannot be journaled"),
        ([int], "[0]", "a class cannot be journaled"),
        pytest.param(10**5000, "", "4300 digits", id="an integer of 5,001 digits"),
        (
            dt.datetime(2026, 1, 1, tzinfo=type("Z", (dt.tzinfo,), {})()),
            "",
            "use zoneinfo.ZoneInfo",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(
    value: Any, path: str, reason: str
) -> None:
    with pytest.raises(CodecError) as raised:
        encode(value)
    assert raised.value.path == path
    assert reason in str(raised.value)


def test_a_secret_never_reaches_the_message_of_its_refusal() -> None:
    with pytest.raises(CodecError) as raised:
        encode({"key": SecretStr("hunter2")})
    assert "hunter2" not in str(raised.value)


def test_numbers_of_numpy_are_refused_with_what_to_write() -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.float64(1.5), numpy.arange(3)):
        with pytest.raises(CodecError, match=r"return \.tolist\(\) or \.item\(\)"):
            encode([value])


def test_a_value_that_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (ring, deep, (ring,)):
        with pytest.raises(CodecError, match="contains itself, or is nested too deeply"):
            encode(value)
    while deep:
        deep = deep.pop()  # taken apart by hand: freeing it whole would be recursive, too


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("NaN", "not JSON"),
        ('{"$new": 1}', "written by a newer Carrara"),
        ('{"$date": "soon"}', r"stored \$date cannot be read"),
        ('{"$data": ["os:Nothing", []]}', "is not loaded here"),
        ('{"$data": ["json:JSONDecoder", []]}', "is no dataclass any more"),
        ('{"$enum": ["HERE:Colour", "GREEN"]}', "has no member 'GREEN' any more"),
        (
            '{"$data": ["HERE:Frozen", []]}',
            "has fields now that the stored value lacks: value",
        ),
        ('{"$model": ["HERE:Names", {"fields": []}]}', "lacks: root"),
        ('{"$named": ["HERE:Point", {"x": 1}]}', "other fields"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        decode(text.replace("HERE", __name__))


def test_reading_never_imports_a_module() -> None:
    import sys

    assert "antigravity" not in sys.modules
    with pytest.raises(CodecError, match="is not loaded here"):
        decode('{"$data": ["antigravity:Thing", []]}')
    assert "antigravity" not in sys.modules


def test_uuid_and_decimal_keep_every_digit() -> None:
    value = {"id": uuid.UUID(int=7), "price": Decimal("1.2300"), "half": Fraction(1, 2)}
    back = decode(encode(value))
    assert back == value
    assert str(back["price"]) == "1.2300"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
)
_ENCODERS = (
    json.JSONEncoder(ensure_ascii=False),
    json.JSONEncoder(sort_keys=True),
    json.JSONEncoder(separators=(",", ":"), check_circular=False),
)


@given(_JSON, st.sampled_from(_ENCODERS))
def test_a_json_writer_writes_what_its_encoder_does(value: Any, encoder: json.JSONEncoder) -> None:
    assert json_writer(encoder)(value) == encoder.encode(value)


def test_a_json_writer_refuses_what_its_encoder_does() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_writer(json.JSONEncoder())({"a": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_writer(json.JSONEncoder(allow_nan=False))([math.nan])
