"""Typed answers from a diffusion model that vLLM serves: the literals are pinned on its canvas, the slots denoised.

vLLM takes no grammar for such a model, but per request a seed canvas and the positions to hold (`vllm_xargs`). The
server's own `/tokenize` and `/detokenize` translate, so no tokenizer is needed here. A draft is refined likewise:
the values that stay are pinned too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from carrara.engines.contract import Json
from carrara.engines.errors import ContractError
from carrara.engines.json_schema import pointer, strict_loads
from carrara.engines.markdown import unfenced
from carrara.engines.remote.canvas_layout import (
    Literal,
    Part,
    Slot,
    Unpinnable,
    assembled,
    layout,
)
from carrara.engines.remote.line import Line
from carrara.engines.remote.openai_wire import OpenAiChat
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.reading import read
from carrara.engines.remote.wire import Ask, Wrong, mapping
from carrara.engines.request import Completion, Request


@dataclass(frozen=True, slots=True)
class Placed:
    """A part on the canvas: its token ids, and whether they are held. Empty ids of a slot are noise."""

    part: Part
    ids: tuple[int, ...]
    held: bool
    width: int


async def pinned(
    line: Line, headers: Mapping[str, str], preset: Preset, request: Request
) -> Completion:
    """Answer a JSON contract on one canvas.

    Raises:
        Unpinnable: the contract, or the answer, does not fit on it.
        StatusError: the server refused.
        EngineError: the call failed.
    """
    if not isinstance(request.output, Json):
        raise Unpinnable(f"a {request.output.kind} contract")
    parts = layout(request.output.schema)
    placed = await _placed(line, headers, preset, request, parts)
    width = sum(one.width for one in placed)
    if width > min(preset.canvas_tokens, request.limits.max_tokens):
        raise Unpinnable(f"{width} tokens are more than a canvas of {preset.canvas_tokens}")
    body = _body(preset, request, placed, width)
    reply = read(OpenAiChat(), await line.post("/chat/completions", headers, body))
    if len(reply.token_ids) < width:
        raise Unpinnable("the server gave no token ids for the whole canvas")
    values = await _values(line, headers, preset, placed, reply.token_ids)
    text = assembled(values, parts)
    try:
        value = request.output.parse(text)
    except ContractError as error:
        raise Unpinnable(str(error)) from error
    usage = replace(reply.usage, completion_tokens=width, passes=0)
    return Completion(text, value, usage=usage, model=reply.model or preset.model)


async def holds_pins(
    line: Line, headers: Mapping[str, str], preset: Preset, request: Request
) -> bool:
    """Whether the server has a canvas and holds what is pinned on it: the literals of a JSON contract come back.

    Raises:
        StatusError: the server refused, or has no tokenizer to ask.
        EngineError, Wrong: the call failed.
    """
    assert isinstance(request.output, Json)
    placed = await _placed(line, headers, preset, request, layout(request.output.schema))
    body = _body(preset, request, placed, sum(one.width for one in placed))
    reply = read(OpenAiChat(), await line.post("/chat/completions", headers, body))
    controls = body["vllm_xargs"]
    canvas, held = controls["diffusion_seed_canvas"], controls["diffusion_pinned"]
    return len(reply.token_ids) >= len(canvas) and all(
        reply.token_ids[at] == canvas[at] for at in held
    )


async def _placed(
    line: Line, headers: Mapping[str, str], preset: Preset, request: Request, parts: list[Part]
) -> list[Placed]:
    known = _known(request)
    written = [
        part.text
        if isinstance(part, Literal)
        else part.written(known[part.path])
        if part.path in known
        else ""
        for part in parts
    ]
    ids = await asyncio.gather(*(_tokens(line, headers, preset, text) for text in written))
    kept = _kept(request)
    return [
        Placed(part, found, True, len(found))
        if isinstance(part, Literal)
        or (kept is not None and part.path in known and _stays(part, kept))
        else Placed(part, found[: part.room], False, part.room)
        for part, found in zip(parts, ids, strict=True)
    ]


def _body(preset: Preset, request: Request, placed: list[Placed], width: int) -> dict[str, Any]:
    most = max((one for part in placed for one in part.ids), default=0)
    noise = random.Random(request.sampling.seed or 0)
    canvas: list[int] = []
    held: list[int] = []
    for part in placed:
        if part.held:
            held += range(len(canvas), len(canvas) + part.width)
        filled = [noise.randint(0, most) for _ in range(part.width - len(part.ids))]
        canvas += [*part.ids, *filled]
    controls: dict[str, Any] = {
        "diffusion_canvas_length": width,
        "diffusion_seed_canvas": canvas,
        "diffusion_pinned": held,
    }
    if request.limits.max_steps is not None:
        controls["diffusion_max_steps"] = request.limits.max_steps
    more = {"vllm_xargs": controls, "return_token_ids": True, "ignore_eos": True}
    ask = Ask(preset, request.messages, width, None, more=more)
    return OpenAiChat().body(ask)


async def _values(
    line: Line, headers: Mapping[str, str], preset: Preset, placed: list[Placed], ids: list[int]
) -> dict[tuple[str, ...], Any]:
    places: list[tuple[Slot, list[int]]] = []
    at = 0
    for one in placed:
        if isinstance(one.part, Slot):
            places.append((one.part, ids[at : at + one.width]))
        at += one.width
    texts = await asyncio.gather(*(_text(line, headers, preset, found) for _, found in places))
    return {slot.path: slot.read(text) for (slot, _), text in zip(places, texts, strict=True)}


async def _tokens(
    line: Line, headers: Mapping[str, str], preset: Preset, text: str
) -> tuple[int, ...]:
    if not text:
        return ()
    body = {"model": preset.model, "prompt": text, "add_special_tokens": False}
    found = mapping(await line.post("~/tokenize", headers, body), "the tokens")
    ids = found.get("tokens")
    if not isinstance(ids, list) or not ids or not all(isinstance(one, int) for one in ids):
        raise Wrong("the server gave no token ids")
    return tuple(ids)


async def _text(line: Line, headers: Mapping[str, str], preset: Preset, ids: list[int]) -> str:
    body = {"model": preset.model, "tokens": ids}
    found = mapping(await line.post("~/detokenize", headers, body), "the text")
    text = found.get("prompt")
    if not isinstance(text, str):
        raise Wrong("the server gave no text for its tokens")
    return text


def _known(request: Request) -> dict[tuple[str, ...], Any]:
    """The leaves of the draft's value by their paths; none without a draft."""
    if request.draft is None:
        return {}
    try:
        value = strict_loads(unfenced(request.draft.text))
    except (ValueError, RecursionError) as error:
        raise Unpinnable(f"the draft is no JSON: {error}") from error
    found: dict[tuple[str, ...], Any] = {}

    def walk(part: Any, path: tuple[str, ...]) -> None:
        if isinstance(part, dict):
            for key, inner in part.items():
                walk(inner, (*path, key))
        else:
            found[path] = part

    walk(value, ())
    return found


def _kept(request: Request) -> tuple[str, ...] | None:
    """The pointers that are written anew where the rest stays; None where nothing is held."""
    draft = request.draft
    return draft.fields if draft is not None and draft.fields else None


def _stays(slot: Slot, anew: tuple[str, ...]) -> bool:
    here = pointer(slot.path)
    return not any(here == field or here.startswith(f"{field}/") for field in anew)


__all__ = ["Unpinnable", "holds_pins", "pinned"]
