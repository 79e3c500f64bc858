"""From a row to what is trained on: the clean text, read causally, and canvases that are denoised.

Every example is drawn anew each time it comes up: which window of the answer, how much room slots have, what is
masked. The same seed draws the same example, so a training can be resumed anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from carrara.engines.adapt.noise import Noise, Sketch, noised
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.rows import Row
from carrara.engines.contract import Choice, Json, Text
from carrara.engines.diffusion.scaffold.lay_out import PINNED, LaidOut, Spare, lay_out
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.errors import CarraraError, LoadingError
from carrara.engines.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Canvas:
    """Positions to denoise behind the first `behind` tokens of the clean stream.

    tokens: as the model sees them, masks included. right: what belongs there. weights: of the loss at each
    position, 0 for what is not asked.
    """

    behind: int
    tokens: tuple[int, ...]
    right: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """`clean`: prompt and answer, causal; the answer begins at `answer`. `taught`: whether the causal loss counts."""

    clean: tuple[int, ...]
    answer: int
    taught: bool
    canvases: tuple[Canvas, ...]

    @property
    def positions(self) -> int:
        return len(self.clean) + sum(len(canvas.tokens) for canvas in self.canvases)


@dataclass(slots=True)
class Examples:
    """Draws examples from rows. Not for several threads: it shares one lexicon."""

    tokenizer: Tokenizer
    recipe: Recipe
    lexicon: Lexicon = field(init=False)

    def __post_init__(self) -> None:
        self.lexicon = Lexicon(self.tokenizer)

    def check(self, row: Row) -> None:
        """Check that the answer of a row holds to its contract, as far as a canvas shows it: a property that is null
        may be left out. Most rows are told without one.

        Raises:
            LoadingError: it does not; names file and line.
        """
        if _holds(row):
            return
        try:
            lay_out(row.contract, row.value, self.lexicon)
        except CarraraError as error:
            raise LoadingError(f"{row.where}: {error}") from error

    def draw(self, row: Row, step: int, chance: random.Random) -> Example:
        """One example of a row, as it is trained on at `step`.

        Raises:
            CarraraError: the answer does not fit its contract, or no scaffold holds that; names the row.
        """
        noise = Noise(self.recipe, self.recipe.edits_at(step), self.tokenizer.mask_id, chance)
        try:
            prompt = tuple(self.tokenizer.encode_chat(row.messages))
            if isinstance(row.contract, Text):
                return self._text(row, prompt, step, noise)
            laid = lay_out(row.contract, row.value, self.lexicon, self._spare(chance))
        except CarraraError as error:
            raise CarraraError(f"{row.where}: {error}") from error
        return self._scaffolded(prompt, laid, noise)

    def _scaffolded(self, prompt: tuple[int, ...], laid: LaidOut, noise: Noise) -> Example:
        windows = tuple(_windows(laid, self.recipe.block_tokens))
        # Later windows see the answer so far as the engine leaves it in the cache, piece by piece; the causal
        # loss belongs to text as the tokenizer spells it, and is left to shorter answers and to first windows.
        if len(windows) == 1 or noise.chance.random() < 0.5:
            canvases = self._canvases(laid, windows[0], len(prompt), noise, pair=True)
            answer = (*self.tokenizer.encode(laid.text), self._end)
            return Example((*prompt, *answer), len(prompt), True, canvases)
        most = min(self.recipe.windows, len(windows) - 1)
        chosen = sorted(noise.chance.sample(range(1, len(windows)), most))
        found: list[Canvas] = []
        for number in chosen:
            found += self._canvases(laid, windows[number], len(prompt), noise, pair=False)
        needed = max((canvas.behind for canvas in found), default=len(prompt))
        clean = (*prompt, *laid.clean)[:needed]
        return Example(clean, len(prompt), False, tuple(found))

    def _canvases(
        self, laid: LaidOut, window: _Window, prompt: int, noise: Noise, pair: bool
    ) -> tuple[Canvas, ...]:
        part = slice(window.begin, window.end)
        ids, units = laid.ids[part], laid.units[part]
        shown = [i for i, unit in zip(ids, units, strict=True) if unit != PINNED]
        if not shown:
            return ()
        pad = self.lexicon.pad_id
        weights = [
            0.0
            if unit == PINNED
            else (self.recipe.pad_weight if token == pad and unit not in laid.gates else 1.0)
            for token, unit in zip(ids, units, strict=True)
        ]
        found = []
        sketch = Sketch(ids, units, laid.gates, laid.open)
        for tokens, asked in noised(sketch, noise, pair):
            kept = tuple(w if a else 0.0 for w, a in zip(weights, asked, strict=True))
            if any(kept):
                found.append(Canvas(prompt + window.clean, tuple(tokens), tuple(ids), kept))
        return tuple(found)

    def _text(self, row: Row, prompt: tuple[int, ...], step: int, noise: Noise) -> Example:
        answer = (*self.tokenizer.encode(row.value), self._end)
        sizes = self.recipe.text_blocks(step)
        size = noise.chance.choice(sizes)
        blocks = range(0, len(answer), size)
        amount = max(1, min(len(blocks), -(-2 * self.recipe.text_block_tokens // size)))
        canvases: list[Canvas] = []
        for begin in sorted(noise.chance.sample(list(blocks), amount)):
            block = list(answer[begin : begin + size])
            ids = [*block, *[self._end] * (size - len(block))]
            weights = [1.0] * len(block) + [self.recipe.pad_weight] * (size - len(block))
            for tokens, asked in noised(Sketch(ids, range(size)), noise, pair=False):
                kept = tuple(w if a else 0.0 for w, a in zip(weights, asked, strict=True))
                canvases.append(Canvas(len(prompt) + begin, tuple(tokens), tuple(ids), kept))
        return Example((*prompt, *answer), len(prompt), True, tuple(canvases))

    def _spare(self, chance: random.Random) -> Spare:
        """Room as decoding gives it: slots of some usual length that grow by as much, two items more than known."""
        usual_tokens = chance.randint(*self.recipe.slot_tokens)
        ahead = chance.choice((1, 2, 2, 3))
        ways = chance.random() < 0.7

        def room(taken: int, usual: Callable[[int], int]) -> int:
            begin = usual(usual_tokens)
            if taken < begin:
                return begin
            if chance.random() < 0.3:  # not grown yet, or not far enough
                return begin
            grown = begin
            while grown < taken + 1:
                grown += usual_tokens
            return grown

        def items(count: int) -> int:
            shown = ahead + 1
            while shown < count and chance.random() < 0.7:
                shown *= 2
            return shown if shown < count else count + chance.randint(0, ahead)

        return Spare(room, items, lambda: ways)

    @property
    def _end(self) -> int:
        return min(self.tokenizer.eos_ids)


def _holds(row: Row) -> bool:
    """Whether it can be told without a canvas that the answer holds to its contract."""
    match row.contract:
        case Text():
            return True
        case Choice(options):
            return row.value in options
        case Json():
            try:
                row.contract.check(row.value)
            except CarraraError:
                return False
            return True
        case _:
            return False


@dataclass(frozen=True, slots=True)
class _Window:
    """Positions `begin` to `end` of a canvas, behind `clean` tokens of the answer."""

    begin: int
    end: int
    clean: int


def _windows(laid: LaidOut, size: int) -> Iterator[_Window]:
    """The canvas cut where leaves begin, into windows of at most `size` positions where leaves allow that."""
    begin, clean, last = 0, 0, None
    for start in laid.starts:
        if start.at - begin > size and last is not None and last.at > begin:
            yield _Window(begin, last.at, clean)
            begin, clean = last.at, last.clean
        last = start
    if last is not None and len(laid.ids) - begin > size and last.at > begin:
        yield _Window(begin, last.at, clean)
        begin, clean = last.at, last.clean
    yield _Window(begin, len(laid.ids), clean)


__all__ = ["Canvas", "Example", "Examples"]
