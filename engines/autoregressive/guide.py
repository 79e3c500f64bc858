"""Token masks: which tokens may come next so that the answer stays inside its grammar.

`Guides` compiles contracts for one tokenizer; a `Guide` follows one answer. Compiling takes milliseconds
and runs on any thread; a guide belongs to the thread that decodes.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from carrara.engines.autoregressive.grammar import grammar_of
from carrara.engines.contract import Contract
from carrara.engines.errors import EngineRefused
from carrara.engines.tokenizer import Tokenizer

_KEPT = 64


class Guide:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    @property
    def is_finished(self) -> bool:
        """Nothing may follow but the end of the text."""
        return bool(self._matcher.is_stopped())

    @property
    def may_end(self) -> bool:
        """What stands is a whole answer, though more may follow."""
        return bool(self._matcher.is_accepting())

    def allowed(self, into: NDArray[np.int32]) -> None:
        """Write the tokens that may come next as bits into a row of 32-bit words."""
        self._matcher.unsafe_compute_mask_ptr(into.ctypes.data, into.nbytes)
        self._check()

    def take(self, token: int) -> list[int]:
        """Go on over a decided token; returns the tokens that are forced after it, which it goes over
        too."""
        self._matcher.consume_token(token)
        self._check()
        return self.forced()

    def forced(self) -> list[int]:
        """Go over the tokens that the grammar leaves no choice about, and return them."""
        if self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        if tokens:
            self._matcher.consume_tokens(tokens)
            self._check()
        return tokens

    def copy(self) -> Guide:
        """Another guide at the same place, to look ahead with."""
        return Guide(self._matcher.deep_copy())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineRefused(f"the grammar of the contract failed: {self._matcher.get_error()}")


class Guides:
    """Compiled contracts for one tokenizer; the last ones are kept."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = Lock()
        self._inner: LLTokenizer | None = None
        self._compiled: dict[tuple[Contract, int], LLMatcher] = {}

    def start(self, contract: Contract, longest: int) -> Guide | None:
        """A guide at the beginning of an answer, None for free text. `longest`: see `grammar_of`.

        Raises:
            EngineRefused: llguidance cannot hold this contract; says why.
        """
        with self._lock:
            known = self._compiled.pop((contract, longest), None)
            if known is None:
                known = self._compile(contract, longest)
            if known is None:
                return None
            self._compiled[contract, longest] = known
            if len(self._compiled) > _KEPT:
                del self._compiled[next(iter(self._compiled))]
            return Guide(known.deep_copy())

    def _compile(self, contract: Contract, longest: int) -> LLMatcher | None:
        grammar = usable_grammar(contract, longest)
        if grammar is None:
            return None
        matcher = LLMatcher(self._vocabulary(), grammar)
        if matcher.is_error():
            raise EngineRefused(f"contract {contract.kind!r} as a grammar: {matcher.get_error()}")
        return matcher

    def _vocabulary(self) -> LLTokenizer:
        if self._inner is None:
            tokenizer = self._tokenizer
            self._inner = LLTokenizer(
                TokenizerWrapper(_Spelled(tokenizer)),
                n_vocab=tokenizer.vocab_size,
                eos_token=sorted(tokenizer.eos_ids),
            )
        return self._inner


@lru_cache(maxsize=_KEPT)
def usable_grammar(contract: Contract, longest: int) -> str | None:
    """The strictest grammar of `contract` that llguidance takes, None for free text.

    Raises:
        EngineRefused: it takes none.
        CarraraError: a JSON Schema that is none.
    """
    reason = ""
    for lenient in (False, True):
        try:
            grammar = grammar_of(contract, longest, lenient)
        except ValueError as error:
            raise EngineRefused(f"contract {contract.kind!r} as a grammar: {error}") from error
        if grammar is None:
            return None
        is_wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar)
        if not is_wrong:
            return grammar
        reason = messages[0].splitlines()[0]
    raise EngineRefused(f"contract {contract.kind!r} as a grammar: {reason}")


class _Spelled:
    """A tokenizer in the form that llguidance asks for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.eos_token_id = min(tokenizer.eos_ids)
        self.bos_token_id = tokenizer.bos_id
        self.tokens = list(tokenizer.vocabulary)
        self.special_token_ids = sorted(tokenizer.special_ids | tokenizer.eos_ids)
        self._encode = tokenizer.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text.decode() if isinstance(text, bytes) else text)
