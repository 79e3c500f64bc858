"""A byte automaton lifted to the tokens of a vocabulary.

Tokens that move every state alike form one class, so a slot's masks are computed over a few dozen classes and not over
the vocabulary. After outlines' token automata (arXiv 2307.09702).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carrara.engines.diffusion.scaffold.utf8 import ByteDfa

NOWHERE = 0
PAD = 1


@dataclass(frozen=True, slots=True)
class Lift:
    """Where tokens lead. `class_of` [V]: NOWHERE for tokens that fit nowhere, PAD for the pad token;
    `target` and `count` [S, classes]: the state reached (-1: none) and the characters added."""

    class_of: NDArray[np.int32]
    target: NDArray[np.int32]
    count: NDArray[np.int32]


def lift(dfa: ByteDfa, vocabulary: Sequence[bytes], pad_id: int) -> Lift:
    """Group the tokens of a vocabulary by what they do to the states of `dfa`."""
    spellings, spelling_of = _spellings(dfa, vocabulary)
    target, count = _walk(dfa, spellings)
    table = np.concatenate((target, count), axis=0).T.copy()
    dead = np.concatenate((np.full(dfa.states, -1), np.zeros(dfa.states))).astype(np.int32)
    index = {dead.tobytes(): NOWHERE, b"": PAD}
    columns = [dead, dead]
    of_spelling = np.empty(len(spellings), dtype=np.int32)
    for number, column in enumerate(table):
        key = column.tobytes()
        if key not in index:
            index[key] = len(columns)
            columns.append(column)
        of_spelling[number] = index[key]
    class_of = of_spelling[spelling_of]
    class_of[pad_id] = PAD
    both = np.stack(columns, axis=1)
    return Lift(class_of, both[: dfa.states], both[dfa.states :])


def _spellings(dfa: ByteDfa, vocabulary: Sequence[bytes]) -> tuple[list[bytes], NDArray[np.int32]]:
    """Tokens written in byte classes: few distinct ones are left, and those with a dead byte are one."""
    shape = np.concatenate((dfa.target, dfa.count), axis=0).T
    _, classes = np.unique(shape, axis=0, return_inverse=True)
    classes = classes.reshape(-1)
    firsts = {int(c): byte for byte, c in reversed(list(enumerate(classes)))}
    table = bytes(firsts[int(c)] for c in classes)
    hopeless = bytes(b for b in range(256) if (dfa.target[:-1, b] == dfa.states).all())
    found: dict[bytes, int] = {b"": 0}
    numbers = np.zeros(len(vocabulary), dtype=np.int32)
    for token, spelling in enumerate(vocabulary):
        if len(spelling.translate(None, hopeless)) == len(spelling):
            numbers[token] = found.setdefault(spelling.translate(table), len(found))
    return list(found), numbers


def _walk(dfa: ByteDfa, spellings: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Read every spelling from every state. Result: two [S, spellings] arrays as in Lift; the empty
    spelling (special tokens) leads nowhere."""
    order = sorted(range(len(spellings)), key=lambda i: -len(spellings[i]))
    longest = max(len(s) for s in spellings)
    padded = np.zeros((len(spellings), longest), dtype=np.int64)
    for row, i in enumerate(order):
        padded[row, : len(spellings[i])] = list(spellings[i])
    lengths = np.array([len(spellings[i]) for i in order])
    state = np.repeat(np.arange(dfa.states, dtype=np.int32)[:, None], len(order), axis=1)
    total = np.zeros_like(state)
    for at in range(longest):
        live = int((lengths > at).sum())
        byte = padded[:live, at]
        total[:, :live] += dfa.count[state[:, :live], byte]
        state[:, :live] = dfa.target[state[:, :live], byte]
    state[:, lengths == 0] = dfa.states
    dead = state == dfa.states
    state[dead], total[dead] = -1, 0
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return state[:, back], total[:, back]
