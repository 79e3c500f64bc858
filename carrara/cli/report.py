"""`carrara report`: what a job did, as Markdown or as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carrara.cli.options import JOURNAL, JournalOption
from carrara.cli.outcome import give, note, usage


def report(
    run: Annotated[str, typer.Argument(help="A job's run id, its beginning, or `last`.")] = "last",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .html or .md file; without one Markdown is printed."
        ),
    ] = None,
    journal: JournalOption = JOURNAL,
) -> None:
    """Report on a job: counts, reasons of failures, fill rates, confidence, slowest records, throughput."""
    from carrara.runtime.journal.reading import Reader
    from carrara.workflows.job_report.facts import job_facts
    from carrara.workflows.job_report.html import page
    from carrara.workflows.job_report.markdown import markdown
    from carrara.workflows.job_report.rows import stored_rows
    from carrara.workflows.outputs import make_place, write_outputs

    if output is not None and output.suffix not in (".html", ".htm", ".md"):
        raise usage(f"a report is an .html or .md file, not {output.name!r}")
    if output is not None:
        make_place(output)
    with Reader.open(journal) as reader:
        summary = reader.find(run)
        if not summary.source.startswith("job:"):
            raise usage(
                f"run {summary.run_id} is no job: `carrara show {summary.run_id}` tells of it"
            )
        rows = stored_rows(reader.each_row(summary.run_id))
        found = job_facts(reader.events(summary.run_id), rows)
    if output is None:
        give(markdown(found))
        return
    text = markdown(found) if output.suffix == ".md" else page(found)
    for path in write_outputs(text, output):
        note(f"wrote {path}")


__all__ = ["report"]
