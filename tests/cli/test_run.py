"""`carrara run`, `resume`, `runs` and `show` as a user sees them: streams, files and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def test_a_result_goes_to_stdout_and_all_else_to_stderr(shell: Any) -> None:
    ended = shell("run", "flows.py:quadruple", "--set", "number=4")
    assert (ended.code, ended.out) == (0, "16\n")
    assert "double" in ended.err


def test_quiet_leaves_only_the_result(shell: Any) -> None:
    ended = shell("run", "flows.py:shout", "--set", "text=hé", "-q")
    assert (ended.code, ended.err) == (0, "")
    assert ended.data == {"said": "HÉ!"}


def test_several_outputs_are_printed_as_one_object(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    ended = shell("run", "greet.yaml", "--set", "name=Ada", "--replay", cassette, "-q")
    assert ended.data == {"greeting": "Hello! (Greet Ada in a warm tone.)", "mood": "glad"}


def test_inputs_are_read_as_their_types(shell: Any) -> None:
    ended = shell("run", "flows.py:chain", "--set", 'words=["a", "b"]', "-q")
    assert ended.data == ["A", "B"]


def test_a_folder_gets_a_file_for_each_output(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    call = ("run", "greet.yaml", "--set", "name=Ada", "--replay", cassette)
    ended = shell(*call, "--output", "deep/out")
    assert (ended.code, ended.out) == (0, "")
    assert shell.read("deep/out/greeting.md") == "Hello! (Greet Ada in a warm tone.)\n"
    assert shell.read("deep/out/mood.md") == "glad\n"
    assert "wrote deep/out/greeting.md" in ended.err


def test_a_name_with_a_suffix_gets_the_whole_result(shell: Any) -> None:
    assert shell("run", "flows.py:shout", "--set", "text=a", "-o", "all.json").code == 0
    assert json.loads(shell.read("all.json")) == {"said": "A!"}


@pytest.mark.parametrize("target", ["flows.py:quadruple", "flows:quadruple", "flows.py:double"])
def test_a_result_never_replaces_the_workflow_in_python(shell: Any, target: str) -> None:
    before = shell.read("flows.py")
    ended = shell("run", target, "--set", "number=4", "-o", "./flows.py", "-q")
    assert (ended.code, ended.out) == (2, "")
    assert ended.errors == [
        "error: flows.py is the file of the workflow; it is not replaced. Name another --output."
    ]
    assert shell.read("flows.py") == before


def test_a_result_never_replaces_the_pipeline(shell: Any, recorded: Any) -> None:
    before = shell.read("greet.yaml")
    cassette = recorded("greet.yaml", {"name": "Ada"})
    words = ("--replay", cassette, "-q")
    ended = shell("run", "greet.yaml", "--set", "name=Ada", "-o", "greet.yaml", *words)
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert shell("run", "greet.yaml", "--set", "name=Ada", *words).code == 0
    assert shell("resume", "last", "-o", "greet.yaml", *words).code == 2
    assert shell.read("greet.yaml") == before


def test_a_file_in_another_folder_runs_and_resumes(shell: Any) -> None:
    shell.write("inner/deeper.py", shell.read("flows.py"))
    first = shell("run", "inner/deeper.py:quadruple", "--set", "number=1", "-q")
    again = shell("resume", "last")
    assert (first.out, again.out) == ("4\n", "4\n")
    assert "2 reused" in again.err


def test_runs_lists_and_show_tells_what_happened(shell: Any) -> None:
    shell("run", "flows.py:quadruple", "--set", "number=4", "-q")
    shell("run", "flows.py:inverse", "--set", "number=0", "-q")
    newest, oldest = shell("runs", "--json").data
    assert (newest["workflow"], newest["status"]) == ("inverse", "failed")
    assert (oldest["workflow"], oldest["status"], oldest["steps"]) == ("quadruple", "done", 2)
    table = shell("runs")
    assert (table.code, table.err) == (0, "")
    assert newest["run_id"] in table.out
    told = shell("show", oldest["run_id"][:6])
    assert (told.code, told.err) == (0, "")
    assert "double" in told.out
    told = shell("show", "last", "--json")
    assert told.data["steps"][0]["failed"] == 1


def test_the_runs_of_another_journal_are_kept_apart(shell: Any) -> None:
    shell("run", "flows.py:quadruple", "--set", "number=4", "-q", "--journal", "other.db")
    assert not (shell.folder / ".carrara").exists()
    assert len(shell("runs", "--json", "--journal", "other.db").data) == 1


@pytest.mark.parametrize("words", [("show", "nope"), ("resume", "nope"), ("show",)])
def test_a_run_that_is_not_there_is_an_error(shell: Any, words: tuple[str, ...]) -> None:
    shell("run", "flows.py:quadruple", "--set", "number=4", "-q", "--journal", "other.db")
    journal = () if len(words) == 1 else ("--journal", "other.db")
    ended = shell(*words, *journal)
    assert (ended.code, len(ended.errors)) == (2, 1)


def test_a_failed_step_is_one_error_with_its_place(shell: Any) -> None:
    ended = shell("run", "flows.py:inverse", "--set", "number=0", "-q")
    assert (ended.code, ended.out) == (1, "")
    (error,) = ended.errors
    assert "step 'inverse/divide'" in error
    assert "ZeroDivisionError: division by zero" in error
    line = shell.read("flows.py").splitlines().index("    return 1 / number") + 1
    assert f"flows.py:{line}" in error


def test_a_slip_in_the_workflow_itself_is_one_error_with_its_place(shell: Any) -> None:
    ended = shell("run", "flows.py:slip", "--set", "number=0", "-q")
    line = shell.read("flows.py").splitlines().index('    return {}["absent"]') + 1
    assert ended.code == 1
    (error,) = ended.errors
    assert error.startswith(f"error: flows.py:{line}: KeyError: 'absent'")


def test_the_traceback_is_there_for_who_asks_for_it(shell: Any) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "carrara", "run", "flows.py:slip", "--set", "number=0", "-q"],
        cwd=shell.folder,
        env={**shell.environment, "CARRARA_TRACEBACK": "1"},
        capture_output=True,
        text=True,
    )
    assert "Traceback (most recent call last)" in found.stderr
    assert found.returncode == 1


def test_a_reader_that_goes_away_ends_the_command_quietly(shell: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "carrara", "run", "flows.py:quadruple", "--set", "number=4", "-q"],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        told = child.stderr.read().decode()
    assert (child.returncode, told) == (1, "")


def test_version_and_help_are_results(shell: Any) -> None:
    import carrara

    assert shell("--version").out == f"carrara {carrara.__version__}\n"
    for words in ((), ("run",), ("eval",), ("resume",), ("models", "pull")):
        ended = shell(*words, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert "Usage" in ended.out


@pytest.mark.parametrize(
    "words",
    [
        ("rum", "x"),
        ("run",),
        ("run", "flows.py:quadruple", "--bogus"),
        ("run", "flows.py:quadruple", "--set", "number"),
        ("run", "flows.py:quadruple", "--set", "number=4", "--resume"),
        ("run", "flows.py:quadruple", "--map", "number=n"),
        ("run", "flows.py:quadruple", "--input", "flows.py"),
        ("run", "flows.py:quadruple", "--set", "number=4", "--concurrency", "0"),
        ("run", "flows.py:quadruple", "--set", "number=4", "--record", "a", "--replay", "b"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_a_usage_error(shell: Any, words: tuple[str, ...]) -> None:
    ended = shell(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err


def test_a_python_file_with_several_workflows_wants_a_name(shell: Any) -> None:
    ended = shell("run", "flows.py")
    assert ended.code == 2
    assert "flows.py:shout or flows.py:quadruple" in ended.err


def test_an_unknown_workflow_gets_a_suggestion(shell: Any) -> None:
    ended = shell("run", "flows.py:quadrupel")
    assert ended.code == 2
    assert "Did you mean 'quadruple'?" in ended.err


def test_validate_and_plan_run_nothing(shell: Any) -> None:
    checked = shell("validate", "greet.yaml", "flows.py:quadruple")
    assert (checked.code, checked.err) == (0, "")
    planned = shell("plan", "greet.yaml")
    assert planned.code == 0
    assert planned.out.index("greeting") < planned.out.index("mood")
    assert "flowchart" in shell("plan", "greet.yaml", "--format", "mermaid").out
    steps = shell("plan", "greet.yaml", "--format", "json").data["nodes"]
    assert [step["name"] for step in steps] == ["greeting", "mood"]
    assert not (shell.folder / ".carrara").exists()
