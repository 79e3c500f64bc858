"""From a request to a canvas: what is refused, how much room there is, and how a draft is taken up."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from carrara.engines.contract import Contract, Json, Text
from carrara.engines.diffusion.editing_canvas import EditingCanvas
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.job import is_over
from carrara.engines.diffusion.noise_canvas import NoiseCanvas
from carrara.engines.diffusion.rules import Edits
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.fill import Filler, forget
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.nodes import Hole, Node, leaves
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import ENDLESS, Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.engines.json_schema import strict_loads
from carrara.engines.markdown import unfenced
from carrara.engines.request import Draft, Request


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
        edits = _edits(request, settings)
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
        )
        tree = Tree(scaffold, budget)
        if request.draft is not None:
            _take_draft(tree, request.output, request.draft)
        how = (
            settings.slots_grow,
            request.sampling.temperature,
            random.Random(request.sampling.seed),
        )
        return (
            ScaffoldCanvas(tree, *how) if edits is None else EditingCanvas(tree, *how, edits=edits)
        )

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
        mask, bound = self.lexicon.mask_id, free.max_length
        room = request.limits.max_tokens
        if (
            bound is not None
        ):  # a character has at most four bytes, a token at least one; then the end
            room = min(room, 4 * bound + 1)
        tokens = [mask] * room
        if request.draft is not None:
            tokens = self._free_draft(request.draft, request.limits.max_tokens)
        how = (
            tokens,
            settings.text_block_tokens,
            mask,
            self.lexicon.eos_ids,
            self.lexicon.text_row(),
            self.lexicon.text,
            lambda text: is_over(text, request),
            prompt - settings.context_start(prompt) if settings.attention == "block" else 0,
            edits,
        )
        return FreeCanvas(*how) if settings.noise is None else NoiseCanvas(*how, settings.noise)

    def _free_draft(self, draft: Draft, most: int) -> list[int]:
        if draft.fields:
            raise EngineRefused(
                "a draft of free text has no fields; leave them out to refine all of it"
            )
        tokens = list(self.lexicon.spell(draft.text))
        if len(tokens) > most:
            raise EngineRefused(
                f"the draft has {len(tokens):,} tokens, the answer may have {most:,}. Raise max_tokens."
            )
        for at in _chosen(len(tokens), draft):
            tokens[at] = self.lexicon.mask_id
        return tokens


def _edits(request: Request, settings: Settings) -> Edits | None:
    try:
        return Edits.of(settings.rule_of(request.rule))
    except ValueError as error:
        raise EngineRefused(str(error)) from error


def _take_draft(tree: Tree, contract: Contract, draft: Draft) -> None:
    """Put a draft on the canvas: its fields undecided and the rest pinned, or all of it lightly re-noised.

    What does not fit the contract is undecided too.
    """
    Filler(tree, strict=False).fill(tree.root, _draft_value(contract, draft))
    if draft.fields:
        missing = forget(tree, draft.fields)
        if missing:
            raise EngineRefused(f"the draft has no field {', '.join(missing)}")
    else:
        _renoise(tree.root, draft)
    needed = tree.room.positions(tree.root)
    if needed > tree.budget.tokens:
        raise EngineRefused(_too_short(needed, tree.budget.tokens, "the draft"))


def _draft_value(contract: Contract, draft: Draft) -> Any:
    try:
        if isinstance(contract, Json):
            return strict_loads(unfenced(draft.text))
        return contract.parse(draft.text)
    except (CarraraError, ValueError, RecursionError) as error:
        raise EngineRefused(f"the draft cannot be read: {error}") from error


def _renoise(root: Node, draft: Draft) -> None:
    """Make a share of all slot tokens undecided, at least one."""
    holes = [leaf for leaf in leaves(root) if isinstance(leaf, Hole) and leaf.ids]
    places = [(hole, at) for hole in holes for at in range(len(hole.ids))]
    chosen: dict[Hole, list[int]] = {}
    for number in _chosen(len(places), draft):
        hole, at = places[number]
        chosen.setdefault(hole, []).append(at)
    for hole, positions in chosen.items():
        hole.blur(positions)


def _chosen(count: int, draft: Draft) -> Iterator[int]:
    """Which of `count` tokens to re-noise: the same ones for the same draft, on every machine."""
    if not 0 < draft.strength <= 1:
        raise EngineRefused(f"a draft's strength is above 0 and at most 1, not {draft.strength}")
    digest = hashlib.blake2b(draft.text.encode("utf-8", "replace"), digest_size=8).digest()
    chance = random.Random(int.from_bytes(digest, "big"))
    share = min(count, max(1, round(count * draft.strength)))
    yield from sorted(chance.sample(range(count), share))


def _too_short(
    needed: int, most: int, what: str = "the shortest answer under this contract"
) -> str:
    size = "more tokens than can be written" if needed >= ENDLESS else f"{needed:,} tokens"
    return f"{what} takes {size}, max_tokens is {most:,}. Raise max_tokens or use another engine."
