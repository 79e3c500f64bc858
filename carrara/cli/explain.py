"""`carrara explain`: why each call of a run went where it went."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from carrara.cli.options import JOURNAL, JournalOption
from carrara.cli.outcome import give, usage


def explain(
    run: Annotated[str, typer.Argument(help="A run's id, its beginning, or `last`.")] = "last",
    step: Annotated[
        str,
        typer.Argument(
            help="A step's name or path, or one call such as extract[3]: of a job, that of the record with this number "
            "or key. record[3]: all calls of one record."
        ),
    ] = "",
    journal: JournalOption = JOURNAL,
    limit: Annotated[int, typer.Option(min=1, help="At most so many calls.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Tell why each call of a run went where it went: every decision with its reason, in order."""
    from carrara.runtime.events import to_data
    from carrara.runtime.explain import record_of, stories
    from carrara.runtime.journal.reading import Reader

    with Reader.open(journal) as reader:
        summary = reader.find(run)
        timeline = reader.timeline(summary.run_id)
        keys = reader.record_keys(summary.run_id)
    found = stories(timeline, step, keys)
    if not found:
        known = sorted({story.path.rpartition("/")[2] for story in stories(timeline)})
        asked = f"no call of step {step!r}" if step else "no call of a model"
        told = f"; steps that asked one: {', '.join(known[:10])}" if known else ""
        raise usage(f"run {summary.run_id} holds {asked}{told}")
    for story in found[:limit]:
        if as_json:
            events = [to_data(event) for event in story.events]
            give(json.dumps({"path": story.path, "events": events}, ensure_ascii=False))
        else:
            number = record_of(story.path)
            key = "" if number is None else keys.get(number, "")
            told = "" if key in ("", str(number)) else f"  (record {key})"
            give("\n".join([f"{story.path}{told}", *(f"  {line}" for line in story.lines())]))
    if len(found) > limit and not as_json:
        give(f"and {len(found) - limit:,} more calls; --limit shows them")


__all__ = ["explain"]
