"""`carrara adapt` as its users call it; what it trains is tested in tests/engines/adapt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROW = {
    "prompt": "Is it red or blue?",
    "response": "red",
    "contract": {"kind": "choice", "options": ["red", "blue"]},
}
QUICK = ["--set", "step_tokens=16", "--set", "row_tokens=64", "--set", "rank=2", "--workers", "0"]


def test_an_adapter_is_trained_cut_off_and_finished(shell: Any, tiny_folder: Path) -> None:
    shell.write("rows.jsonl", json.dumps(ROW) + "\n")
    base = ["--base", str(tiny_folder)]
    words = ["adapt", *base, "--data", "rows.jsonl", "--out", "mine", *QUICK, "--steps", "2"]
    stopped = shell(*words, "--minutes", "0")
    assert stopped.code == 1
    again = f"carrara adapt --resume --base {tiny_folder} --data rows.jsonl --out mine"
    assert f"go on with: {again}" in stopped.err
    refused = shell(*words)
    assert (refused.code, "Resume it" in refused.err) == (1, True)
    for numbers in (["--steps", "3"], ["--set", "rank=4"], ["--start", "embedded"]):
        other = shell(*again.split()[1:], *numbers)
        assert (other.code, "leave out its numbers" in other.err) == (2, True)
    done = shell(*again.split()[1:], "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["done"], found["steps"]) == (True, 2)
    folder: Path = shell.folder / "mine"
    settings = json.loads((folder / "diffusion.json").read_text())
    assert settings["slots_grow"] is True
    assert (folder / "adapter_model.safetensors").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--data", "none.jsonl"], 2, "none.jsonl: cannot be read"),
        (["--data", "rows.jsonl"], 2, "rows.jsonl:1: not JSON"),
        (["--data", "rows.jsonl", "--set", "rank"], 2, "--set takes NAME=VALUE, not 'rank'"),
        (
            ["--data", "rows.jsonl", "--set", "ranks=3"],
            2,
            "there is no 'ranks'. Did you mean 'rank'?",
        ),
        (["--data", "rows.jsonl", "--set", "rank=big"], 2, "rank is a whole number, not 'big'"),
        (["--data", "rows.jsonl", "--base", "smolm"], 2, "--base: no model is called 'smolm'"),
        (["--data", "good.jsonl", "--resume"], 1, "there is no checkpoint to resume"),
        (
            ["--data", "good.jsonl", "--resume", "--steps", "3"],
            1,
            "there is no checkpoint to resume",
        ),
        (
            ["--data", "good.jsonl", "--resume", "--set", "rank=4"],
            1,
            "there is no checkpoint to resume",
        ),
        (["--data", "good.jsonl", "--start", "none"], 2, "none/adapter_config.json"),
    ],
)
@pytest.mark.weights
def test_a_wrong_call_says_what_is_wrong(
    shell: Any, words: list[str], code: int, told: str
) -> None:
    shell.write("rows.jsonl", "{\n")
    shell.write("good.jsonl", '{"prompt": "a", "response": "b"}\n')
    ended = shell("adapt", "--out", "mine", *words)
    assert told in ended.err
    assert ended.code == code
