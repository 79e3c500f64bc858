"""A key is never shown: not in errors, representations, logs, nor in anything that a run writes."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrara
from carrara.engines.contract import Choice
from carrara.engines.errors import EngineError, LoadingError
from carrara.engines.remote.configured import lacks
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key, bare_url, find_key
from carrara.engines.remote.preset import presets
from carrara.engines.remote.told import quoted, told
from carrara.engines.request import Message, Request
from carrara.runtime.routing.policy import Policy, Rule
from tests.engines.remote.conftest import chat

FLOW = """
name: flow
steps:
  mood: {llm: "Which mood has: hi?", returns: {one_of: [glad, sad]}}
  text: {llm: "Say {{ mood }}."}
outputs: {mood: "{{ mood }}", text: "{{ text }}"}
"""


def test_a_key_shows_itself_in_no_way(net: Any) -> None:
    key = Key(net.SECRET)
    shown = [
        repr(key),
        str(key),
        f"{key}",
        f"{key!r:>20}",
        repr([key]),
        repr({"k": key}),
    ]
    assert not any(net.SECRET in one for one in shown)
    assert key.reveal() == net.SECRET
    assert not hasattr(key, "__dict__")
    for give_away in (lambda: pickle.dumps(key), lambda: copy.copy(key), lambda: json.dumps(key)):
        with pytest.raises(TypeError):
            give_away()


def test_an_engine_shows_no_key(net: Any) -> None:
    engine = RemoteEngine("x", presets()["openai"], key=Key(net.SECRET))
    assert net.SECRET not in repr(engine) + engine.fingerprint + engine.health().line + repr(
        engine.preset
    )


@given(
    st.text(), st.text(min_size=12, alphabet=st.characters(codec="ascii", categories=("L", "N")))
)
def test_scrubbing_leaves_nothing_of_a_key(around: str, secret: str) -> None:
    key = Key(secret)
    assert secret not in key.scrub(f"{around}{secret}{around}{secret}")
    assert secret[:8] not in key.scrub(f"{around} {secret[:8]}****{secret[-4:]}").replace(
        around, ""
    )


@given(st.text(), st.text(min_size=1, alphabet="ab*-"))
def test_a_key_of_any_length_is_scrubbed(around: str, secret: str) -> None:
    scrubbed = Key(secret).scrub(f"{around}{secret}{secret}{around}")
    assert secret not in scrubbed or not secret.strip("*")


def by_one_pattern(secret: str, text: str) -> str:
    """What scrubbing means, told by two searches; they take quadratic time."""
    text = text.replace(secret, "***")
    if len(secret) >= 12:
        for part in (secret[:8], secret[-8:]):
            text = re.sub(rf"[\w*-]*{re.escape(part)}[\w*-]*", "***", text)
    return text


@given(
    st.text("ab.-", min_size=1, max_size=14).flatmap(
        lambda secret: st.tuples(
            st.just(secret),
            st.lists(
                st.sampled_from([secret, secret[:8], secret[-8:], secret[3:], "a", ".", "*", " "])
                | st.text("ab.*-\n é", max_size=4),
                max_size=8,
            ),
        )
    )
)
def test_scrubbing_takes_out_a_key_its_ends_and_the_words_around_them(
    case: tuple[str, list[str]],
) -> None:
    secret, parts = case
    assert Key(secret).scrub("".join(parts)) == by_one_pattern(secret, "".join(parts))


@pytest.mark.parametrize("fill", ["a", "sk-test-", "*", "-secret ", "sk-test.", "<", "\u00e9"])
def test_a_long_text_is_scrubbed_in_time_by_its_length(net: Any, fill: str) -> None:
    text = fill * (1_000_000 // len(fill))  # for half an hour in quadratic time
    for around in (f"{text}{net.SECRET}{text}", text):
        for said in (Key(net.SECRET).scrub(around), told(503, {}, around, Key(net.SECRET)).message):
            assert net.SECRET[:8] not in said
            assert net.SECRET[-8:] not in said
    assert Key("a***b").scrub("a" * 300_000 + "a***b" + "b" * 300_000).count("a***b") == 0


def test_of_a_long_message_only_its_beginning_is_looked_at(net: Any) -> None:
    sizes: list[int] = []

    class Counting(Key):
        def scrub(self, text: str) -> str:
            sizes.append(len(text))
            return super().scrub(text)

    assert quoted("word " * 200_000, Counting(net.SECRET)).startswith("word word")
    assert sum(sizes) < 5_000


@given(
    st.integers(0, 320), st.sampled_from(["sk-test-0123456789abcdef", "sk.a/b.c/d.e/f.g", "a.b"])
)
def test_a_key_at_the_border_of_what_is_quoted_is_not_shown_in_part(
    before: int, secret: str
) -> None:
    for filling in ("x " * before, "\n" * 8 * before, "x" * before + " ", f"{secret} " * before):
        for body in (
            f"{filling}{secret} {'y ' * 4000}",
            json.dumps({"error": {"x": filling + secret}}),
        ):
            said = told(400, {}, body, Key(secret)).message
            assert not any(
                secret[:size] in said for size in range(min(4, len(secret)), len(secret))
            )


@pytest.mark.parametrize("value", ["sk-\u2013dash", "sk-two\nlines", "schlüssel"])
def test_a_key_that_no_header_takes_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(LoadingError, match="OPENAI_API_KEY holds no key") as caught:
        find_key("OPENAI_API_KEY")
    assert value not in str(caught.value)
    missing, fix = lacks("openai", presets()["openai"])
    assert missing == "OPENAI_API_KEY holds no key"
    assert "export OPENAI_API_KEY" in fix


def test_a_key_comes_from_the_environment_then_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"SOME_KEY": "from-the-ring"}
    monkeypatch.setenv("SOME_KEY", " from-the-environment\n")
    assert find_key("SOME_KEY", held.get).reveal() == "from-the-environment"
    monkeypatch.delenv("SOME_KEY")
    assert find_key("SOME_KEY", held.get).reveal() == "from-the-ring"
    assert not find_key("OTHER_KEY", held.get)
    assert not find_key("", held.get)


def test_an_engine_without_its_key_says_how_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def enter() -> None:
        async with RemoteEngine("openai", presets()["openai"]):
            pass

    with pytest.raises(LoadingError, match="export OPENAI_API_KEY"):
        asyncio.run(enter())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pass@host:8443/v1?key=abc#x", "https://host:8443/v1"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
        ("http://host:port/v1", "(not a URL)"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert bare_url(url) == shown


def test_an_error_that_repeats_the_key_is_scrubbed(net: Any) -> None:
    told = f"Incorrect API key provided: {net.SECRET}. Also {net.SECRET[:8]}***{net.SECRET[-4:]}"
    for status, body in ((401, {"error": {"message": told, "code": net.SECRET}}), (500, told)):
        with pytest.raises(EngineError) as caught:
            net.complete(net.answer(body, status))
        whole = "".join(traceback.format_exception(caught.value))
        assert net.SECRET not in whole
        assert net.SECRET[:8] not in str(caught.value)
    for broken in (
        net.answer(f"{{{net.SECRET}"),
        net.pieces([f"data: {{{net.SECRET}\n\n".encode()]),
    ):
        with pytest.raises(EngineError) as caught:
            net.complete(broken, watch=lambda progress: None)
        assert net.SECRET not in str(caught.value)


def odd_part(word: str) -> dict[str, Any]:
    """An answer that is no text, with a word of the server where its kind should stand."""
    choice = {"finish_reason": word, "message": {"content": [{"type": word}]}}
    return {"choices": [choice]}


@pytest.mark.parametrize(
    ("preset", "body"),
    [
        ({}, odd_part),
        ({"decisions": True}, lambda word: {"answers": [{"choice": word}]}),
        (
            {"wire": "gemini"},
            lambda word: {"candidates": [{"finishReason": word, "content": {"parts": []}}]},
        ),
    ],
)
@pytest.mark.parametrize("before", [0, 20, 30, 280])
def test_an_answer_in_another_format_that_repeats_the_key_is_scrubbed(
    preset: dict[str, Any], body: Any, before: int, net: Any
) -> None:
    answer = net.answer(body(f"{'x' * before}, Bearer {net.SECRET}"))
    with pytest.raises(EngineError) as caught:
        net.complete(answer, output=Choice(("glad", "sad")), preset=net.PLAIN.but(preset, "test"))
    told = "".join(traceback.format_exception(caught.value))
    assert f"{'x' * before}, Bearer ***" in told
    for part in (net.SECRET, net.SECRET[:8], net.SECRET[-8:]):
        assert part not in told


@pytest.mark.parametrize(
    ("preset", "body"),
    [
        ({}, lambda name: {**chat("glad"), "model": name}),
        ({"decisions": True}, lambda name: {"answers": [{"choice": "glad"}], "model": name}),
        (
            {"wire": "gemini"},
            lambda name: {
                "candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "glad"}]}}],
                "modelVersion": name,
            },
        ),
    ],
)
def test_a_key_that_a_server_says_in_place_of_its_model_is_not_shown(
    preset: dict[str, Any], body: Any, net: Any
) -> None:
    completion, _, _ = net.complete(
        net.answer(body(f"m-{net.SECRET}")),
        output=Choice(("glad", "sad")),
        preset=net.PLAIN.but(preset, "test"),
    )
    assert (completion.text, completion.model) == ("glad", "m-***")


def test_a_model_that_is_listed_by_the_key_is_not_shown(net: Any) -> None:
    async def run() -> tuple[Any, str]:
        listed, said = {"data": [{"id": net.SECRET}]}, {**chat("Hi!"), "model": net.SECRET}
        async with net.Server([net.answer(listed), net.answer(said)]) as server:
            preset = net.PLAIN.but({"base_url": server.url, "model": ""}, "test")
            async with RemoteEngine("test", preset, key=Key(net.SECRET)) as engine:
                request = Request((Message("user", "Say it."),))
                return await engine.complete(request), engine.health().line

    completion, line = asyncio.run(run())
    assert (completion.text, completion.model) == ("Hi!", "***")
    assert line.startswith("test: *** at http")


@pytest.mark.parametrize("header", ["", "Authorization", "api-key", "X-Api-Key", "X-My-Gateway"])
def test_nothing_that_a_run_writes_holds_the_key(
    header: str,
    net: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECRET_KEY", net.SECRET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.yaml").write_text(FLOW)
    echoed = {"error": {"message": f"bad key {net.SECRET}, slow down", "type": "x"}}
    caplog.set_level(logging.DEBUG)
    events: list[Any] = []

    def carrying(asked: Any) -> list[str]:
        return [name for name, value in asked.headers.items() if net.SECRET in value]

    async def run(behaviours: list[Any], cassette: str) -> Any:
        async with net.Server(behaviours) as server:
            config = f'[engines.far]\npreset = "openai"\nbase_url = "{server.url}"\nkey_env = "SECRET_KEY"\n'
            config += f'key_header = "{header}"\n'
            (tmp_path / "carrara.toml").write_text(config)
            result = await carrara.run(
                carrara.load_workflow("flow.yaml"),
                engines=["far"],
                policy=Policy(rules=(Rule(("far",)),), break_after=1, break_s=0.1),
                journal=tmp_path / "runs.db",
                record=tmp_path / cassette,
                listeners=[events.append],
            )
            assert all(
                carrying(one) == [(header or "authorization").lower()] for one in server.asked
            )
            return result

    glad = net.answer(net.chat('{"answer": "glad"}'))
    answers = [net.answer(echoed, 429, Retry_After="0"), glad, net.answer(net.chat("Hi!"))]
    result = asyncio.run(run(answers, "calls.cassette"))
    assert result.value == {"mood": "glad", "text": "Hi!"}
    with pytest.raises(carrara.RunError) as caught:
        asyncio.run(run([net.answer(echoed, 500)], "failed.cassette"))
    shown = [
        "".join(traceback.format_exception(caught.value)),
        caplog.text,
        *capfd.readouterr(),
        repr(events),
        repr(result),
    ]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"runs.db", "calls.cassette"} <= {path.name for path in written}
    for part in (net.SECRET, net.SECRET[:10], net.SECRET[-10:]):
        assert not [one[:200] for one in shown if part in one]
        assert not [path.name for path in written if part.encode() in path.read_bytes()]
