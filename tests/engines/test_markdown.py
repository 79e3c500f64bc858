"""Tables and outlines: what is read, what is refused and why, and that writing and reading are inverse."""

from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carrara.engines.contract import Column, Outline, Table
from carrara.engines.errors import CarraraError, ContractError
from carrara.engines.markdown import parse_outline, parse_table, render_outline, render_table

SHOP = Table((Column("item"), Column("amount", "number"), Column("bought", "boolean")))
NOISY = st.text(st.sampled_from("ab|\\`*_-+#>1.)[]:~=<br/>&! \n\té中|"), max_size=12)
CELL = st.one_of(NOISY, st.text(st.characters(exclude_categories=("Cs",)), max_size=12)).map(
    lambda s: s.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").strip() or None
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": CELL,
    "integer": st.none() | st.integers(),
    "number": st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.none() | st.booleans(),
    "date": st.none() | st.dates(),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, list[dict[str, Any]]]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))
    columns = tuple(Column(f"col {n}", kind) for n, kind in enumerate(kinds))  # type: ignore[arg-type]
    row = st.fixed_dictionaries({c.name: VALUES[c.kind] for c in columns})
    return Table(columns), draw(st.lists(row, max_size=4))


@st.composite
def outlines(draw: st.DrawFn, depth: int = 4) -> list[dict[str, Any]]:
    words = st.one_of(NOISY, st.text(st.characters(exclude_categories=("Cs",)), max_size=12)).map(
        lambda s: " ".join(s.replace("\0", "\ufffd").split()) or "x"
    )
    below = outlines(depth - 1) if depth > 1 else st.just([])
    item = st.fixed_dictionaries({"text": words, "items": st.just([]) | below})
    return draw(st.lists(item, min_size=1, max_size=3))


def refusal(contract: Table | Outline, text: str) -> ContractError | None:
    try:
        contract.parse(text)
    except ContractError as error:
        return error
    return None


@given(tables())
def test_a_written_table_reads_back_as_the_same_rows(
    table: tuple[Table, list[dict[str, Any]]],
) -> None:
    contract, rows = table
    assert parse_table(render_table(rows, contract), contract) == rows


@given(outlines())
@example([{"text": "--", "items": []}])
@example([{"text": "a", "items": [{"text": "--", "items": [{"text": "\\--", "items": []}]}]}])
def test_a_written_outline_reads_back_as_the_same_items(items: list[dict[str, Any]]) -> None:
    assert parse_outline(render_outline(items), Outline(max_depth=4)) == items


@given(st.text(max_size=60) | NOISY)
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    for contract in (SHOP, Outline()):
        error = refusal(contract, text)
        assert error is None or (str(error) and error.text == text)


@given(st.lists(NOISY, max_size=6).map("\n".join))
def test_what_is_read_from_any_lines_survives_writing(text: str) -> None:
    try:
        items = parse_outline(text, Outline())
    except ContractError:
        return
    assert parse_outline(render_outline(items), Outline()) == items


def test_cells_become_values_of_their_column() -> None:
    contract = Table(
        (
            Column("n", "integer"),
            Column("x", "number"),
            Column("ok", "boolean"),
            Column("day", "date"),
            Column("s"),
        )
    )
    text = (
        "|n|x|ok|day|s|\n|:-|-:|:-:|---|---|\n"
        "|7|1e3|TRUE|2024-02-29|a\\|b|\n|+1|-2|false||x<br/>y \\<br>|"
    )
    assert parse_table(text, contract) == [
        {"n": 7, "x": 1000.0, "ok": True, "day": date(2024, 2, 29), "s": "a|b"},
        {"n": 1, "x": -2, "ok": False, "day": None, "s": "x\ny <br>"},
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no table here", "no table in 'no table here'"),
        ("| item | amount |\n|---|---|\n", "missing ['bought']"),
        ("| item | price | bought |\n|---|---|---|\n", "not asked for ['price']"),
        ("| amount | item | bought |\n|---|---|---|\n", "columns are ['amount', 'item', 'bought']"),
        ("|item|amount|bought|\n|-|-|-|\n|a|1|", "row 1 has 2 cells, the table has 3 columns"),
        ("|item|amount|bought|\n|-|-|-|\n|a|1|true|b|", "row 1 has 4 cells"),
        ("|item|amount|bought|\n|-|-|-|\nThat was it.", "row 1 has 1 cells"),
        ("|item|amount|bought|\n|-|-|-|\n|a|ten|true|", "column 'amount': 'ten' is no number"),
        ("|item|amount|bought|\n|-|-|-|\n|a|1e999|true|", "'1e999' is no number"),
        ("|item|amount|bought|\n|-|-|-|\n|a|\u0661|true|", "is no number"),
        ("|item|amount|bought|\n|-|-|-|\n|a|1|yes|", "'yes' is no boolean"),
        ("Here:\n\n|item|amount|bought|\n|-|-|-|", "line 1: text beside the table"),
        ("|item|amount|bought|\n|-|-|-|\n\n# Done", "line 4: a heading beside the table"),
        ("|item|amount|bought|\n|-|-|-|\n\n|item|amount|bought|\n|-|-|-|", "2 tables"),
        ("[x]: y\n\n|item|amount|bought|\n|-|-|-|", "line 1: text beside the table"),
    ],
)
def test_a_crooked_table_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_table(text, SHOP)
    assert reason in str(caught.value)
    assert caught.value.text == text


