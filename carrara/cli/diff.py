"""`carrara diff`: what changed between two outputs of a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.outcome import FAILED, give, usage

if TYPE_CHECKING:
    from carrara.workflows.comparing.compare import Change, Comparison

_LONGEST = 60
_BEFORE = 20
"""So many characters of what is the same are shown before what differs, where texts are long."""


def diff(
    before: Annotated[
        str,
        typer.Argument(
            help="An output: .jsonl, .csv, .parquet, a DuckDB, SQLite or PostgreSQL table."
        ),
    ],
    after: Annotated[str, typer.Argument(help="Another output with the same keys, of any kind.")],
    limit: Annotated[
        int, typer.Option(min=0, help="Show at most so many changes and keys of rows.")
    ] = 50,
    key: Annotated[
        str, typer.Option(metavar="FIELD", help="The field that is a row's key.")
    ] = "key",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two outputs by their keys: rows that came and went, values that changed, and apart from them fields that
    came and went or are of another type.

    The exit code is 0 where they are the same, 1 where they differ, 2 where they cannot be compared.
    """
    if before == after == "-":
        raise usage("only one of the two outputs may be -: standard input is read once")
    from carrara.engines.errors import CarraraError
    from carrara.workflows.comparing.compare import compare
    from carrara.workflows.comparing.rows import read_output

    try:
        found = compare(read_output(before, key), read_output(after, key), limit)
    except CarraraError as error:  # 1 is for outputs that differ
        raise usage(str(error)) from error
    give(_json(found) if as_json else _text(found))
    if not found.same:
        raise typer.Exit(FAILED)


def _json(found: Comparison) -> str:
    data = {name: getattr(found, name) for name in found.__slots__} | {
        "same": found.same,
        "changes": [_change_data(change) for change in found.changes],
        "retyped": [
            {"field": name, "before": old, "after": new, "count": count}
            for name, kinds in found.retyped.items()
            for (old, new), count in kinds.items()
        ],
    }
    return json.dumps(data, ensure_ascii=False, indent=2)


def _change_data(change: Change) -> dict[str, Any]:
    from carrara.workflows.plain import plain

    found = {name: getattr(change, name) for name in change.__slots__}
    return found | {name: plain(found[name], exact=True) for name in ("before", "after")}


def _text(found: Comparison) -> str:
    lines = [
        f"{found.rows:,} rows before, {found.rows_after:,} after; {found.changed_rows:,} changed, "
        f"{found.added_rows:,} added, {found.removed_rows:,} removed"
    ]
    lines += [f"field {name}: only after" for name in found.fields_added]
    lines += [f"field {name}: only before" for name in found.fields_removed]
    for pointer, kinds in found.retyped.items():
        for (old, new), count in kinds.most_common():
            lines.append(f"type of {pointer}: {old} before, {new} after, in {_values(count)}")
    for pointer, count in found.by_field.most_common():
        lines.append(f"{pointer}: {_values(count)} changed")
    for what, keys, count in (
        ("added", found.added, found.added_rows),
        ("removed", found.removed, found.removed_rows),
    ):
        if keys:
            more = f" and {count - len(keys):,} more" if count > len(keys) else ""
            lines.append(f"{what}: {', '.join(keys)}{more}")
    lines += [_change(change) for change in found.changes]
    left = found.changed_values - len(found.changes)
    if left > 0:
        lines.append(f"and {left:,} more changes; --limit shows them")
    return "\n".join(lines)


def _values(count: int) -> str:
    return f"{count:,} value{'s' * (count != 1)}"


def _change(change: Change) -> str:
    old = "(not there)" if change.new else _text_of(change.before)
    new = "(not there)" if change.gone else _text_of(change.after)
    pairs = enumerate(zip(old, new, strict=False))
    shorter = min(len(old), len(new))
    same = next((place for place, (one, other) in pairs if one != other), shorter)
    start = same - _BEFORE if same > _LONGEST // 2 and max(len(old), len(new)) > _LONGEST else 0
    return f"{change.key} {change.pointer}: {_cut(old, start)} -> {_cut(new, start)}"


def _text_of(value: Any) -> str:
    from carrara.workflows.plain import as_text

    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else as_text(value)


def _cut(text: str, start: int) -> str:
    """The part of a text from `start` on that can be shown."""
    left = text[start:] if start == 0 else f"… {text[start:]}"
    return left if len(left) <= _LONGEST else f"{left[: _LONGEST - 2]} …"


__all__ = ["diff"]
