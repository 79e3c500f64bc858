"""From a request to a canvas: what is told of it in the prompt, what is refused, how much room there is, and how a
draft is taken up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from carrara.engines.contract import Contract, Infill, Text
from carrara.engines.contract_text import describe
from carrara.engines.diffusion.drafts import Renoised, take_draft
from carrara.engines.diffusion.editing_canvas import EditingCanvas
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.free_text import ended_text
from carrara.engines.diffusion.noise_canvas import NoiseCanvas
from carrara.engines.diffusion.rules import Bar, Edits
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.forms import At, Form, Seq
from carrara.engines.diffusion.scaffold.infill_form import bounded
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import ENDLESS, Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.engines.request import Request, Rule

_FILL = "Fill in what is missing."


@dataclass(slots=True)
class CanvasMaker:
    """Makes canvases for one tokenizer. Scaffolds are kept, so that equal contracts are bound once."""

    lexicon: Lexicon
    _scaffolds: dict[Contract, Scaffold]

    @classmethod
    def of(cls, lexicon: Lexicon) -> CanvasMaker:
        return cls(lexicon, {})

    def canvas(
        self, request: Request, settings: Settings, prompt: int = 0
    ) -> ScaffoldCanvas | FreeCanvas:
        """The canvas of a request behind `prompt` tokens, with its draft on it.

        Raises:
            EngineRefused: no scaffold holds the contract, its shortest answer exceeds the token limit, the draft
            does not fit, or the request asks for a commit rule that does not exist.
        """
        rule = checked_rule(request, settings)
        edits = Edits.of(rule)
        if isinstance(request.output, Text):
            return self._free(request, request.output, settings, prompt, edits)
        scaffold = self._scaffold(request.output)
        most = request.limits.max_tokens
        if scaffold.least_tokens > most:
            raise EngineRefused(_too_short(scaffold.least_tokens, most))
        budget = Budget(
            tokens=most,
            window=settings.block_tokens,
            slot_tokens=settings.slot_tokens,
            slot_most=settings.slot_most_tokens,
            ahead=settings.items_ahead,
            grows=settings.slots_grow,
        )
        tree = Tree(scaffold, budget)
        longest = tree.room.most(scaffold.program.root)
        spans: list[list[Renoised]] = []
        if request.draft is not None:
            spans = take_draft(tree, request.output, request.draft)
            needed = tree.room.positions(tree.root)
            if needed > most:
                raise EngineRefused(_too_short(needed, most, "the draft"))
            longest += needed  # beside what stays, as much may be written anew as without it
        tree.bound(min(most, longest))
        chance = random.Random(request.sampling.seed)
        how = (
            settings.slots_grow,
            request.sampling.temperature,
            chance,
            spans,
            Bar.of(rule),
            settings.slots_in_order,
        )
        if edits is None:
            return ScaffoldCanvas(tree, *how)
        return EditingCanvas(tree, *how, edits=edits)

    def roomy(self, request: Request) -> Request:
        """An infill with room for its pinned text and for what its holes may hold: it has its limits in itself.

        Raises:
            EngineRefused: a hole is shorter than the shortest text that it may hold.
        """
        if not isinstance(request.output, Infill):
            return request
        scaffold = self._scaffold(request.output)
        widths = []
        holes = zip(request.output.holes, _steps(scaffold.program.root), strict=True)
        for number, (hole, form) in enumerate(holes, 1):
            needed = max((scaffold.cost(slot) for slot in bounded(form)), default=1)
            if needed > hole.max_tokens:
                raise EngineRefused(
                    _too_short(needed, hole.max_tokens, f"the shortest text of hole {number}")
                )
            widths.append(max(hole.max_tokens, scaffold.widest(form)))
        room = min(ENDLESS, scaffold.least_tokens + sum(widths))
        return replace(request, limits=replace(request.limits, max_tokens=room))

    def _scaffold(self, contract: Contract) -> Scaffold:
        if contract not in self._scaffolds:
            if len(self._scaffolds) >= 128:
                self._scaffolds.clear()
            try:
                self._scaffolds[contract] = Scaffold(compiled(contract), self.lexicon)
            except CarraraError as error:
                raise EngineRefused(f"no scaffold holds this contract: {error}") from error
            except RecursionError as error:
                raise EngineRefused("no scaffold holds this contract: nested too deep") from error
        return self._scaffolds[contract]

    def _free(
        self, request: Request, free: Text, settings: Settings, prompt: int, edits: Edits | None
    ) -> FreeCanvas:
        mask = self.lexicon.mask_id
        how = (
            [mask] * text_room(free, request.limits.max_tokens),
            settings.text_block_tokens,
            mask,
            self.lexicon.eos_ids,
            self.lexicon.text_row(),
            self.lexicon.text,
            lambda text: ended_text(text, request).is_over,
            prompt - settings.context_start(prompt) if settings.attention == "block" else 0,
            edits,
        )
        return FreeCanvas(*how) if settings.noise is None else NoiseCanvas(*how, settings.noise)


def on_canvas(request: Request) -> Request:
    """An infill as a model is told that has its text on the canvas: without the text with blanks in the prompt, whose
    blanks a small model copies into the holes. Any other request as it is."""
    if not isinstance(request.output, Infill):
        return request
    told = describe(request.output)
    messages = (
        replace(message, content=message.content.removesuffix(told).rstrip() or _FILL)
        if message.content.endswith(told)
        else message
        for message in request.messages
    )
    return replace(request, messages=tuple(messages))


def text_room(free: Text, most: int) -> int:
    """The positions of the canvas of free text that takes `most` tokens at most."""
    if free.max_length is None:
        return most
    # A character has at most four bytes, a token at least one; then the end.
    return min(most, 4 * free.max_length + 1)


def checked_rule(request: Request, settings: Settings) -> Rule:
    """The commit rule of a request.

    Raises:
        EngineRefused: it has another name or other parameters than there are.
    """
    try:
        return settings.rule_of(request.rule)
    except ValueError as error:
        raise EngineRefused(str(error)) from error


def _steps(root: Form) -> Iterator[Form]:
    """The forms of an infill's holes, in order."""
    for part in root.parts if isinstance(root, Seq) else (root,):
        if isinstance(part, At):
            yield part.part


def _too_short(
    needed: int, most: int, what: str = "the shortest answer under this contract"
) -> str:
    size = "more tokens than can be written" if needed >= ENDLESS else f"{needed:,} tokens"
    return f"{what} takes {size}, max_tokens is {most:,}. Raise max_tokens or use another engine."
