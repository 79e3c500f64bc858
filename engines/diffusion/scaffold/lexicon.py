"""What scaffolds need of a tokenizer: spellings, token automata and masks, each made once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carrara.engines.diffusion.scaffold.dfa import automaton
from carrara.engines.diffusion.scaffold.language import COUNTED_UP_TO, Language
from carrara.engines.diffusion.scaffold.lift import lift
from carrara.engines.diffusion.scaffold.tokens import TokenAutomaton
from carrara.engines.diffusion.scaffold.utf8 import spelled_out

_MOST_AUTOMATA = 512
_MOST_ROWS = 4096
_LONG_TOKEN = 16


class Vocabulary(Protocol):
    """The part of `carrara.engines.tokenizer.Tokenizer` that is used here."""

    @property
    def vocabulary(self) -> Sequence[bytes]: ...

    @property
    def mask_id(self) -> int: ...

    @property
    def slot_pad_id(self) -> int: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Which tokens may stand at a position: `mask` [V] bool. `only` is the token if there is just one."""

    mask: NDArray[np.bool_]
    only: int | None


@dataclass(slots=True, eq=False)
class Lexicon:
    """Spellings, automata and masks of one tokenizer. Not safe for several threads at once."""

    tokenizer: Vocabulary
    mask_id: int = field(init=False)
    pad_id: int = field(init=False)
    eos_ids: frozenset[int] = field(init=False)
    _spelled: dict[str, tuple[int, ...]] = field(init=False, default_factory=dict)
    _automata: dict[Language, TokenAutomaton] = field(init=False, default_factory=dict)
    _rows: dict[tuple[int, int], tuple[TokenAutomaton, Row]] = field(
        init=False, default_factory=dict
    )
    _gapped: dict[TokenAutomaton, TokenAutomaton] = field(init=False, default_factory=dict)
    _text: Row | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.mask_id = self.tokenizer.mask_id
        self.pad_id = self.tokenizer.slot_pad_id
        self.eos_ids = self.tokenizer.eos_ids

    def spell(self, text: str) -> tuple[int, ...]:
        """The tokens of a piece of text on its own."""
        if text not in self._spelled:
            if len(self._spelled) > _MOST_ROWS:
                self._spelled.clear()
            self._spelled[text] = tuple(self.tokenizer.encode(text))
        return self._spelled[text]

    def text(self, ids: Sequence[int]) -> str:
        """What tokens write; pads write nothing."""
        vocabulary = self.tokenizer.vocabulary
        return b"".join(vocabulary[i] for i in ids).decode("utf-8", "replace")

    def automaton(self, language: Language) -> TokenAutomaton:
        """The token automaton of a language.

        Raises:
            CarraraError: the language is too large to be held.
        """
        if language not in self._automata:
            if len(self._automata) >= _MOST_AUTOMATA:
                self._automata.clear()
            self._automata[language] = self._built(language)
        return self._automata[language]

    def _built(self, language: Language) -> TokenAutomaton:
        dfa = spelled_out(automaton(language.node))
        vocabulary, most = self.tokenizer.vocabulary, language.most
        if most is not None and most > COUNTED_UP_TO:
            # Such a limit is out of a slot's reach once very long tokens are left out.
            vocabulary, most = [t if len(t) <= _LONG_TOKEN else b"" for t in vocabulary], None
        return TokenAutomaton(lift(dfa, vocabulary, self.pad_id), dfa.accepts, language.least, most)

    def gapped(self, automaton: TokenAutomaton) -> TokenAutomaton:
        """The same automaton with pads allowed between tokens, too."""
        if automaton.gaps:
            return automaton
        if automaton not in self._gapped:
            if len(self._gapped) >= _MOST_AUTOMATA:
                self._gapped.clear()
            self._gapped[automaton] = replace(automaton, gaps=True)
        return self._gapped[automaton]

    def row(self, automaton: TokenAutomaton, classes: int) -> Row:
        """The mask of the tokens in some classes (bits) of an automaton."""
        key = (id(automaton), classes)
        if key not in self._rows:
            if len(self._rows) >= _MOST_ROWS:
                self._rows.clear()
            self._rows[key] = (automaton, _row(automaton.table.class_of, classes))
        return self._rows[key][1]

    def text_row(self) -> Row:
        """The mask of free text: every token that writes something, and the end of text."""
        if self._text is None:
            mask = np.array([bool(token) for token in self.tokenizer.vocabulary])
            mask[list(self.eos_ids)] = True
            mask[[self.mask_id, self.pad_id]] = False
            self._text = Row(mask, None)
        return self._text


def _row(class_of: NDArray[np.int32], classes: int) -> Row:
    chosen = np.array([bool(classes >> n & 1) for n in range(int(class_of.max()) + 1)])
    mask = chosen[class_of]
    where = np.flatnonzero(mask)[:2]
    return Row(mask, int(where[0]) if len(where) == 1 else None)
