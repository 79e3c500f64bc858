"""Record and replay on the command line: the same result without any engine, and a diff after a change."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_replay_needs_no_engine_and_gives_the_same_every_time(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    call = ("run", "greet.yaml", "--set", "name=Ada", "--replay", cassette)
    first = shell(*call, env={"CARRARA_HOME": str(shell.folder / "no-weights")})
    again = shell(*call)
    assert first.code == again.code == 0
    assert first.out == again.out


def test_a_miss_shows_what_is_asked_now_beside_what_was_recorded(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    ended = shell("run", "greet.yaml", "--set", "name=Alan", "--replay", cassette, "-q")
    assert ended.code == 1
    (error,) = ended.errors
    assert "step 'greet/greeting'" in error
    assert "-Greet Ada in a warm tone." in ended.err
    assert "+Greet Alan in a warm tone." in ended.err
    assert f"{cassette.name}:" in ended.err


def test_a_replay_loads_no_weights_package(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    shell.write("torch.py", "raise AssertionError('torch was imported')\n")
    ended = shell("run", "greet.yaml", "--set", "name=Ada", "--replay", cassette, "-q")
    assert ended.code == 0, ended.err


def test_an_engine_that_is_asked_for_must_be_in_the_cassette(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"})
    words = ("run", "greet.yaml", "--set", "name=Ada", "--replay", cassette, "--engine", "ar", "-q")
    ended = shell(*words)
    assert ended.code == 1
    assert "not 'ar' but 'diffusion' was asked this" in ended.err


def test_a_cassette_that_is_none_is_named(shell: Any) -> None:
    call = ("run", "greet.yaml", "--set", "name=Ada", "--replay")
    for content, reason in (
        ("", "the cassette is empty"),
        ("{}\n", ":1: not a line of a cassette"),
        ('{"cassette": "carrara", "version": 1}\n{"eng', ":2: not a line of a cassette"),
        (b"\x00\xff", ":1: not a line of a cassette"),
    ):
        shell.write("broken.cassette", content)
        ended = shell(*call, "broken.cassette")
        assert (ended.code, len(ended.errors)) == (2, 1)
        assert f"broken.cassette{reason}" in ended.err.replace(": the", "the")
    assert shell(*call, "absent.cassette").code == 2


def test_a_recording_that_cannot_be_written_is_an_error_before_the_run(shell: Any) -> None:
    ended = shell("run", "flows.py:quadruple", "--set", "number=1", "--record", "flows.py/calls")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "flows.py/calls" in ended.err


def test_a_recording_never_replaces_the_pipeline(shell: Any) -> None:
    before = shell.read("greet.yaml")
    ended = shell("run", "greet.yaml", "--set", "name=Ada", "--record", "greet.yaml", "-q")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "greet.yaml is there and is not a cassette" in ended.err
    assert shell.read("greet.yaml") == before


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2_folder")
def test_a_recording_of_the_embedded_engines_replays_without_them(shell: Any) -> None:
    call = ("run", "greet.yaml", "--set", "name=Ada", "-q")
    live = shell.cold(*call, "--record", "calls.cassette", env={"PYTHONWARNINGS": "default"})
    assert live.code == 0, live.err
    assert live.data["mood"] in {"glad", "sad"}
    replayed = shell(*call, "--replay", "calls.cassette", env={"CARRARA_HOME": "/nowhere"})
    assert (replayed.code, replayed.out) == (0, live.out)
