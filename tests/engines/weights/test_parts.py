"""Files travel in parts and arrive whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.errors import LoadingError
from carrara.engines.weights.parts import LIST_FILE, join, main, split


@given(content=st.binary(max_size=300), size=st.integers(1, 100))
def test_a_file_comes_back_from_its_parts(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "file").write_bytes(content)
    written = split(folder / "file", folder / "cut", size)
    assert all(path.stat().st_size <= size for path in written[:-1])
    assert join(folder / "cut", folder / "again").read_bytes() == content


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    split(tmp_path / "file", tmp_path / "cut", 40)
    return tmp_path / "cut"


def test_a_damaged_part_is_named_and_nothing_is_left(cut: Path, tmp_path: Path) -> None:
    (cut / "file.001").write_bytes(b"x" * 40)
    with pytest.raises(LoadingError, match=r"file\.001: damaged"):
        join(cut, tmp_path / "again")
    assert not list(tmp_path.glob("again*"))


def test_a_missing_part_or_list_is_named(cut: Path, tmp_path: Path) -> None:
    (cut / "file.002").unlink()
    with pytest.raises(LoadingError, match=r"file\.002: this part is missing"):
        join(cut, tmp_path / "again")
    (cut / LIST_FILE).unlink()
    with pytest.raises(LoadingError, match=LIST_FILE):
        join(cut, tmp_path / "again")


def test_the_command_splits_and_joins(cut: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["split", str(tmp_path / "file"), str(tmp_path / "two"), "--mb", "0.00006"]) == 0
    assert main(["join", str(tmp_path / "two"), str(tmp_path / "again")]) == 0
    assert (tmp_path / "again").read_bytes() == bytes(range(100))
    assert main(["join", str(tmp_path / "none"), str(tmp_path / "again")]) == 1
    assert "error: " in capsys.readouterr().err
