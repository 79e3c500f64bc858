"""The report of a job as one HTML file that works offline: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from carrara.runtime.report_view import remarks, seconds, tables, when
from carrara.workflows.job_report import charts
from carrara.workflows.job_report.facts import MOST_FAILURES, JobFacts
from carrara.workflows.job_report.markdown import alike, escalated, fills, reasons, slowest

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1b19; --soft: #6c6862; --line: #e3dfd8; --paper: #fbfaf8;
  --card: #ffffff; --main: #2f5d8a; --warm: #b8643c; --bad: #a8323a; --good: #3d7a57; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece9e4; --soft: #a09a92; --line: #37342f; --paper: #191817;
  --card: #211f1d; --main: #7fb0df; --warm: #dd9a74; --bad: #e0777d; --good: #7dbd98; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -0.01em; margin: 0; }
h2 { font-size: 1.05rem; font-weight: 620; margin: 2.4rem 0 .7rem; }
.sub { color: var(--soft); margin: .2rem 0 1.6rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .8rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.45rem; font-weight: 640; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; }
.bad b { color: var(--bad); } .good b { color: var(--good); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; color: var(--soft); font-weight: 560; border-bottom: 1px solid var(--line); }
th, td { padding: .32rem .9rem .32rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.bar { background: var(--line); border-radius: 3px; height: .55rem; width: 12rem; max-width: 30vw; }
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--main); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin: 0 .3rem 0 .9rem; }
footer { color: var(--soft); margin-top: 3rem; font-size: .85rem; }
"""


def page(found: JobFacts) -> str:
    """The whole page."""
    title = f"Job {found.workflow}"
    body = [
        f"<h1>{escape(found.workflow)}</h1>",
        f'<p class="sub">run {escape(found.run.run_id)}, begun {when(found.run.started_at)}'
        f"{_state(found)}</p>",
        _tiles(found),
        "<h2>Throughput</h2>",
        charts.throughput(found.throughput, found.seconds),
        "<h2>Records over time</h2>",
        charts.timeline(found),
        charts.LEGEND,
        *_histograms(found),
        _table("Why records failed", ("records", "reason"), reasons(found)),
        _fill(found),
        _table("Slowest records", ("record", "took", "escalations", "engines"), slowest(found)),
        _table("Possible duplicates", ("rows", "keys with the same values"), alike(found)),
        _table("Most escalated records", ("record", "escalations", "took"), escalated(found)),
        *(
            _table("Steps" if head[1] == "ended" else "Engines", head, rows)
            for head, rows in tables(found.run)
        ),
        _remarks(found),
        _table(
            f"Failed records (the first {MOST_FAILURES})",
            ("record", "error"),
            [(row.key, row.error) for row in found.failures],
        ),
        "<footer>Made by Carrara from the events of the run.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _state(found: JobFacts) -> str:
    if found.run.cut:
        return escape(f", stopped early: {found.run.error or 'interrupted'}")
    return "" if found.ended else ", not ended"


def _tiles(found: JobFacts) -> str:
    total = found.done + found.failed
    usage = found.run.usage
    tiles = [
        ("good", f"{found.done:,}", "rows"),
        ("bad" if found.failed else "", f"{found.failed:,}", "failed records"),
        ("", f"{found.rate:.2f}", "records a second"),
        ("", seconds(found.seconds), "in all"),
        ("", f"{usage.completion_tokens:,}", "tokens written"),
        ("", f"{found.escalated:,}", "escalated"),
        ("", f"{found.repaired:,}", "repaired"),
    ]
    if usage.prompt_tokens:
        cached = usage.cached_tokens / usage.prompt_tokens
        tiles.append(("", f"{cached:.0%}", "of prompts cached"))
    if not total:
        tiles = tiles[:4]
    cells = "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{name}</span></div>'
        for kind, value, name in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _histograms(found: JobFacts) -> list[str]:
    if not found.confidence:
        return []
    drawn = [
        f"<div><h3>{escape(engine)}</h3>{charts.histogram(counts)}</div>"
        for engine, counts in sorted(found.confidence.items())
    ]
    return ["<h2>Confidence of accepted answers</h2>", f'<div class="pair">{"".join(drawn)}</div>']


def _fill(found: JobFacts) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{share}</td>"
        f'<td><div class="bar"><i style="width:{share}"></i></div></td></tr>'
        for name, share in fills(found)
    )
    head = "<tr><th>field</th><th>filled</th><th></th></tr>"
    return f"<h2>Fields</h2><table>{head}{rows}</table>" if rows else ""


def _remarks(found: JobFacts) -> str:
    told = "".join(f"<li>{escape(line)}</li>" for line in remarks(found.run))
    return f"<h2>Remarks</h2><ul>{told}</ul>" if told else ""


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    if not body:
        return ""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<h2>{escape(title)}</h2><div class="wide"><table><tr>{top}</tr>{body}</table></div>'


__all__ = ["page"]