def test_a_bad_cell_is_named_by_a_json_pointer() -> None:
    with pytest.raises(ContractError) as caught:
        parse_table("|item|amount|bought|\n|-|-|-|\n|a|1|true|\n|b|?|true|", SHOP)
    assert caught.value.path == "/1/amount"
    assert caught.value.value == "?"


def test_the_number_of_rows_is_checked() -> None:
    one = "|a|\n|-|\n|1|"
    with pytest.raises(ContractError, match="1 rows, asked for at least 2"):
        parse_table(one, Table((Column("a"),), min_rows=2))
    with pytest.raises(ContractError, match="1 rows, asked for at most 0"):
        parse_table(one, Table((Column("a"),), max_rows=0))


@pytest.mark.parametrize("fence", ["```\n{}\n```", "```markdown\n{}\n```\n", "~~~~ md\n{}\n~~~~"])
def test_a_fence_around_everything_is_taken_off(fence: str) -> None:
    assert parse_table(fence.format("|a|\n|-|\n|1|"), Table((Column("a"),))) == [{"a": "1"}]
    assert parse_outline(fence.format("- x"), Outline()) == [{"text": "x", "items": []}]


def test_two_fences_are_not_taken_for_one() -> None:
    with pytest.raises(ContractError, match="no bullet list"):
        parse_outline("```\n- a\n```\n\n```\n- b\n```", Outline())


def test_header_white_space_is_squeezed_and_windows_newlines_are_read() -> None:
    contract = Table((Column("unit  price", "integer"),))
    assert parse_table("| unit price |\r\n|---|\r\n| 3 |\r\n", contract) == [{"unit  price": 3}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Just words.", "no bullet list in 'Just words.'"),
        ("1. a\n2. b", "no bullet list"),
        ("- a\n* b", "2 bullet lists, one is asked for"),
        ("Intro\n\n- a", "line 1: text beside the bullet list"),
        ("- a\n\n  more", "line 3: a further paragraph in item /0"),
        ("- a\n  ```\n  x\n  ```", "line 2: a fence in item /0"),
        ("- a\n  1. b", "line 2: an ordered list in item /0"),
        ("- a\n-\n- b", "item /1 has no text"),
        ("- - a", "item /0 has no text"),
        ("- a\n  - b\n    - c\n      - d", "/0/items/0/items/0: nested deeper than 3 levels"),
    ],
)
def test_a_crooked_outline_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_outline(text, Outline())
    assert reason in str(caught.value)


def test_loose_lists_and_wrapped_lines_are_read() -> None:
    text = "* a\n  wrapped\n\n* b\n\n    + c\n"
    assert parse_outline(text, Outline()) == [
        {"text": "a wrapped", "items": []},
        {"text": "b", "items": [{"text": "c", "items": []}]},
    ]


def test_the_number_of_items_at_the_top_is_checked() -> None:
    with pytest.raises(ContractError, match="2 items, asked for at most 1"):
        parse_outline("- a\n- b", Outline(max_items=1))
    with pytest.raises(ContractError, match="1 items, asked for at least 2"):
        parse_outline("- a\n  - b", Outline(min_items=2))


def test_deep_nesting_is_refused_and_never_a_crash() -> None:
    deep = "\n".join("  " * n + f"- {n}" for n in range(2000))
    with pytest.raises(ContractError, match="nested deeper than 3"):
        parse_outline(deep, Outline())
    with pytest.raises(ContractError, match="nested too deep"):
        parse_outline(deep, Outline(max_depth=5000))


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(CarraraError, match="no such column: z"):
        render_table([{"item": "a", "z": 1}], SHOP)
    with pytest.raises(CarraraError, match="nan cannot be written"):
        render_table([{"amount": float("nan")}], SHOP)
    with pytest.raises(CarraraError, match="no text"):
        render_outline([{"text": " "}])


def test_the_canonical_text_is_what_a_person_would_write() -> None:
    rows = [{"item": "a|b", "amount": 2, "bought": True}, {"item": "two\nlines"}]
    assert render_table(rows, SHOP) == (
        "| item | amount | bought |\n| --- | --- | --- |\n"
        "| a\\|b | 2 | true |\n| two<br>lines |  |  |"
    )
    items = [{"text": "**Dough**", "items": [{"text": "2. rest", "items": []}]}, {"text": "- x"}]
    assert render_outline(items) == "- **Dough**\n  - 2\\. rest\n- \\- x"
