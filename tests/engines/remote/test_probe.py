"""Probing tells what a server cannot do from what it could not do just now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from carrara.engines.errors import BadReply, EngineBusy, EngineError, Unreachable
from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.probe import Finding, Probed, preset_text, probe

Faults = Callable[[str, int], Any]
"""What stands in for the answer to a part of the probe (`part_of`), at its number from 0; None for the answer."""


def part_of(asked: Any) -> str:
    body = asked.body or {}
    if asked.path.endswith("/models"):
        return "model"
    if asked.path.endswith(("/decisions", "/tokenize")):
        return asked.path.rpartition("/")[2]
    for part in ("response_format", "structured_outputs", "logprobs", "seed", "stream"):
        if body.get(part):
            return part
    return "plain"


def able(net: Any, faults: Faults, counts: dict[str, int]) -> Any:
    """A server that has schemas, probabilities and a seed, but for its faults."""

    async def behave(asked: Any, writer: Any) -> None:
        part = part_of(asked)
        number = counts[part] = counts.get(part, -1) + 1
        await (faults(part, number) or usual(part))(asked, writer)

    def usual(part: str) -> Any:
        if part == "model":
            return net.answer({"data": [{"id": "small-1", "max_model_len": 2048}]})
        if part in ("decisions", "tokenize", "structured_outputs"):
            return net.answer({"error": {"message": "not here"}}, 404)
        if part == "stream":
            return net.pieces([net.events(net.deltas("Hello", "!"))])
        token = {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}
        more = {"logprobs": {"content": [token]}} if part == "logprobs" else {}
        text = '{"zebra": 4071, "note": "x"}' if part == "response_format" else "Hello!"
        return net.answer(net.chat(text, **more))

    return behave


def probed(
    net: Any, faults: Faults, model: str = "", **more: Any
) -> tuple[Probed, list[float], dict[str, int]]:
    """What comes of it, the waits, and the number of the last question about each part."""
    waits: list[float] = []
    counts: dict[str, int] = {}

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def run() -> Probed:
        async with net.Server([able(net, faults, counts)]) as server:
            base = Preset("far", "far", server.url, model=model, key_required=False)
            return await probe(base, Key(net.SECRET), sleep=sleep, **more)

    return asyncio.run(run()), waits, counts


def never(part: str, number: int) -> None:
    return None


def test_a_healthy_server_is_asked_once_and_known(net: Any) -> None:
    found, waits, _ = probed(net, never)
    preset = found.preset
    assert (preset.schema, preset.logprobs, preset.seed, preset.stream) == (
        "full",
        True,
        True,
        True,
    )
    assert (preset.model, preset.context_tokens, preset.checked) == ("small-1", 2048, "probed")
    assert (found.unknown, waits) == ({}, [])


@pytest.mark.parametrize(
    "part", ["model", "plain", "stream", "response_format", "logprobs", "seed"]
)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_fault_that_passes_is_asked_again(net: Any, part: str, status: int) -> None:
    busy = net.answer({"error": {"message": "slow down"}}, status, Retry_After="7")
    found, waits, _ = probed(net, lambda p, n: busy if p == part and n == 0 else None)
    whole, _, _ = probed(net, never)
    here = replace(found.preset, base_url=whole.preset.base_url)
    assert here == whole.preset
    assert (found.unknown, waits) == ({}, [7.0])


@pytest.mark.parametrize(
    ("part", "what", "field"),
    [
        ("response_format", "schema", "schema"),
        ("logprobs", "logprobs", "logprobs"),
        ("seed", "seed", "seed"),
        ("stream", "stream", "stream"),
        ("structured_outputs", "pattern", "pattern"),
        ("decisions", "decisions", "decisions"),
        ("tokenize", "pins", "pins"),
    ],
)
def test_a_fault_that_stays_is_unknown_and_not_in_the_preset(
    net: Any, part: str, what: str, field: str
) -> None:
    broken = net.answer({"error": {"message": "worker died"}}, 503)
    found, waits, counts = probed(net, lambda p, n: broken if p == part else None)
    assert what in found.unknown
    assert "unknown: status 503 (worker died), 3 times" in found.unknown[what]
    assert waits[:2] == [1.0, 2.0]
    assert counts[part] >= 2
    text = preset_text(found.preset, "Probed.", *found.unknown.values())
    assert not [line for line in text.splitlines() if line.startswith(f"{field} = ")]
    assert f'checked = "probed, but for {what}' in text


def test_a_server_that_hangs_up_or_stalls_at_one_question_leaves_it_unknown(net: Any) -> None:
    faults = {"logprobs": net.hang_up, "seed": net.stall}
    found, _, counts = probed(net, lambda p, n: faults.get(p), timeout_s=0.2)
    assert set(found.unknown) == {"logprobs", "seed"}
    assert (counts["logprobs"], counts["seed"]) == (2, 1)  # a time-out is tried twice
    assert found.preset.schema == "full"
    assert found.preset.timeouts == Preset("", "", "").timeouts
    assert "the probe's --timeout of 0.2 s bounds that" in found.unknown["seed"]


def test_a_refusal_is_a_no_also_where_it_comes_as_a_500(net: Any) -> None:
    for status, words in ((400, "no"), (501, "no"), (500, "logprobs are not supported")):
        refusal = net.answer({"error": {"message": words}}, status)
        found, waits, _ = probed(net, lambda p, n, r=refusal: r if p == "logprobs" else None)
        assert (found.unknown, found.preset.logprobs, waits) == ({}, False, [])


def test_a_wait_that_is_too_long_is_not_waited_for(net: Any) -> None:
    later = net.answer({"error": {"message": "come back"}}, 429, Retry_After="3600")
    found, waits, counts = probed(net, lambda p, n: later if p == "seed" else None)
    assert (waits, counts["seed"]) == ([], 0)
    assert "asks to wait 3600 s" in found.unknown["seed"]
    with pytest.raises(EngineBusy, match="come back") as caught:
        probed(net, lambda p, n: later if p == "plain" else None)
    assert caught.value.retry_after_s == 3600


def test_waits_end_when_all_of_them_together_are_too_long(net: Any) -> None:
    later = net.answer({"error": {"message": "slow down"}}, 429, Retry_After="25")
    found, waits, _ = probed(net, lambda p, n: later if p not in ("model", "plain") else None)
    assert waits == [25.0] * 4
    assert len(found.unknown) >= 4


def test_a_quota_that_is_used_up_says_nothing_of_abilities(net: Any) -> None:
    spent = net.answer({"error": {"message": "insufficient_quota"}}, 429)
    found, waits, counts = probed(net, lambda p, n: spent if p == "response_format" else None)
    assert "schema" in found.unknown
    assert (waits, counts["response_format"]) == ([], 0)


def test_a_server_that_is_not_there_is_an_error_at_once() -> None:
    base = Preset("far", "far", "http://127.0.0.1:9/v1", key_required=False)
    with pytest.raises(Unreachable, match="Is the server running"):
        asyncio.run(probe(base, Key("")))


def test_the_key_travels_in_the_header_that_is_named_and_is_never_shown(net: Any) -> None:
    async def run() -> tuple[Probed, Any]:
        async with net.Server([able(net, never, {})]) as server:
            base = Preset("far", "far", server.url).but({"key_header": "api-key"}, "test")
            return await probe(base, Key(net.SECRET)), server

    found, server = asyncio.run(run())
    assert all(one.headers["api-key"] == net.SECRET for one in server.asked)
    assert not any("authorization" in one.headers for one in server.asked)
    text = preset_text(found.preset, "Probed.")
    assert 'key_header = "api-key"' in text
    assert net.SECRET not in text


@pytest.mark.parametrize(
    ("model", "listing", "seen"),
    [
        (
            "",
            ({"error": {"message": "no such page"}}, 404),
            "none (no list of models: no such page)",
        ),
        ("", ({"data": None},), "none (the server lists no model)"),
        ("", ({"data": 5},), "none (the server lists no model)"),
        ("big-1", ({"data": [{"id": "small-1"}]},), "big-1 (the server lists none of that name)"),
    ],
)
def test_a_model_that_no_list_names_is_told_with_the_reason(
    net: Any, model: str, listing: tuple[Any, ...], seen: str
) -> None:
    told: list[Finding] = []
    found, _, _ = probed(
        net, lambda p, n: net.answer(*listing) if p == "model" else None, model, tell=told.append
    )
    assert told[0].seen == seen
    assert found.preset.model == model


def test_a_denied_key_is_an_error_that_does_not_show_it(net: Any) -> None:
    denied = net.answer({"error": {"message": f"wrong key {net.SECRET}"}}, 401)
    with pytest.raises(EngineError, match="Check the key") as caught:
        probed(net, lambda p, n: denied)
    assert net.SECRET not in str(caught.value)


def test_an_error_or_another_format_with_status_200_is_named(net: Any) -> None:
    busy = net.answer({"error": {"message": "slow down", "code": 429}}, Retry_After="3600")
    with pytest.raises(EngineBusy, match="answered 429: slow down"):
        probed(net, lambda p, n: busy if p == "plain" else None)
    with pytest.raises(BadReply, match="another format: there is no choice"):
        probed(net, lambda p, n: net.answer({"id": "1"}) if p == "plain" else None)
