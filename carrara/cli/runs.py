"""`carrara runs` and `carrara show`: what the journal says of the runs here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from carrara.cli.options import JOURNAL, JournalOption

if TYPE_CHECKING:
    from carrara.runtime.journal.reading import RunSummary

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_runs(
    journal: JournalOption = JOURNAL,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    as_json: _JSON = False,
) -> None:
    """List the runs of a journal: status, workflow, when, how long, steps, failures."""
    from carrara.runtime.journal.reading import Reader

    with Reader.open(journal) as reader:
        found = reader.runs(limit)
    if as_json:
        from dataclasses import asdict

        print(json.dumps([asdict(run) for run in found], indent=2))
    else:
        _print_table(found)


def show_run(
    run: Annotated[str, typer.Argument(help="A run's id, its beginning, or `last`.")] = "last",
    journal: JournalOption = JOURNAL,
    events: Annotated[bool, typer.Option("--events", help="Also every event, in order.")] = False,
    as_json: _JSON = False,
) -> None:
    """Show a run: what each step did, on which engine and why, its time, tokens, retries and repairs."""
    from rich.console import Console

    from carrara.runtime.events import to_data
    from carrara.runtime.journal.reading import Reader
    from carrara.runtime.report import report
    from carrara.runtime.report_view import event_line, show

    with Reader.open(journal) as reader:
        summary = reader.find(run)
        found = report(reader.events(summary.run_id))
        timeline = reader.timeline(summary.run_id) if events else []
    if as_json:
        data = found.to_data() | {"status": summary.status}
        print(json.dumps(data | ({"events": list(map(to_data, timeline))} if events else {})))
        return
    show(found, Console())
    if summary.status == "interrupted":
        why = f", {summary.error}" if summary.error else ""
        print(f"it was interrupted{why}; `carrara resume {summary.run_id}` goes on from here")
    for event in timeline:
        print(event_line(event, summary.started_at))


def _print_table(found: list[RunSummary]) -> None:
    from rich.console import Console

    from carrara.runtime.report_view import RUNS, print_table, run_row

    console = Console()
    if found:
        print_table(console, RUNS, [run_row(run) for run in found])
    else:
        console.print("no runs yet")
