"""Reading GGUF: against the `gguf` package's own reader and the block formulas, and against damage."""

import contextlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.engines.errors import LoadingError
from carrara.engines.weights.gguf_file import GgufFile, dequantised

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def test_header_is_what_the_gguf_package_reads(tiny_model: Any) -> None:
    ours = GgufFile.open(tiny_model.path)
    theirs = gguf.GGUFReader(tiny_model.path)

    keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert {key: ours.metadata[key] for key in keys} == {
        key: theirs.fields[key].contents() for key in keys
    }
    assert {t.name: (t.data_offset, t.n_bytes, int(t.tensor_type)) for t in theirs.tensors} == {
        t.name: (t.offset, t.bytes, t.type) for t in ours.tensors.values()
    }
    assert ours.tensors["blk.0.ffn_down.weight"].shape == (64, 96)


def q4_1_by_hand(block: bytes) -> list[float]:
    scale, least = np.frombuffer(block[:4], "<f2").astype(np.float32)
    low, high = [byte & 15 for byte in block[4:]], [byte >> 4 for byte in block[4:]]
    return [float(scale * q + least) for q in low + high]


def q8_0_by_hand(block: bytes) -> list[float]:
    scale = np.frombuffer(block[:2], "<f2").astype(np.float32)[0]
    return [float(scale * q) for q in np.frombuffer(block[2:], np.int8)]


@pytest.mark.parametrize(
    ("name", "block_bytes", "by_hand"),
    [("blk.1.ffn_up.weight", 20, q4_1_by_hand), ("token_embd.weight", 34, q8_0_by_hand)],
)
def test_quantised_blocks_become_what_their_formula_says(
    tiny_model: Any, name: str, block_bytes: int, by_hand: Any
) -> None:
    file = GgufFile.open(tiny_model.path)
    tensor = file.tensors[name]
    raw = file.raw_rows(tensor)

    found = np.concatenate(list(dequantised(raw, tensor)))

    blob = raw.tobytes()
    blocks = [blob[i : i + block_bytes] for i in range(0, len(blob), block_bytes)]
    expected = np.array([by_hand(block) for block in blocks], np.float32).reshape(tensor.shape)
    np.testing.assert_array_equal(found, expected)


def test_slabs_do_not_change_the_values(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = GgufFile.open(tiny_model.path)
    tensor = file.tensors["blk.0.ffn_gate.weight"]
    whole = np.concatenate(list(dequantised(file.raw_rows(tensor), tensor)))
    monkeypatch.setattr("carrara.engines.weights.gguf_file._SLAB_WEIGHTS", 5 * 64)

    slabs = list(dequantised(file.raw_rows(tensor), tensor))

    assert [len(slab) for slab in slabs[-2:]] == [5, 1]
    np.testing.assert_array_equal(np.concatenate(slabs), whole)


@relaxed
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tiny_model: Any, tmp_path: Path, cut: float) -> None:
    whole = tiny_model.path.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(LoadingError, match=r"cut\.gguf"):
        GgufFile.open(path)


@relaxed
@given(place=st.integers(0, 3000), byte=st.integers(0, 255))
def test_damage_in_the_header_gives_a_loading_error_or_nothing(
    tiny_model: Any, tmp_path: Path, place: int, byte: int
) -> None:
    damaged = bytearray(tiny_model.path.read_bytes())
    damaged[place] = byte
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    with contextlib.suppress(LoadingError):
        GgufFile.open(path)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "not a GGUF"), (b"GGUF\x09\0\0\0" + b"\0" * 16, "version 9")]
)
def test_another_kind_of_file_is_named_as_such(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(LoadingError, match=words):
        GgufFile.open(path)
