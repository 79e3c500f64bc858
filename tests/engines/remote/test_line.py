"""The pool bounds what is asked at once, proxies of the environment are used, the system's keyring is asked."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest

from carrara.engines.errors import EngineBusy
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key, find_key
from carrara.engines.request import Message, Request

ASK = Request((Message("user", "x"),))


def test_at_most_so_many_connections_are_open_at_once(net: Any) -> None:
    async def run() -> int:
        now = most = 0

        async def behave(asked: Any, writer: Any) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            await net.answer(net.chat("hi"))(asked, writer)

        async with net.Server([behave]) as server:
            preset = net.PLAIN.but({"base_url": server.url, "concurrency": 3}, "test")
            async with RemoteEngine("test", preset, key=Key("")) as engine:
                await asyncio.gather(*(engine.complete(ASK) for _ in range(12)))
        return most

    assert asyncio.run(run()) == 3


def test_a_full_pool_is_a_busy_engine(net: Any) -> None:
    async def run() -> None:
        async with net.Server([net.stall]) as server:
            changes = {"base_url": server.url, "concurrency": 1, "timeouts": {"pool_s": 0.02}}
            async with RemoteEngine("test", net.PLAIN.but(changes, "test"), key=Key("")) as engine:
                first = asyncio.create_task(engine.complete(ASK))
                await server.came.wait()
                with pytest.raises(EngineBusy, match="all connections") as caught:
                    await engine.complete(ASK)
                assert caught.value.phase == "connect"
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)

    asyncio.run(run())


def test_the_proxy_of_the_environment_is_used(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Any:
        async with net.Server([net.answer(net.chat("hi"))]) as server:
            monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
            monkeypatch.delenv("NO_PROXY", raising=False)
            preset = net.PLAIN.but({"base_url": "http://far.invalid/v1"}, "test")
            async with RemoteEngine("test", preset, key=Key("")) as engine:
                await engine.complete(ASK)
            return server.asked[0].path

    assert asyncio.run(run()) == "http://far.invalid/v1/chat/completions"


@pytest.mark.parametrize("trouble", [None, "KeyringError"])
def test_the_keyring_is_asked_under_the_variables_name(
    trouble: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")

    class KeyringError(Exception):
        pass

    def get_password(service: str, name: str) -> str:
        if trouble:
            raise KeyringError("locked")
        return f"{service}/{name}"

    monkeypatch.setattr(module, "get_password", get_password, raising=False)
    monkeypatch.setattr(errors, "KeyringError", KeyringError, raising=False)
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert find_key("SOME_KEY").reveal() == ("" if trouble else "carrara/SOME_KEY")


def test_without_a_keyring_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert not find_key("SOME_KEY")
