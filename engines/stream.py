"""A request as a stream: its drafts as they come, then its completion."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from carrara.engines.engine import Engine
from carrara.engines.request import Completion, Progress, Request

MOST_DRAFTS = 8
"""Drafts that wait for a slow reader; older ones are dropped."""


async def stream(
    engine: Engine, request: Request, most: int = MOST_DRAFTS
) -> AsyncIterator[Progress | Completion]:
    """Ask `engine` and yield each draft it shows, then the completion, which is always the last.

    A reader that is slower than the engine misses the older of the drafts, never the completion. Leaving the stream
    (`contextlib.aclosing`) gives the request up. An engine that cannot "stream" yields the completion alone, or one
    draft that is all of it.

    Raises:
        EngineBusy, EngineRefused, EngineFailed: as `Engine.complete`.
    """
    drafts: deque[Progress] = deque(maxlen=most)
    news = asyncio.Event()

    def watch(draft: Progress) -> None:
        drafts.append(draft)
        news.set()

    work = asyncio.ensure_future(engine.complete(request, watch))
    work.add_done_callback(lambda _: news.set())
    try:
        while drafts or not work.done():
            while drafts:
                yield drafts.popleft()
            if not work.done():
                news.clear()
                await news.wait()
        yield await work
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
