"""`carrara diff`: what changed between two outputs of a job."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from carrara.cli.outcome import FAILED, give

if TYPE_CHECKING:
    from carrara.workflows.comparing.compare import Change, Comparison

_LONGEST = 60


def diff(
    before: Annotated[
        str, typer.Argument(help="Rows: .jsonl, .csv, .parquet, or a database table.")
    ],
    after: Annotated[str, typer.Argument(help="Other rows with the same keys.")],
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many changes.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two outputs by their keys: rows that came and went, fields that changed, fields of another type.

    The exit code is 1 where they differ.
    """
    from carrara.workflows.comparing.compare import compare
    from carrara.workflows.records import read_records

    found = compare(read_records(before), read_records(after))
    give(_json(found) if as_json else _text(found, limit))
    if not found.same:
        raise typer.Exit(FAILED)


def _json(found: Comparison) -> str:
    data = asdict(found) | {"changed_rows": found.changed_rows, "by_field": found.by_field}
    return json.dumps(data, ensure_ascii=False, indent=2)


def _text(found: Comparison, limit: int) -> str:
    lines = [
        f"{found.rows:,} rows before; {found.changed_rows:,} changed, {len(found.added):,} added, "
        f"{len(found.removed):,} removed"
    ]
    for name, (old, new) in found.types.items():
        if not old or not new:
            lines.append(f"field {name}: {'only after' if new else 'only before'} ({new or old})")
        else:
            lines.append(f"field {name}: {old} before, {new} after")
    for pointer, count in found.by_field.most_common():
        lines.append(f"{pointer}: {count:,} changes")
    for name, keys in (("added", found.added), ("removed", found.removed)):
        if keys:
            more = ", …" if len(keys) > 10 else ""
            lines.append(f"{name}: {', '.join(keys[:10])}{more}")
    lines += [_change(change) for change in found.changes[:limit]]
    left = len(found.changes) - limit
    if left > 0:
        lines.append(f"and {left:,} more changes; --limit shows them")
    return "\n".join(lines)


def _change(change: Change) -> str:
    old = "(not there)" if change.new else _shown(change.before)
    new = "(not there)" if change.gone else _shown(change.after)
    return f"{change.key} {change.pointer}: {old} -> {new}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]} …"


__all__ = ["diff"]
