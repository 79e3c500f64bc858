"""Bad input: each gives one clear error that names the file, line or record, the right exit code, and no traceback.

What needs the real engines is in `test_bad_input_to_engines.py`, what stops a run midway in `test_interruption.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

BINARY = b"\x7fELF\x02\x01\x00\x00\xff\xfe"
LLM = "inputs: {text: str}\nsteps:\n  ask: {llm: '%s'}\noutputs: {said: '{{ ask }}'}\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.yaml", b"", "p.yaml:1:1: the file is empty"),
        ("p.yaml", BINARY, "p.yaml:1:"),
        ("p.yaml", b"steps: [", "p.yaml:1:"),
        ("p.yaml", b"steps:\n  a: {lm: x}\n", "p.yaml:2:3: step 'a' does nothing"),
        ("p.py", b"", "p.py defines no workflow"),
        ("p.py", BINARY, "p.py"),
        ("p.py", b"def f(:\n", "p.py:1:"),
        ("p.py", b"import nowhere_to_be_found\n", "p.py:1"),
        ("p.py", b"\n1 / 0\n", "p.py:2"),
    ],
)
def test_a_definition_that_cannot_be_read_is_named(
    shell: Any, name: str, content: bytes, reason: str
) -> None:
    shell.write(name, content)
    ended = shell("run", name, "-q")
    assert (ended.code, ended.out) == (2, "")
    (error,) = ended.errors
    assert reason in error


@pytest.mark.parametrize("name", ["absent.yaml", "absent.py", "absent.module:flow"])
def test_a_definition_that_is_not_there_is_named(shell: Any, name: str) -> None:
    ended = shell("run", name)
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "absent" in ended.err


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("{{ text", "p.yaml:3:"),
        ("{% if text %}", "p.yaml:3:"),
        ("{{ txet }}", "unknown name 'txet' in step 'ask'. Did you mean 'text'?"),
        ("{{ text | shout }}", "p.yaml:3:"),
    ],
)
def test_a_mistake_in_a_template_is_found_before_anything_runs(
    shell: Any, prompt: str, reason: str
) -> None:
    shell.write("p.yaml", LLM % prompt)
    ended = shell("run", "p.yaml", "--set", "text=a", "-q")
    assert ended.code == 2
    (error,) = ended.errors
    assert reason in error
    assert not (shell.folder / ".carrara").exists()


def test_a_mistake_in_a_docstring_template_is_placed_in_the_python_file(shell: Any) -> None:
    shell.write(
        "p.py",
        "from carrara import llm\n\n@llm\ndef ask(text: str) -> str:\n"
        '    """Say something\n\n    about {{ text.\n    """\n',
    )
    ended = shell("validate", "p.py:ask")
    assert ended.code == 2
    assert "p.py:7" in ended.err


def test_a_key_that_is_missing_when_the_prompt_is_rendered_names_the_step(
    shell: Any, recorded: Any
) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    shell.write("p.yaml", (LLM % "{{ text.deep }}").replace("text: str", "text: any"))
    ended = shell("run", "p.yaml", "--set", 'text={"shallow": 1}', "--replay", cassette, "-q")
    assert ended.code == 1
    (error,) = ended.errors
    assert "step 'p/ask'" in error
    assert "deep" in error


@pytest.mark.parametrize(
    "call",
    [
        ("run", "greet.yaml", "--set", "name=a", "--engine", "gpt"),
        ("eval", "greet.yaml", "rows.jsonl", "--engine", "gpt"),
        ("run", "unknown.yaml", "--set", "text=a"),
        ("run", "unknown.py:ask", "--set", "text=a"),
    ],
    ids=lambda call: " ".join(call[:2]),
)
def test_an_unknown_engine_is_named_before_anything_runs(shell: Any, call: tuple[str, ...]) -> None:
    shell.write("unknown.yaml", LLM.replace("'%s'", "'Say {{ text }}', engine: gpt"))
    shell.write(
        "unknown.py",
        "from carrara import llm\n\n@llm(engine='gpt')\ndef ask(text: str) -> str:\n"
        '    """Say {{ text }}."""\n',
    )
    ended = shell(*call, env={"CARRARA_HOME": str(shell.folder / "no-weights")})
    assert "gpt" in ended.err
    assert "diffusion" in ended.err or "`carrara engines` lists them" in ended.err
    assert ended.code == (1 if "unknown.py" in call[1] else 2)


def test_inputs_that_do_not_fit_are_named(shell: Any) -> None:
    for given, reason in (
        ((), "quadruple needs the input 'number'"),
        (("--set", "numbr=1"), "takes no input 'numbr'. Did you mean 'number'?"),
        (("--set", "number=four"), "input 'number' of quadruple"),
    ):
        ended = shell("run", "flows.py:quadruple", *given)
        assert (ended.code, ended.out) == (2, "")
        (error,) = ended.errors
        assert reason in error


# -- records of a job ------------------------------------------------------------------------------


def shouted(shell: Any, source: str, *more: str) -> Any:
    return shell("run", "flows.py:shout", "-i", source, "-o", "out.jsonl", "-q", *more)


@pytest.mark.parametrize(
    ("source", "content", "reason"),
    [
        ("in.jsonl", b"", "in.jsonl: empty"),
        ("in.jsonl", b"\n \n", "in.jsonl: empty"),
        ("in.csv", b"", "in.csv: empty; a CSV file needs a header line"),
        ("in.csv", b"\xff\xfe\x00t", "in.csv: not a CSV file in UTF-8"),
        ("*.none", b"", "no file matches '*.none'"),
        (".", b"", ". is a folder"),
    ],
)
def test_a_source_that_holds_no_records_is_named(
    shell: Any, source: str, content: bytes, reason: str
) -> None:
    if source.startswith("in."):
        shell.write(source, content)
    ended = shouted(shell, source)
    assert ended.code == 2
    (error,) = ended.errors
    assert reason in error


def test_nothing_on_standard_input_is_named(shell: Any) -> None:
    ended = shouted(shell, "-")
    assert (ended.code, ended.errors) == (2, ["error: stdin: empty, there is no record in it"])


def test_lines_that_cannot_be_read_fail_alone_and_are_named(shell: Any) -> None:
    lines = [b'{"text": "a"}', b'{"text": "b"', BINARY, b"[1]", b'{"txt": "c"}', b'{"text": 4}']
    deep = b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    shell.write("in.jsonl", b"\n".join([*lines, deep, b'{"text": "z"}']))
    ended = shouted(shell, "in.jsonl")
    assert ended.code == 1
    assert [row["said"] for row in shell.rows("out.jsonl")] == ["A!", "Z!"]
    failed = {row["where"]: row["error"] for row in shell.rows("out.failed.jsonl")}
    for line, reason in (
        (2, "not JSON: "),
        (3, "not UTF-8 text"),
        (4, "a JSON object is needed, found list"),
        (5, "no field 'text' for the input 'text'; its fields are: txt"),
        (6, "input 'text' of shout"),
        (7, "nested too deeply"),
    ):
        assert failed[f"in.jsonl:{line}"].startswith(f"in.jsonl:{line}: ")
        assert reason in failed[f"in.jsonl:{line}"]


def test_csv_rows_that_cannot_be_read_fail_alone_and_are_named(shell: Any) -> None:
    shell.write("in.csv", "text,mark\na,?\nb\nc,.,more\nd,!\n")
    ended = shouted(shell, "in.csv")
    assert ended.code == 1
    assert [row["said"] for row in shell.rows("out.jsonl")] == ["A?", "D!"]
    failed = {row["where"]: row["error"] for row in shell.rows("out.failed.jsonl")}
    assert "no cell for mark" in failed["in.csv:3"]
    assert "1 cell more than the header" in failed["in.csv:4"]


def test_text_files_that_cannot_be_read_fail_alone_and_are_named(shell: Any) -> None:
    shell.write("texts/a.txt", "fine")
    shell.write("texts/b.txt", b"")
    shell.write("texts/c.txt", BINARY)
    shell.write("texts/d.txt", "café".encode("latin-1"))
    ended = shouted(shell, "texts/*.txt")
    assert ended.code == 1
    assert [row["said"] for row in shell.rows("out.jsonl")] == ["FINE!"]
    failed = {row["key"]: row["error"] for row in shell.rows("out.failed.jsonl")}
    assert "the file is empty" in failed["texts/b.txt"]
    assert "a binary file" in failed["texts/c.txt"]
    assert "not UTF-8 text (byte 3" in failed["texts/d.txt"]


def test_an_unknown_column_is_named_with_those_that_there_are(shell: Any) -> None:
    shell.write("in.csv", "words,mark\na,?\n")
    ended = shouted(shell, "in.csv", "--map", "text=word")
    assert ended.code == 1
    (failed,) = shell.rows("out.failed.jsonl")
    assert "no field 'word' for the input 'text'; its fields are: words, mark" in failed["error"]


def test_a_map_or_constant_for_no_input_is_a_usage_error(shell: Any) -> None:
    shell.write("in.csv", "text\na\n")
    for words in (("--map", "txt=text"), ("--set", "txt=a")):
        ended = shouted(shell, "in.csv", *words)
        assert ended.code == 2
        (error,) = ended.errors
        assert "Did you mean 'text'?" in error
    assert not (shell.folder / "out.jsonl").exists()


def test_a_record_of_five_megabytes_is_a_record_like_others(shell: Any) -> None:
    big = "x" * 5_000_000
    shell.write("in.jsonl", json.dumps({"id": "big", "text": big}) + '\n{"text": "small"}\n')
    assert shouted(shell, "in.jsonl").code == 0
    first, second = shell.rows("out.jsonl")
    assert (len(first["said"]), second["said"]) == (len(big) + 1, "SMALL!")


# -- places that cannot be written -----------------------------------------------------------------


@pytest.mark.parametrize("place", ["flows.py/out", "/proc/carrara/out"])
def test_a_folder_that_cannot_be_written_is_named_before_anything_runs(
    shell: Any, place: str
) -> None:
    shell.write("in.jsonl", '{"text": "a"}\n')
    for words in (
        ("run", "flows.py:shout", "--set", "text=a", "-o", place),
        ("run", "flows.py:shout", "--set", "text=a", "-o", f"{place}.json"),
        ("run", "flows.py:shout", "-i", "in.jsonl", "-o", f"{place}.jsonl"),
        ("eval", "flows.py:shout", "in.jsonl", "-o", f"{place}.jsonl"),
    ):
        ended = shell(*words, "-q")
        assert ended.code == 2
        (error,) = ended.errors
        assert f"cannot write {place}" in error
    assert not (shell.folder / "calls.log").exists()


def test_an_output_that_is_a_folder_is_no_place_for_rows(shell: Any) -> None:
    shell.write("in.jsonl", '{"text": "a"}\n')
    (shell.folder / "rows").mkdir()
    ended = shell("run", "flows.py:shout", "-i", "in.jsonl", "-o", "rows", "-q")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "this name does not say which" in ended.err
