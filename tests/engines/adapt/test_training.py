"""Trainings learn, stop at any moment, and go on as if nothing had happened."""

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.adapt import checkpoint
from carrara.engines.adapt.evaluate import decode_rows
from carrara.engines.adapt.export import export
from carrara.engines.adapt.job import Order, adapt, settings_of
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.rows import read_rows
from carrara.engines.adapt.train import Training
from carrara.engines.errors import CarraraError, LoadingError
from tests.engines.adapt.conftest import SMALL


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in training.network.trained().items()}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_losses_fall(make: Callable[..., Training], method: str) -> None:
    lines: list[Any] = []
    rate = 5e-3 if method == "lora" else 3e-3
    training = make(steps=40, method=method, learning_rate=rate)
    training.log = lines.append
    assert training.run()
    first, last = lines[:5], lines[-5:]
    for loss in ("denoised_loss", "causal_loss"):
        assert sum(line[loss] for line in last) < 0.8 * sum(line[loss] for line in first)


def test_two_lanes_train_what_one_trains_and_leave_the_threads_as_they_were(
    make: Callable[..., Training],
) -> None:
    alone = make("alone")
    alone.run()
    torch.set_num_threads(2)
    beside = make("beside")
    beside.run()
    assert torch.get_num_threads() == 2
    for name, value in weights(alone).items():
        torch.testing.assert_close(value, weights(beside)[name], atol=1e-6, rtol=1e-4)


def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    make: Callable[..., Training],
) -> None:
    whole = make("whole")
    whole.run()
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    cut = make("cut")
    cut.clock, cut.deadline_s = clock, 9.0
    assert not cut.run()
    assert 0 < cut.progress.step < 6
    again = make("cut")
    found = checkpoint.find(again.path)
    assert found is not None
    again.resume(found)
    assert again.progress.step == cut.progress.step
    assert again.run()
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name


def test_worker_processes_feed_the_same_batches(make: Callable[..., Training]) -> None:
    here, there = make("a").feed.steps(), make("b", workers=1).feed.steps()
    for _ in range(3):
        assert next(here) == next(there)
    there.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("left", [".new", ".old"])
def test_a_checkpoint_that_was_being_replaced_is_found(
    make: Callable[..., Training], left: str
) -> None:
    training = make()
    training.save()
    training.path.rename(training.path.with_name("checkpoint" + left))
    found = checkpoint.find(training.path)
    assert found is not None
    assert checkpoint.restore(found, training.network.trained(), training.optimizer).step == 0


def test_a_half_written_checkpoint_is_passed_over(make: Callable[..., Training]) -> None:
    training = make()
    training.save()
    whole = training.path.with_name("checkpoint.old")
    shutil.copytree(training.path, whole)
    damaged = training.path / checkpoint.TENSORS_FILE
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert checkpoint.find(training.path) == whole


def test_a_checkpoint_of_another_recipe_is_refused(make: Callable[..., Training]) -> None:
    make("one").save()
    other = make("one", rank=2)
    with pytest.raises(LoadingError, match="another shape"):
        other.resume(other.path)


def test_a_pool_without_anything_to_train_on_says_why(
    make: Callable[..., Training], data: Path
) -> None:
    row = {"prompt": "x", "response": "b", "contract": {"kind": "choice", "options": ["b"]}}
    data.write_text(json.dumps({**row, "prompt": "x " * 900}) + "\n")
    with pytest.raises(CarraraError, match=r"none of 1 rows can be trained on \(1 too long"):
        next(make().feed.steps())


