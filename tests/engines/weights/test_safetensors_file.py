"""Safetensors written by hand are read by the library, and damage is seen from the lengths alone."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file

from carrara.engines.errors import LoadingError
from carrara.engines.weights.safetensors_file import bf16, check, write_bf16


def written(path: Path) -> Path:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(5, np.float32)}
    shapes = {name: t.shape for name, t in tensors.items()}
    write_bf16(path, shapes, lambda name: [tensors[name]])
    return path


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    found = load_file(written(tmp_path / "model.safetensors"))
    assert torch.equal(found["a"], torch.arange(6).reshape(2, 3).to(torch.bfloat16))
    assert torch.equal(found["b"], torch.ones(5, dtype=torch.bfloat16))


@given(
    arrays.arrays(
        np.float32, st.integers(0, 40), elements=st.floats(-(2.0**126), 2.0**126, width=32)
    )
)
def test_bf16_rounds_as_torch_does(values: np.ndarray) -> None:
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy()
    assert bf16(values) == expected.astype("<i2").tobytes()


def test_slabs_that_do_not_add_up_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a'"):
        write_bf16(tmp_path / "x", {"a": (2, 3)}, lambda _: [np.ones(5, np.float32)])


@pytest.mark.parametrize("cut", [0, 4, 8, 30, -1])
def test_a_truncated_file_is_named(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LoadingError, match=r"model\.safetensors"):
        check(path)


def test_a_file_with_something_behind_its_end_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors")
    check(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(LoadingError, match="promises"):
        check(path)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_loading_error_and_no_other(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(LoadingError):
        Path(file.name).write_bytes(content)
        check(Path(file.name))
