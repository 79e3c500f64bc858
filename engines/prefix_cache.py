"""The prefix cache: what was computed for the beginnings of earlier prompts, found again by their
tokens.

A radix tree over blocks of tokens. Each node holds the payload (keys and values, for a model) of one
block that follows the blocks on the path to it; a key at the root keeps prompts apart that were computed
in other ways (another adapter). The least recently used leaves go when the payloads exceed a budget of
bytes.

The structure is pure: payloads are opaque, their sizes are told. Its methods take a lock, so that one
thread may look up while another inserts; payloads handed out stay valid after they were dropped here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

P = TypeVar("P")

BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Hit(Generic[P]):
    """The longest known beginning: `tokens` of it, in `payloads` of `BLOCK_TOKENS` (or so) each."""

    tokens: int
    payloads: tuple[P, ...]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the start: lookups, those that found anything, tokens asked for and found, blocks that went
    to make room and blocks that had changed; and what is held now."""

    lookups: int
    hits: int
    asked_tokens: int
    found_tokens: int
    bytes: int
    blocks: int
    evicted_blocks: int
    spoilt_blocks: int = 0


@dataclass(slots=True, eq=False)
class _Node(Generic[P]):
    parent: _Node[P] | None
    edge: Hashable
    payload: P | None = None
    size: int = 0
    seal: Hashable = None
    children: dict[Hashable, _Node[P]] = field(default_factory=dict)


class PrefixCache(Generic[P]):
    """`size_of` tells the bytes of a payload; `budget` 0 keeps nothing.

    `seal_of` makes a checksum of a payload, which is compared whenever the payload is found; what has changed is
    dropped with all that follows it, so it is computed anew. None: payloads are trusted.
    """

    def __init__(
        self,
        budget: int,
        size_of: Callable[[P], int],
        block_tokens: int = BLOCK_TOKENS,
        seal_of: Callable[[P], Hashable] | None = None,
    ) -> None:
        self.budget = budget
        self.block_tokens = block_tokens
        self._size_of, self._seal_of = size_of, seal_of
        self._roots: dict[Hashable, _Node[P]] = {}
        # All nodes, the least recently used first. A parent is touched after its children, so it goes
        # later.
        self._order: dict[_Node[P], None] = {}
        self._lock = Lock()
        self._bytes = self._lookups = self._hits = self._asked = self._found = self._evicted = 0
        self._spoilt = 0

    def find(self, key: Hashable, tokens: Sequence[int], most: int | None = None) -> Hit[P]:
        """The longest beginning of `tokens` that is known under `key`, in whole blocks, at most `most`
        tokens.

        A prompt that is known in full still needs its last token computed, for the logits: ask for one
        less.
        """
        limit = len(tokens) if most is None else min(most, len(tokens))
        with self._lock:
            path = self._sound(list(self._walk(key, tokens, limit)))
            self._touch(path)
            found = len(path) * self.block_tokens
            self._lookups += 1
            self._hits += bool(path)
            self._asked += len(tokens)
            self._found += found
            return Hit(found, tuple(node.payload for node in path if node.payload is not None))

    def insert(self, key: Hashable, tokens: Sequence[int], make: Callable[[int, int], P]) -> int:
        """Keep the whole blocks of `tokens` under `key`; `make(start, stop)` gives the payload of a new
        one.

        Returns how many blocks were new. A block that alone exceeds the budget is not kept, nor what
        follows it.
        """
        added = 0
        with self._lock:
            node = self._roots.setdefault(key, _Node(None, key))
            path: list[_Node[P]] = []
            for start, edge in self._edges(tokens, len(tokens)):
                child = node.children.get(edge)
                if child is None:
                    child = self._add(node, edge, make(start, start + self.block_tokens), path)
                    if child is None:
                        break
                    added += 1
                path.append(child)
                node = child
            self._touch(path)
            for empty in [k for k, root in self._roots.items() if not root.children]:
                del self._roots[empty]
        return added

    def forget(self, key: Hashable, tokens: Sequence[int]) -> int:
        """Drop what is kept of the beginning of `tokens`, and all that was computed behind it.

        For payloads that turned out to be damaged. Returns how many blocks went.
        """
        with self._lock:
            before = len(self._order)
            first = next(iter(self._walk(key, tokens, len(tokens))), None)
            if first is not None:
                self._drop_all(first)
            return before - len(self._order)

    def clear(self) -> None:
        """Forget everything; the counts stay."""
        with self._lock:
            self._roots.clear()
            self._order.clear()
            self._bytes = 0

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                self._lookups,
                self._hits,
                self._asked,
                self._found,
                self._bytes,
                len(self._order),
                self._evicted,
                self._spoilt,
            )

    def _edges(self, tokens: Sequence[int], limit: int) -> Iterator[tuple[int, Hashable]]:
        size = self.block_tokens
        for start in range(0, limit - size + 1, size):
            yield start, tuple(tokens[start : start + size])

    def _walk(self, key: Hashable, tokens: Sequence[int], limit: int) -> Iterator[_Node[P]]:
        node = self._roots.get(key)
        for _, edge in self._edges(tokens, limit):
            node = node.children.get(edge) if node else None
            if node is None:
                return
            yield node

    def _add(
        self, parent: _Node[P], edge: Hashable, payload: P, path: list[_Node[P]]
    ) -> _Node[P] | None:
        """A new child of `parent`, after making room for it; None where `path` alone fills the budget."""
        size = self._size_of(payload)
        self._evict(size, set(path))
        if self._bytes + size > self.budget:
            return None
        seal = None if self._seal_of is None else self._seal_of(payload)
        child = _Node(parent, edge, payload, size, seal)
        parent.children[edge] = child
        self._order[child] = None
        self._bytes += size
        return child

    def _evict(self, room: int, kept: set[_Node[P]]) -> None:
        """Drop leaves, the least recently used first, until `room` bytes fit or nothing may go."""
        if self._bytes + room <= self.budget:
            return
        for node in list(self._order):
            if node not in kept and not node.children:
                self._drop(node)
                self._evicted += 1
                if self._bytes + room <= self.budget:
                    return

    def _sound(self, path: list[_Node[P]]) -> list[_Node[P]]:
        """The path up to the first payload that is not what it was; the rest is dropped."""
        if self._seal_of is None:
            return path
        for number, node in enumerate(path):
            if node.payload is not None and self._seal_of(node.payload) != node.seal:
                self._spoilt += self._drop_all(node)
                return path[:number]
        return path

    def _drop_all(self, node: _Node[P]) -> int:
        """Drop a node and all that follows it; how many that were."""
        count = sum(self._drop_all(child) for child in list(node.children.values()))
        self._drop(node)
        return count + 1

    def _drop(self, node: _Node[P]) -> None:
        del self._order[node]
        self._bytes -= node.size
        if node.parent is not None:
            del node.parent.children[node.edge]

    def _touch(self, path: list[_Node[P]]) -> None:
        for node in reversed(path):
            del self._order[node]
            self._order[node] = None
