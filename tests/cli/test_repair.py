"""`carrara repair`: text on standard output, what is left on standard error, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from carrara.cli.repair import repair

app = typer.Typer()
app.command()(repair)

TABLE = "| a | b |\r\n|---|\r\n| 1 | 2 || 3 | 4 |\r\n"
MENDED = "| a | b |\r\n|---|---|\r\n| 1 | 2 |\r\n| 3 | 4 |\r\n"


def call(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=given)


def test_a_file_comes_out_mended_with_its_own_newlines(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_bytes(TABLE.encode())
    found = call(str(path))
    assert (found.stdout_bytes, found.exit_code) == (MENDED.encode(), 0)
    assert "2 edits: delim_short, rows_merged" in found.stderr
    assert path.read_bytes() == TABLE.encode()


def test_standard_input_is_read_for_a_dash() -> None:
    found = call("-", "--kind", "json", given="Here: {'a': True,}")
    assert (found.stdout, found.exit_code) == ('{"a": true}', 0)


def test_check_tells_the_faults_and_changes_nothing() -> None:
    found = call("-", "--check", given="1. a\n2. b\n2. c\n")
    assert (found.stdout, found.exit_code) == ("line 3: numbers count on (numbering)\n", 1)
    assert call("-", "--check", given="1. a\n2. b\n").exit_code == 0


def test_a_diff_shows_only_what_changed() -> None:
    found = call("-", "--diff", given="- a\n* b\n- c\n")
    assert found.stdout.splitlines()[3:] == [" - a", "-* b", "+- b", " - c"]
    assert call("-", "--diff", given="- a\n").stdout == ""


def test_the_report_is_json_with_each_edit() -> None:
    found = call("-", "--report", "json", given='{"a": }')
    report = json.loads(found.stdout)
    assert [edit["rule"] for edit in report["edits"]] == ["value_missing"]
    assert report["holes"][0]["path"] == "/a"
    assert found.exit_code == 1
    assert "left: /a: its value is lost" in found.stderr


def test_a_schema_is_held_to(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["b"]}')
    found = call("-", "--schema", str(schema), given='{"a": 1,}')
    assert (found.stdout, found.exit_code) == ('{"a": 1}', 1)
    assert "'b' is a required property" in found.stderr


def test_edits_that_are_less_sure_than_asked_are_not_made() -> None:
    text = "| a |b |\n|---|---|\n| 1 | 2 |\nText.\n"
    found = call("-", "--min-certainty", "certain", given=text)
    assert (found.stdout, found.exit_code) == (text, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.md"], "cannot read nowhere.md: No such file"),
        (["-", "--schema", "nowhere.json"], "cannot read nowhere.json"),
    ],
)
def test_what_cannot_be_read_is_named(words: list[str], said: str) -> None:
    found = call(*words, given="x")
    assert found.exit_code == 2
    assert said in found.stderr
