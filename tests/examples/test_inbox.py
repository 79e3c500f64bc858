"""The inbox: every message goes from its domain to a reply, and the marks compare it with the gold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Request

TARGET = "inbox/inbox.py:inbox"


def gold_answers(messages: list[dict[str, Any]]) -> Any:
    def reply(request: Request) -> str:
        asked = request.messages[-1].content
        gold = next(row["gold"] for row in messages if row["text"] in asked)
        if request.output.kind == "text":
            return "We are on it."
        if request.output.kind == "json":
            return json.dumps(gold["slots"] or {})
        options = request.output.options
        return next(word for word in (gold["domain"], gold["intent"]) if word in options)

    return reply


def test_engines_that_know_the_messages_get_full_marks(
    examples: Path, known: Any, replayed: Any, rows: Any
) -> None:
    messages = rows(examples / "inbox/messages.jsonl")
    out = replayed(TARGET, known(TARGET, gold_answers(messages)))
    score = json.loads((out / "score.json").read_text())
    assert score == {
        "messages": 30,
        "domain_accuracy": 1.0,
        "intent_accuracy": 1.0,
        "chain_accuracy": 1.0,
        "slot_f1": 1.0,
    }
    found = rows(out / "messages.jsonl")
    assert [row["id"] for row in found] == [row["id"] for row in messages]
    assert {row["reply"] for row in found} == {"We are on it."}


@pytest.mark.weights
def test_the_embedded_engines_work_through_some_messages(
    examples: Path, run_embedded: Any, rows: Any, tmp_path: Path
) -> None:
    some = rows(examples / "inbox/messages.jsonl")[::8]
    path = tmp_path / "messages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    value, report = run_embedded(TARGET, messages=str(path))
    known = json.loads((examples / "inbox/intents.json").read_text())["intents"]
    assert [triage.id for triage in value["messages"]] == [row["id"] for row in some]
    for triage in value["messages"]:
        assert triage.intent in known[triage.domain]
        assert triage.reply
    assert value["score"]["messages"] == len(some)
    assert report.total("failed") == 0
