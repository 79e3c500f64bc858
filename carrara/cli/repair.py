"""`carrara repair`: the form of a file mended on the command line, checked, or shown as a diff."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.outcome import FAILED, give, note, usage

if TYPE_CHECKING:
    from carrara.runtime.repair import RepairReport


class Kind(StrEnum):
    auto = "auto"
    json = "json"
    table = "table"
    list = "list"
    mixed = "mixed"


class Certainty(StrEnum):
    certain = "certain"
    likely = "likely"
    guess = "guess"


class Report(StrEnum):
    text = "text"
    json = "json"


def repair(
    file: Annotated[str, typer.Argument(help="A file, or - for standard input.", metavar="FILE|-")],
    kind: Annotated[Kind, typer.Option(help="What the text is; auto looks at it.")] = Kind.auto,
    schema: Annotated[
        Path | None, typer.Option(help="The JSON Schema that the value must hold to.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only tell the faults; exit with 1 if there are any.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print a diff instead of the text.")] = False,
    report: Annotated[
        Report, typer.Option(help="json: print the report instead of the text.")
    ] = Report.text,
    min_certainty: Annotated[
        Certainty, typer.Option(help="Edits that are less sure are proposed, not made.")
    ] = Certainty.likely,
) -> None:
    """Mend tables, lists, JSON, headings and fences of a text and print it. No model is asked.

    The text goes to standard output, what is left to standard error. The exit code is 1 when faults are left.
    """
    import json

    from carrara.runtime.repair import RepairPolicy
    from carrara.runtime.repair import repair as mend

    text, wanted = _read(file), _schema(schema)
    if check:
        _tell_faults(text, kind.value, wanted)
        return
    policy = RepairPolicy(min_certainty=min_certainty.value)
    found = mend(text, kind.value, wanted, policy)
    if report == Report.json:
        give(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    elif diff:
        _give_exactly(_diff(file, text, found.text))
    else:
        _give_exactly(found.text)
    _tell_rest(found)
    if not found.ok:
        raise typer.Exit(FAILED)


def _read(file: str) -> str:
    """The text as it is, newlines included."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8")
    except OSError as error:
        raise usage(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise usage(f"{file} is not UTF-8 at byte {error.start}") from error


def _schema(path: Path | None) -> dict[str, Any] | None:
    import json

    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise usage(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise usage(f"{path} holds no JSON Schema but a {type(found).__name__}")
    return found


def _tell_faults(text: str, kind: str, schema: dict[str, Any] | None) -> None:
    from carrara.runtime.repair import check

    found = check(text, kind, schema)
    for problem in found:
        give(problem.reason)
    if found:
        raise typer.Exit(FAILED)


def _give_exactly(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()


def _diff(file: str, before: str, after: str) -> str:
    import difflib

    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        file,
        f"{file} (repaired)",
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def _tell_rest(found: RepairReport) -> None:
    if found.edits:
        edits = "1 edit" if len(found.edits) == 1 else f"{len(found.edits)} edits"
        note(f"{edits}: {', '.join(sorted({edit.rule for edit in found.edits}))}")
    for problem in found.problems:
        note(f"left: {problem.reason}")
