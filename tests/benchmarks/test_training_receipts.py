"""Receipts made by program: what is asked of them stands on them, and holds to its contract."""

from __future__ import annotations

import json
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.training_receipts import MOST_ITEMS, drawn, receipt_rows
from carrara.engines.contract import Json, from_data


@given(st.integers(0, 10_000))
def test_what_was_drawn_is_printed(seed: int) -> None:
    receipt = drawn(random.Random(seed))
    text = " ".join(" ".join(receipt.lines).split())
    assert receipt.lines[0] == receipt.company
    for printed in (receipt.date, receipt.address, receipt.number, receipt.total_printed):
        assert printed is None or printed in text
    assert 1 <= len(receipt.items) <= MOST_ITEMS
    for item in receipt.items:
        assert item.name in text
        assert f"{item.cents // 100:,}.{item.cents % 100:02}" in text


def test_rows_hold_to_their_contracts_and_are_the_same_for_a_seed() -> None:
    rows = list(receipt_rows(80, 3))
    assert rows == list(receipt_rows(80, 3))
    assert rows != list(receipt_rows(80, 4))
    for row in rows:
        contract = from_data(row["contract"])
        assert isinstance(contract, Json)
        assert contract.parse(json.dumps(row["response"])) == row["response"]
    kinds = Counter(row["task"] for row in rows)
    assert kinds == {"made_receipt": 40, "made_receipt_flat": 20, "made_receipt_fields": 20}


def test_items_of_a_row_add_up_to_its_total() -> None:
    for row in receipt_rows(80, 3):
        if row["task"] == "made_receipt":
            record = row["response"]
            assert round(100 * record["total"]) == sum(
                round(100 * item["price"]) for item in record["items"]
            )
