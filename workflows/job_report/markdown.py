"""The report of a job as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carrara.runtime.report_view import headline, remarks, seconds, tables, when
from carrara.workflows.job_report.facts import JobFacts, line_of

_FAILURES = 50


def markdown(found: JobFacts) -> str:
    """The whole report."""
    parts = [f"# Job: {found.workflow}", summary(found)]
    parts += _section("Why records failed", ("records", "reason"), reasons(found))
    parts += _section("Fields", ("field", "filled"), fills(found))
    parts += _section(
        "Confidence of accepted answers",
        ("engine", "answers", "median bin", "below 0.5"),
        sureness(found),
    )
    parts += _section(
        "Slowest records", ("record", "took", "escalations", "engines"), slowest(found)
    )
    parts += _section("Most escalated records", ("record", "escalations", "took"), escalated(found))
    parts += _section("Possible duplicates", ("rows", "keys with the same values"), alike(found))
    for head, rows in tables(found.run):
        parts += _section("Steps" if head[1] == "ended" else "Engines", head, rows)
    told = remarks(found.run)
    if told:
        parts += ["## Remarks", "\n".join(f"- {line}" for line in told)]
    shown = [(row.key, line_of(row.error)) for row in found.failures]
    parts += _section(
        f"Failed records (the first {_FAILURES})", ("record", "error"), shown[:_FAILURES]
    )
    return "\n\n".join(parts) + "\n"


def summary(found: JobFacts) -> str:
    """The job in a sentence or two."""
    state = "ended" if found.ended else "has not ended"
    if found.run.cut:
        state = "was stopped"
    return (
        f"{found.done:,} rows, {found.failed:,} failed records. The job began on {when(found.run.started_at)} and "
        f"{state} after {seconds(found.seconds)}: {found.rate:.2f} records/s. {headline(found.run)}.{_to_go_on(found)}"
    )


def _to_go_on(found: JobFacts) -> str:
    """Why the job stopped before its records ended, and what goes on from there; "" where it did not."""
    if not found.run.cut:
        return ""
    why = f", {found.run.error}" if found.run.error else ""
    return f" It stopped early{why}; `carrara resume {found.run.run_id}` goes on from there."


def reasons(found: JobFacts) -> list[tuple[str, ...]]:
    return [(f"{count:,}", reason) for reason, count in found.reasons.most_common(20)]


def fills(found: JobFacts) -> list[tuple[str, ...]]:
    return [(name, f"{share:.0%}") for name, share in found.fill.items()]


def sureness(found: JobFacts) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for engine, counts in sorted(found.confidence.items()):
        total, half, seen = sum(counts), len(counts) // 2, 0
        middle = 0
        for place, count in enumerate(counts):
            seen += count
            if 2 * seen >= total:
                middle = place
                break
        low, high = middle / len(counts), (middle + 1) / len(counts)
        rows.append(
            (engine, f"{total:,}", f"{low:.2f} to {high:.2f}", f"{sum(counts[:half]) / total:.0%}")
        )
    return rows


def slowest(found: JobFacts) -> list[tuple[str, ...]]:
    return [
        (record.key, seconds(record.seconds), str(record.escalations), ", ".join(record.engines))
        for record in found.slowest
    ]


def escalated(found: JobFacts) -> list[tuple[str, ...]]:
    return [
        (record.key, str(record.escalations), seconds(record.seconds))
        for record in found.most_escalated
    ]


def alike(found: JobFacts) -> list[tuple[str, ...]]:
    """Groups of rows with equal values, the largest first."""
    return [
        (f"{each.count:,}", ", ".join(each.keys[:10]) + ", …" * (each.count > 10))
        for each in found.duplicates
    ]


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A heading and a table; nothing without rows."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if not lines:
        return []
    top = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    return [f"## {title}", "\n".join([*top, *lines])]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["alike", "escalated", "fills", "markdown", "reasons", "slowest", "summary", "sureness"]
