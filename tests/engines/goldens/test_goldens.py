"""Every family computes and decodes what its public reference does; and a golden run can tell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from carrara.engines.goldens.decode import _ALGORITHMS, _GREEDY_PARAMS
from carrara.engines.goldens.gemma import _PARAMS
from carrara.engines.goldens.params import KINDS
from carrara.engines.goldens.run import run_folder

GOLDENS = Path(__file__).parents[2] / "goldens"
COUNTS = {"a2d_llama": 20, "ar_llama": 9, "dream": 12, "llada": 15, "llada21": 6, "sdar": 7}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("family", COUNTS)
def test_every_pass_of_every_case_is_that_of_the_reference(family: str) -> None:
    found = run_folder(GOLDENS / family)
    assert (found.failures, found.skips) == ({}, {})
    assert (found.family, found.passed) == (family, COUNTS[family])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a golden folder with two of its cases, that may be changed."""
    shutil.copytree(GOLDENS / "llada21", tmp_path / "copy")
    path = tmp_path / "copy" / "cases.json"
    found = json.loads(path.read_text())
    found["decode"] = [case for case in found["decode"] if case["name"] == "sampler_0"]
    path.write_text(json.dumps(found))
    return tmp_path / "copy"


def edit_case(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "cases.json"
    found = json.loads(path.read_text())
    change(next(case for case in found["forward"] + found["decode"] if case["name"] == name))
    path.write_text(json.dumps(found))


def edit_cases(folder: Path, **fields: Any) -> None:
    path = folder / "cases.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_array(folder: Path, name: str, change: Callable[[torch.Tensor], Any]) -> None:
    path = folder / "cases.safetensors"
    arrays = load_file(path)
    change(arrays[name])
    save_file(arrays, path)


@pytest.mark.parametrize(
    ("array", "change", "words"),
    [
        ("sampler_0.sequences", lambda a: a[0, -1].add_(1), "sequences at"),
        ("sampler_0.canvas", lambda a: a[3, 0, -1].add_(1), "canvas"),
        ("sampler_0.commit_pass", lambda a: a[0, -1].add_(1), "commit_pass"),
        ("sampler_0.top1", lambda a: a[2, 0, 3].add_(1), "top1 of pass 2"),
        ("sampler_0.conf", lambda a: a[2, 0, 3].add_(0.01), "conf of pass 2: off by 0.01"),
    ],
)
def test_one_other_number_in_a_decoding_run_fails_its_case_alone(
    folder: Path, array: str, change: Callable[[torch.Tensor], Any], words: str
) -> None:
    edit_array(folder, array, change)
    found = run_folder(folder)
    assert (found.passed, found.failed, list(found.failures)) == (1, 1, ["sampler_0"])
    assert words in found.failures["sampler_0"]


@pytest.mark.parametrize("array", ["logits", "router_logits_1", "router_topk_0"])
def test_one_other_number_in_a_forward_pass_fails_its_case(folder: Path, array: str) -> None:
    edit_array(folder, f"fwd_b8_0.{array}", lambda a: a[0, 0, 0].add_(1))
    assert array in run_folder(folder).failures["fwd_b8_0"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda case: case.update(nfe=5), "forward passes: 29, recorded 5"),
        (lambda case: case["calls"][4].update(past_len=8), "call 4"),
        (lambda case: case["calls"][4].update(replace=True), "call 4"),
    ],
)
def test_another_number_of_passes_or_another_cache_fails(
    folder: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    edit_case(folder, "sampler_0", change)
    assert words in run_folder(folder).failures["sampler_0"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda case: case["params"].update(temperature=0.7), "temperature 0.7 draws numbers"),
        (lambda case: case["params"].update(remasking="random"), "remasking 'random' draws"),
    ],
)
def test_what_cannot_be_repeated_is_skipped_with_the_reason(
    folder: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    edit_case(folder, "sampler_0", change)
    found = run_folder(folder)
    assert (found.passed, found.failed, found.skipped) == (1, 0, 1)
    assert words in found.skips["sampler_0"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda case: case["params"].pop("threshold"), "lacks params.threshold"),
        (lambda case: case.pop("params"), "lacks params.max_new_tokens"),
        (
            lambda case: case["params"].update(max_new_tokens="x"),
            ": params.max_new_tokens is 'x', not a whole",
        ),
        (
            lambda case: case["params"].update(block_size=0),
            ": params.block_size is 0, not a whole number of",
        ),
        (
            lambda case: case["params"].update(threshold=True),
            ": params.threshold is True, not a number",
        ),
        (
            lambda case: case["params"].update(threshold=None),
            ": params.threshold is null, not a number",
        ),
        (
            lambda case: case["params"].update(temperature="x"),
            ": params.temperature is 'x', not a number",
        ),
        (
            lambda case: case["params"].update(eos_early_stop=1),
            ": params.eos_early_stop is 1, not one of",
        ),
        (
            lambda case: case["params"].update(remasking="best"),
            ": params.remasking is 'best', not one of",
        ),
        (lambda case: case["params"].update(weird=3), ": llada21_sampler has no params.weird here"),
        (lambda case: case.update(algorithm="zzz"), ": algorithm 'zzz' is not known"),
        (lambda case: case.pop("algorithm"), "lacks algorithm"),
        (lambda case: case.pop("nfe"), "lacks nfe"),
        (lambda case: case["arrays"].pop("canvas"), "lacks arrays.canvas"),
        (lambda case: case.pop("inputs"), "lacks inputs"),
        (lambda case: case["inputs"].pop("prompts"), "lacks inputs.prompts"),
        (
            lambda case: case["inputs"].update(prompts=[]),
            ": inputs.prompts is not a list of rows of token ids",
        ),
        (
            lambda case: case["inputs"].update(prompts=[[3, "x"]]),
            ": inputs.prompts is not a list of rows of token ids",
        ),
        (
            lambda case: case["inputs"].update(prompts=[[99999, 3]]),
            ": inputs.prompts holds token 99999, the model has 320",
        ),
    ],
)
def test_a_case_that_cannot_be_followed_fails_and_says_where(
    folder: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    edit_case(folder, "sampler_0", change)
    found = run_folder(folder)
    assert (found.passed, found.failed, found.skipped) == (1, 1, 0)
    assert words in found.failures["sampler_0"]
    assert found.failures["sampler_0"].startswith(f"{folder / 'cases.json'}: case 'sampler_0'")


def test_every_parameter_that_an_algorithm_knows_has_a_kind() -> None:
    algorithms = [*_ALGORITHMS.values()]
    assert not {name for one in algorithms for name in one.params.names} - KINDS.keys()
    assert not (_GREEDY_PARAMS.names | _PARAMS.names) - KINDS.keys()


def test_what_is_no_number_is_told_as_that(folder: Path) -> None:
    edit_array(folder, "fwd_b8_0.logits", lambda a: a[0, 1, 2].fill_(torch.nan))
    told = "logits: 1 of 7680 are recorded as NaN"
    assert told in run_folder(folder).failures["fwd_b8_0"]
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors")
    assert "logits: 7679 of 7680 are NaN, at first" in run_folder(folder).failures["fwd_b8_0"]


def test_a_token_that_the_model_lacks_fails_a_forward_case(folder: Path) -> None:
    edit_array(folder, "fwd_b8_0.input_ids", lambda a: a[0, 0].fill_(320))
    reason = run_folder(folder).failures["fwd_b8_0"]
    assert "case 'fwd_b8_0': input_ids holds token 320, the model has 320" in reason


def test_ids_that_cases_json_lacks_are_named(folder: Path) -> None:
    path = folder / "cases.json"
    found = json.loads(path.read_text())
    del found["mask_token_id"]
    path.write_text(json.dumps(found))
    assert run_folder(folder).failures["sampler_0"] == f"{path}: lacks mask_token_id"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "cases.json").unlink(), "cases.json does not exist"),
        (lambda f: (f / "cases.json").write_text("{}"), "format None is not 'goldens-1'"),
        (lambda f: (f / "cases.safetensors").write_bytes(b"no"), "cases.safetensors: cannot"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
        (
            lambda f: (f / "cases.json").write_text('{"format":"goldens-1"}'),
            "cases.json: lacks 'family', 'forward', 'decode'",
        ),
        (lambda f: edit_cases(f, decode=3), "cases.json: 'decode' is not a list of cases"),
        (lambda f: edit_cases(f, decode=[3]), "cases.json: decode case 1 is not an object"),
        (lambda f: edit_cases(f, decode=[], forward=[]), "cases.json: holds no cases"),
        (
            lambda f: edit_case(f, "sampler_0", lambda c: c.pop("name")),
            "cases.json: decode case 1 lacks 'name'",
        ),
        (
            lambda f: edit_case(f, "sampler_0", lambda c: c.update(params=3)),
            "cases.json: case 'sampler_0': 'params' is not an object",
        ),
        (
            lambda f: edit_case(f, "sampler_0", lambda c: c["arrays"].update(canvas="gone")),
            "lacks 'gone', which case 'sampler_0' names",
        ),
    ],
)
def test_a_damaged_folder_fails_as_a_whole(
    folder: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(folder)
    found = run_folder(folder)
    assert (found.passed, found.failed) == (0, 1)
    assert words in found.failures["folder"]


def test_the_command_prints_a_line_for_each_folder_and_fails_with_one(folder: Path) -> None:
    (folder / "cases.json").write_text("{}")
    command = [sys.executable, "-m", "carrara.engines.goldens", GOLDENS / "ar_llama", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (good["family"], good["passed"], good["failed"], good["skipped"]) == (
        "ar_llama",
        9,
        0,
        0,
    )
    assert (bad["passed"], bad["failed"]) == (0, 1)
    assert done.returncode == 1
