"""Wrong calls: exit code 2 and one message that says what there is instead. Run in this process: nothing loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from carrara.cli.app import app
from carrara.cli.outcome import USAGE, code_of
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.run import execute

PIPELINE = """
name: greet
inputs: {name: str}
steps: {greeting: {llm: "Greet {{ name }}"}}
"""

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """`call("show", "nope")` is the exit code and what was said on standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greet.yaml").write_text(PIPELINE)
    (tmp_path / "d.yaml").mkdir()
    (tmp_path / "d.yaml" / "inner.yaml").write_text(PIPELINE)

    def made(*words: str) -> tuple[int, str]:
        code = code_of(lambda: app(list(words), prog_name="carrara"))
        return code, capsys.readouterr().err

    return made


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """The id of the one run in the journal of the folder."""
    import asyncio

    async def nothing() -> None: ...

    (tmp_path / ".carrara").mkdir()
    made = SqliteJournal(tmp_path / ".carrara" / "journal.db")
    try:
        return asyncio.run(execute(nothing, name="nothing", journal=made)).run_id
    finally:
        made.close()


RUN = ("run", "greet.yaml", "--set", "name=Ada")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "nope"), "there is no journal at .carrara/journal.db"),
        (("resume", "nope"), "there is no journal at .carrara/journal.db"),
        (("runs", "--journal", "other.db"), "there is no journal at other.db"),
        (("plan", "greet.yaml", "--journal", "other.db"), "there is no journal at other.db"),
        ((*RUN, "--model", "smollm"), "--model: no model is called 'smollm'"),
        ((*RUN, "--model", "smollm"), "Did you mean 'smollm2'?"),
        ((*RUN, "--model", "d.yaml"), "--model: d.yaml/config.json does not exist"),
        ((*RUN, "--engine", "arr"), "--engine: unknown engine 'arr'. Did you mean 'ar'?"),
        (("plan", "greet.yaml", "--engine", "nope"), "--engine: unknown engine 'nope'"),
        (("run", "d.yaml"), "d.yaml is a folder, and a workflow is a file. Name a file in it"),
        (("plan", "d.yaml"), "such as d.yaml/inner.yaml"),
        (("validate", "d.yaml"), "d.yaml is a folder"),
        (("eval", "d.yaml", "rows.jsonl"), "d.yaml is a folder"),
        (("runs", "--limit", "0"), "--limit"),
        (("run", "greet.yaml", "--input", "x.jsonl", "--output", "x.xlsx"), "rows are JSON lines"),
        (("eval", "greet.yaml", "x.jsonl", "--output", "x.xlsx"), "rows are JSON lines"),
        (("schema", "--output", "none/schema.json"), "cannot write none/schema.json"),
        (("models", "verify", "nope"), "no model is called 'nope'"),
        (("engines", "--model", "nope"), "no model is called 'nope'"),
        (("nope",), "No such command 'nope'"),
    ],
)
def test_a_wrong_call_ends_with_two_and_says_what_is_wrong(
    call: Call, words: tuple[str, ...], told: str
) -> None:
    code, said = call(*words)
    assert told in said
    assert code == USAGE
    assert not Path(".carrara").exists()


@pytest.mark.parametrize("command", ["show", "resume"])
def test_a_run_that_there_is_not_is_a_wrong_call(call: Call, journal: str, command: str) -> None:
    code, said = call(command, "nope")
    assert (code, "holds no run 'nope'." in said) == (USAGE, True)
    _, said = call(command, "lats")
    assert "Did you mean 'last'? `carrara runs` lists them." in said
    mistyped = journal[:-1] + ("0" if journal[-1] != "0" else "1")
    code, said = call(command, mistyped)
    assert (code, f"Did you mean '{journal}'?" in said) == (USAGE, True)


def test_a_replay_needs_no_model_of_the_name(call: Call, tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text("")
    _, said = call(*RUN, "--model", "gone", "--replay", "calls.jsonl", "-q")
    assert "no model is called" not in said