def test_what_was_learnt_is_decoded_by_the_engine(
    make: Callable[..., Training], tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    training = make(steps=130, method="full", learning_rate=3e-3, edits=0.0, all_noise=0.7)
    assert training.run()
    out = tmp_path / "model"
    export(training.network, tiny_folder, out, "m", settings_of(training.network.recipe), (4, 3))
    rows = list(read_rows(data))
    scores = decode_rows(tiny_folder, out, "full", rows)
    assert scores["colour"]["exact"] == 1.0
    assert scores["people"]["leaves"] >= 0.3
    assert scores["people"]["answered"] == 4


def test_an_order_is_carried_out_and_resumed(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    recipe = Recipe.of({**SMALL, "steps": 3})
    order = Order(str(tiny_folder), data, tmp_path / "out", recipe, dev=data, dev_rows=1)
    stopped = adapt(Order(str(tiny_folder), data, tmp_path / "out", recipe, minutes=0.0))
    assert not stopped.done
    with pytest.raises(CarraraError, match="earlier training"):
        adapt(order)
    lines: list[Any] = []
    result = adapt(
        Order(str(tiny_folder), data, tmp_path / "out", dev=data, dev_rows=1, resume=True),
        lines.append,
    )
    assert result.done
    assert result.steps == 3
    assert {path.name for path in result.files} == {
        "adapter_model.safetensors", "adapter_config.json", "diffusion.json", "losses.png",
    }  # fmt: skip
    assert (tmp_path / "out" / "training" / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert set(result.scores) == {"people", "colour", "talk"}
    logged = (tmp_path / "out" / "training" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in logged[-len(lines) :]] == lines
    with pytest.raises(CarraraError, match="no checkpoint to resume"):
        adapt(Order(str(tiny_folder), data, tmp_path / "new", resume=True))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "rows.jsonl:2: not JSON"),
        ("[]", "rows.jsonl:2: a row is a JSON object, not list"),
        ('{"prompt": "x"}', "rows.jsonl:2: has no 'response'"),
        ('{"prompt": "x", "response": "y", "label": 1}', r"rows.jsonl:2: unknown keys \['label'\]"),
        ('{"response": "y"}', "rows.jsonl:2: a row has either 'prompt' or 'messages'"),
        ('{"prompt": 3, "response": "y"}', "rows.jsonl:2: 'prompt' is not a string"),
        ('{"messages": [{"role": "user"}], "response": "y"}', "rows.jsonl:2: 'messages' is a list"),
        (
            '{"messages": [{"role": "bot", "content": "x"}], "response": "y"}',
            "rows.jsonl:2: message 1 has the role 'bot'; use system, user, assistant",
        ),
        (
            '{"messages": [{"role": "user", "content": 3}], "response": "y"}',
            "rows.jsonl:2: the content of message 1 is not a string",
        ),
        ('{"messages": [], "response": "y"}', "rows.jsonl:2: 'messages' is empty"),
        (
            '{"prompt": "x", "response": "y", "contract": {"kind": "tree"}}',
            "rows.jsonl:2: unknown contract",
        ),
        (
            '{"prompt": "x", "response": "y", "contract": {"kind": "choice", "options": ["a", "b"]}}',
            "rows.jsonl:2: 'y' is none of a, b",
        ),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n' + line + "\n")
    with pytest.raises(LoadingError, match=told):
        list(read_rows(path))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.xz"])
def test_a_byte_that_is_not_utf8_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    raw = b'{"prompt": "a", "response": "b"}\n' * 900 + b'{"prompt": "\xff", "response": "b"}\n'
    (tmp_path / name).write_bytes(lzma.compress(raw) if name.endswith("xz") else raw)
    with pytest.raises(LoadingError, match=rf"{name}:901: not UTF-8: byte 0xff at position 13"):
        list(read_rows(tmp_path / name))


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "town": {"type": ["string", "null"]}},
    "required": ["name", "town"],
}
PEOPLE = {"kind": "json", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("response", "contract", "told"),
    [
        ({"name": 3, "town": None}, PEOPLE, "3"),
        ({"town": "Oslo"}, PEOPLE, "name"),
        (3, {"kind": "choice", "options": ["3", "4"]}, "3"),
        ([{"a": 1}], {"kind": "table", "columns": [{"name": "b"}]}, "a"),
    ],
)
@pytest.mark.parametrize("to", ["data", "dev"])
def test_an_answer_that_does_not_hold_to_its_contract_ends_it_before_the_training(
    tiny_folder: Path, data: Path, tmp_path: Path, to: str, response: Any, contract: Any, told: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    row = json.dumps({"prompt": "x", "response": response, "contract": contract})
    bad.write_text(data.read_text() + row + "\n")
    files = {"data": data, to: bad}
    recipe = Recipe.of({**SMALL, "steps": 1})
    order = Order(str(tiny_folder), files["data"], tmp_path / "out", recipe, files.get("dev"))
    with pytest.raises(LoadingError, match=rf"bad.jsonl:9: .*{told}"):
        adapt(order)
    assert not (tmp_path / "out").exists()


def test_a_null_that_an_answer_leaves_out_is_written_for_it(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    data.write_text(json.dumps({"prompt": "x", "response": {"name": "A"}, "contract": PEOPLE}))
    recipe = Recipe.of({**SMALL, "steps": 1})
    assert adapt(Order(str(tiny_folder), data, tmp_path / "out", recipe)).done


def test_a_row_that_is_left_out_is_counted_once(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "x " * 900, "response": "b"}) + "\n")
    lines: list[Any] = []
    recipe = Recipe.of({**SMALL, "steps": 12})
    adapt(Order(str(tiny_folder), data, tmp_path / "out", recipe), lines.append)
    told = [(line["too_long"], line["unfit"]) for line in lines if line.get("event") == "left out"]
    assert told == [(1, 0)]


def test_an_empty_or_missing_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "cut.jsonl.xz").write_bytes(b"\xfd7zXZ")
    for name in ("empty.jsonl", "missing.jsonl", "cut.jsonl.xz"):
        with pytest.raises(LoadingError, match=name):
            list(read_rows(tmp_path / name))


@pytest.mark.parametrize(
    "numbers",
    [{"steps": 0}, {"warmup": 2.0}, {"slot_tokens": [0, 3]}, {"method": "magic"}, {"ranks": 3}],
)
def test_a_recipe_out_of_range_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(CarraraError):
        Recipe.of(numbers)
