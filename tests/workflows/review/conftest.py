"""A review file as a job writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = "Corner Shop\nTOTAL 1,200.50\nthank you"
SCHEMA = {
    "type": "object",
    "properties": {"shop": {"type": "string"}, "total": {"type": ["number", "null"]}},
    "required": ["shop", "total"],
}


def line(key: str, **changed: Any) -> dict[str, Any]:
    return {
        "key": key,
        "where": f"in.jsonl:{key}",
        "doubtful": ["/answer/total"],
        "confidence": 0.8,
        "row": {"answer": {"shop": "Corner Shop", "total": 1200.5}},
        "fields": {
            "/answer/shop": {
                "confidence": 0.9, "engine": "ar", "repaired": [], "span": [0, 11], "found": "exact",
            },
            "/answer/total": {
                "confidence": 0.3, "engine": "ar", "repaired": [], "span": [18, 26], "found": "number",
            },
        },
        "inputs": {"text": TEXT},
        "text": "text",
        "gold_at": "/answer",
        "lesson": {
            "at": "/answer",
            "messages": [{"role": "user", "content": f"Read: {TEXT}"}],
            "contract": {"kind": "json", "schema": SCHEMA, "name": "Bill"},
        },
        **changed,
    }  # fmt: skip


@pytest.fixture
def review_file(tmp_path: Path) -> Callable[..., Path]:
    """`review_file("a", "b")`: a file with rows of these keys."""

    def write(*keys: str, **changed: Any) -> Path:
        path = tmp_path / "out.review.jsonl"
        path.write_text("".join(json.dumps(line(key, **changed)) + "\n" for key in keys))
        return path

    return write
