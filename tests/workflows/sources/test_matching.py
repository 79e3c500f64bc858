"""Which files a glob means: names with brackets, links in a circle, what is no file."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.workflows.records import SourceError, read_records


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def keys(source: str | Path, folder: str | Path = "") -> list[str]:
    return [record.key for record in read_records(str(source), str(folder))]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x[1]/f.txt", ["x[1]/f.txt"]),
        ("x[1]/*.txt", ["x[1]/*.txt", "x[1]/f.txt"]),
        ("x[[]1]/f.txt", ["x[1]/f.txt"]),
        ("x[12]/f.txt", ["x1/f.txt", "x2/f.txt"]),
        ("x1/*.txt", ["x1/f.txt"]),
        ("**/x[1]/f.txt", ["x1/f.txt"]),
        ("x*/f.txt", ["x1/f.txt", "x2/f.txt", "x[1]/f.txt"]),
    ],
)
def test_a_name_with_brackets_that_is_there_means_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, found: list[str]
) -> None:
    here = tmp_path / "a[b]" / "c"
    write(here, "x[1]/f.txt", "x[1]/*.txt", "x1/f.txt", "x2/f.txt")
    assert keys(source, here) == found
    monkeypatch.chdir(here)
    assert keys(source) == found


def test_links_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path, "docs/a.txt", "docs/in/b.txt", "docs/.git/c.txt", "far/d.txt", "far/deep/e.txt")
    for name in ("loop", "in/up", "in/again"):
        (tmp_path / "docs" / name).symlink_to(tmp_path / "docs")
    (tmp_path / "docs/far").symlink_to(tmp_path / "far")
    (tmp_path / "far/back").symlink_to(tmp_path / "docs")
    found = ["docs/a.txt", "docs/far/d.txt", "docs/far/deep/e.txt", "docs/in/b.txt"]
    assert keys("docs/**/*.txt", tmp_path) == found
    assert keys("docs/**", tmp_path) == found
    assert keys("docs/loop/**/*.txt", tmp_path)[0] == "docs/loop/a.txt"


names = st.sampled_from(["a", "b", "c.txt", ".d"])
files = st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), max_size=8)
globs = st.lists(st.sampled_from(["**", "*", "a", "?", "*.txt", "[ab]"]), min_size=1, max_size=4)


@given(files, globs.map("/".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_without_links_a_glob_means_what_it_means_in_python(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], source: str
) -> None:
    folder = tmp_path_factory.mktemp("f")
    for path in paths:
        if (
            not any((folder / part).is_file() for part in Path(path).parents)
            and not (folder / path).exists()
        ):
            write(folder, path)
    usual = glob.glob(source, root_dir=folder, recursive=True)
    # Python matches a file called "a" with "a/**", as "a/".
    expected = sorted({path for path in usual if os.path.isfile(folder / path) and path[-1] != "/"})
    try:
        found = keys(source, folder)
    except SourceError:
        found = []
    assert found == expected


def test_what_matches_and_is_no_file_is_a_failed_record(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "inner/x.txt")
    (tmp_path / "b.txt").symlink_to("gone.txt")
    os.mkfifo(tmp_path / "c.txt")
    (tmp_path / "d.txt").symlink_to("inner")
    a, b, c = read_records("*.txt", str(tmp_path))
    assert (a.key, a.problem) == ("a.txt", None)
    assert (b.key, b.problem) == ("b.txt", "a link to 'gone.txt', which is not there")
    assert c.key == "c.txt"
    assert str(c.problem).startswith("a pipe, not a file")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("none.txt", "there is no file 'none.txt'"),
        ("none/*.txt", "no file matches 'none/.*'"),
        ("inner", "inner is a folder. Name its files"),
        ("gone.txt", r"gone\.txt: a link to 'x', which is not there"),
    ],
)
def test_a_source_that_is_no_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    write(tmp_path, "inner/x.txt")
    (tmp_path / "gone.txt").symlink_to("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=told):
        keys(source)
