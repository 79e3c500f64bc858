"""A job that goes on asks the engines that it was begun with, unless the command line says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrara.cli.how import How
from carrara.cli.who import Who
from carrara.workflows.cluster.plan import OnRay
from carrara.workflows.job import Job
from tests.cli.test_engines import Server, serving

TWO = """
name: two
inputs: {text: str}
engines:
  good: {preset: carrara-server, base_url: "URL", model: good}
  bad: {preset: carrara-server, base_url: "URL", model: bad}
steps:
  said:
    llm: "Say {{ text }}"
outputs: {said: "{{ said }}"}
"""
WORDS = ("run", "two.yaml", "-i", "in.jsonl", "-o", "out.jsonl")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def begun(shell: Any, server: Server) -> Any:
    """A job that was begun with one engine, and whose prompt has changed since."""
    pipeline = TWO.replace("URL", server.url)
    shell.write("two.yaml", pipeline)
    shell.write("in.jsonl", '{"text": "a"}\n')
    ended = shell(*WORDS, "--engine", "good")
    assert ended.code == 0, ended.err
    shell.write("two.yaml", pipeline.replace("Say", "Tell"))
    server.asked.clear()
    return shell


def asked(server: Server) -> set[str]:
    return {body["model"] for body in server.asked}


@pytest.mark.parametrize(
    "words",
    [("resume", "last", "--accept-changes"), (*WORDS, "--resume", "--accept-changes")],
    ids=["resume", "run"],
)
def test_a_job_goes_on_with_the_engine_that_it_was_begun_with(
    begun: Any, server: Server, words: tuple[str, ...]
) -> None:
    ended = begun(*words)
    assert ended.code == 0, ended.err
    assert asked(server) == {"good"}
    assert "was begun with" not in ended.err


def test_the_command_that_is_printed_names_the_engine(begun: Any, server: Server) -> None:
    told = begun(*WORDS, "--resume", "--engine", "good").err
    assert " --accept-changes --engine good` makes them again" in told


def test_another_engine_is_asked_where_it_is_named_and_that_is_told(
    begun: Any, server: Server
) -> None:
    ended = begun("resume", "last", "--accept-changes", "--engine", "bad")
    assert ended.code == 0, ended.err
    assert asked(server) == {"bad"}
    told = "the job was begun with --engine good and goes on with --engine bad"
    assert told in ended.err.replace("\n", " ")


def how(engine: str = "auto", **more: Any) -> How:
    who = {name: more.pop(name) for name in ("quick", "policy") if name in more}
    return How(Who(engine, **who), None, None, False, **more)


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        (how(), "resume r"),
        (how("a,b", quick=False), "resume r --engine a,b --no-quick"),
        (how(policy=Path("/my rules.yaml"), quick=True), "resume r --quick --policy '/my rules.yaml'"),
        (how(on=OnRay(workers=2, gpus=0.25)), "resume r --on ray --workers 2 --gpus 0.25"),
        (How(Who(), None, Path("calls"), False), "resume r --replay calls"),
        (how("a", journal="j.db", accepts=True), "resume r --accept-changes --engine a --journal j.db"),
    ],
)  # fmt: skip
def test_the_command_that_goes_on_has_what_is_not_the_default(settings: How, command: str) -> None:
    assert settings.to_go_on("r") == f"`carrara {command}`"


def test_a_job_keeps_who_answers_for_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = Who("a", quick=True, policy=Path("rules.yaml")).kept
    assert begun == {"engine": "a", "quick": True, "policy": str(tmp_path / "rules.yaml")}
    job = Job("f.py:f", "in.jsonl", "out.jsonl", answered_by=begun)
    assert Job.from_source(job.source).answered_by == begun
    assert Who().as_begun(begun).kept == begun
    other = Who("b", told=frozenset({"engine"})).as_begun(begun)
    assert other.words == ["--engine b", f"--policy {tmp_path}/rules.yaml"]
