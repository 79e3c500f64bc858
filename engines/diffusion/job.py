"""One request in the making: its canvas, what belongs into the cache, and what becomes of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from carrara.engines.diffusion.batch import Block
from carrara.engines.diffusion.canvas import Reading, View
from carrara.engines.diffusion.confidence import of_text, of_tree
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.free_text import answered, as_answered, ended_text
from carrara.engines.diffusion.reader import NOT_FINITE, MaskTable, checked, read
from carrara.engines.diffusion.refine import within
from carrara.engines.diffusion.rules import Ruling
from carrara.engines.diffusion.rules import ruling as made_ruling
from carrara.engines.diffusion.scaffold import read as reading
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineError, EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.pieces import progress
from carrara.engines.prefix_cache import Hit
from carrara.engines.request import Confidence, Progress, Request, Rule, StopReason


@dataclass(frozen=True, slots=True)
class Committed:
    """What `passes` that nobody read committed on a canvas: the number of the pass, from 1, offset, token and
    probability of each decision, in order. `is_faulty`: the last pass gave no numbers."""

    passes: int
    decisions: tuple[tuple[int, int, int, float], ...]
    is_faulty: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """Made when a request is accepted; afterwards only the thread that computes changes it.

    `tokens` belong into the cache: the prompt, then the clean tokens of settled blocks. `view` is the block to denoise
    next, None once the answer is finished. `last` is the hidden state at the last cached token: where logits are
    shifted it predicts the first position of a block. `adapted`: it goes through the adapter. `is_spoilt`: what a
    cache gave it was no numbers; it has to be encoded anew. `step` counts the passes over the block, `ruling` picks
    what is committed in them, by the `rule` asked for.
    """

    request: Request
    tokens: list[int]
    canvas: ScaffoldCanvas | FreeCanvas
    settings: Settings
    adapted: bool = False
    device: torch.device | str = "cpu"
    prompt: int = field(init=False)
    view: View | None = field(init=False, default=None)
    hit: Hit[Tensor] | None = None
    last: Tensor | None = None
    passes: int = 0
    cut: bool = False
    failure: EngineError | None = None
    is_spoilt: bool = False
    step: int = field(init=False, default=0)
    rule: Rule = field(init=False)
    ruling: Ruling = field(init=False)
    _generator: torch.Generator | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)
        self.rule = self.settings.rule_of(self.request.rule)
        self.ruling = made_ruling(self.rule, self.canvas.mask_id)
        sampling = self.request.sampling
        if sampling.temperature > 0:
            seed = random.getrandbits(62) if sampling.seed is None else sampling.seed
            self._generator = torch.Generator(self.device).manual_seed(seed % (1 << 62))
        self._look()

    @property
    def _most_steps(self) -> int | None:
        asked = self.request.limits.max_steps
        return self.settings.most_steps if asked is None else asked

    @property
    def is_finished(self) -> bool:
        return self.view is None

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) - self.prompt

    @property
    def standing(self) -> str:
        share = self.canvas.settled_share
        return f"after {self.passes} passes with {share:.0%} of the canvas settled"

    @property
    def need(self) -> int:
        """Slots of the cache that prompt and canvas may reach."""
        return self.prompt + self.canvas.room

    @property
    def lead(self) -> int:
        """Tokens before those to encode that may have to be computed again: the beginning of their block."""
        return self.settings.attention_block_tokens - 1 if self.settings.attention == "block" else 0

    @property
    def block(self) -> Block:
        """What the next denoising pass computes of it."""
        if self.view is None:
            return Block()
        context = len(self.tokens) - self.context_start
        return Block(context + len(self.view.tokens), len(self.view.offsets))

    @property
    def is_sound(self) -> bool:
        return self.failure is None and not self.is_spoilt

    def fail(self, message: str, cause: BaseException | None = None) -> None:
        """It cannot go on; the others can."""
        self.failure = EngineFailed(message)
        self.failure.__cause__ = cause

    @property
    def context_start(self) -> int:
        """From which of its tokens on the next denoising pass computes them together with the block."""
        return self.settings.context_start(len(self.tokens), self.step)

    def prefix_key(self, local: LocalModel) -> str:
        """The key of the prefix cache for its prompt: computed with or without the adapter, causally or in
        blocks, with the weights as they are or in integers."""
        key, settings = local.prefix_key(self.adapted), self.settings
        if local.small_prompts:
            key += " in int8"
        if settings.attention != "causal":
            key += f" blocks of {settings.attention_block_tokens}"
        return key

    @property
    def needs_logits(self) -> bool:
        """Whether a reading of its best tokens is not enough: it draws them, or its rule looks at distributions."""
        return self._generator is not None or self.ruling.judge.asks_for_logits

    @property
    def needs_last(self) -> bool:
        """Whether the logits of the block's first position come from a pass before: nothing in front is fed."""
        if self.view is None or not self.settings.logit_shift or self.view.offsets[0] != 0:
            return False
        return self.context_start == len(self.tokens)

    @property
    def is_told(self) -> bool:
        """Whether all that is asked about the block comes from a pass before."""
        return self.needs_last and self.view is not None and self.view.offsets == [0]

    @property
    def can_run_ahead(self) -> bool:
        """Whether passes over its block need no host in between: free text, picked by what the pass says alone."""
        settings = self.settings
        is_steady = settings.attention != "full" or settings.context_refresh_passes == 1
        return (
            self.view is not None
            and type(self.canvas) is FreeCanvas
            and self.canvas.edits is None
            and self._generator is None
            and not self.ruling.remembers
            and settings.canvas_refresh_passes == 1
            and is_steady
        )

    @property
    def passes_left(self) -> int | None:
        """How many more passes it may take, None for any number."""
        return None if self._most_steps is None else self._most_steps - self.passes

    def take(self, said: Tensor | Reading, table: MaskTable) -> None:
        """Let the canvas settle what the logits [K, V] or a reading of the view say, and look at what comes next."""
        if self.view is None:
            return
        judge = self.ruling.judge
        if isinstance(said, Reading):
            found = replace(checked(said), gate=judge.gate, along=judge.along)
        else:
            sampling = self.request.sampling
            found = read(said, self.view, table, sampling, self._generator, judge)
        rule = within(self.ruling.commit, self.canvas, self.passes_left)
        self.canvas.settle(found, rule, self.step)
        self._passed(1)

    def take_committed(self, found: Committed) -> None:
        """Let the canvas have what passes committed that ran ahead of the host, and look at what comes next.

        Raises:
            FloatingPointError: the model gave NaN, or no allowed token has a finite logit.
        """
        assert isinstance(self.canvas, FreeCanvas)
        if found.is_faulty:
            raise FloatingPointError(NOT_FINITE)
        self.canvas.commit(decision[1:] for decision in found.decisions)
        self._passed(found.passes)

    def _passed(self, passes: int) -> None:
        self.passes += passes
        self.step += passes
        self._look()

    def progress(self) -> Progress:
        """What to show of the canvas now."""
        settled, pieces = self.canvas.settled_share, self.canvas.pieces()
        if isinstance(self.canvas, FreeCanvas):
            pieces = iter(as_answered(pieces, self.request, settled >= 1))
        return progress(pieces, settled, self.passes)

    def finish(self) -> tuple[str, Any, StopReason, Confidence]:
        """Text, value, the reason for the end, and confidence of a finished answer.

        Raises:
            ContractError: it does not hold to its contract, which would be a fault of the scaffold.
        """
        if isinstance(self.canvas, FreeCanvas):
            text, stop = self._free_text(self.canvas)
            return text, text, stop, of_text(self.canvas)
        text = reading.text(self.canvas.tree.root)
        value = self.request.output.parse(text)
        stop = "length" if self.canvas.is_cramped else "end"
        return (
            text,
            value,
            "steps" if self.cut else stop,
            of_tree(self.canvas.tree, self.canvas.spans),
        )

    def _look(self) -> None:
        """Find the next block. The clean tokens of settled ones join those that belong into the cache."""
        limit = self._most_steps
        self.view = self.canvas.view()
        if self.view is not None and limit is not None and self.passes >= limit:
            self.canvas.finish()
            self.cut, self.view = True, None
        clean = self.canvas.take_clean()
        if clean:
            self.step = 0
            self.tokens += clean

    def _free_text(self, canvas: FreeCanvas) -> tuple[str, StopReason]:
        found = ended_text(canvas.decode(canvas.answer), self.request)
        stop: StopReason = "end" if canvas.ended else "length"
        if found.is_full:
            stop = "length"
        elif found.is_stopped:
            stop = "stop"
        return answered(found), "steps" if self.cut else stop
