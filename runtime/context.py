"""What a step's body can ask the runtime for."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from carrara.runtime.events import Event, StepEvent
from carrara.runtime.node import StepNode
from carrara.runtime.step import RunInfo


class StepContext:
    """The node that is running, seen from inside its body. Valid only while the body runs."""

    __slots__ = ("_executor", "_node")

    def __init__(self, node: StepNode) -> None:
        self._node = node
        self._executor = node.scope.executor

    @property
    def run(self) -> RunInfo:
        return self._executor.info

    @property
    def path(self) -> str:
        """The node's place in the run: "book/extract[3]"."""
        return self._node.path

    @property
    def node(self) -> int:
        """The node's number in the run, as events carry it."""
        return self._node.seq

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self._node.attempt

    @property
    def rank(self) -> float:
        """How urgent the node is now: estimated seconds from its start to the end of what waits for it."""
        return self._executor.scheduler.rank(self._node)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this node, also in a resumed run; give it to what has effects."""
        node = self._node
        if node.entry is not None and node.entry.identity:
            parts = (self.run.id, *map(str, node.entry))
        else:
            parts = (self.run.id, node.key)
        return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

    @property
    def resources(self) -> Mapping[str, Any]:
        """What `execute` was given: engines, router, cassette."""
        return self._executor.resources

    @property
    def listening(self) -> bool:
        """Whether anybody takes events; if not, none need be built."""
        return self._executor.stream.watched or self._executor.stream.kept

    def emit(self, event: Event) -> None:
        self._executor.stream.emit(event)

    def tell(self, kind: type[StepEvent], /, **fields: Any) -> None:
        """Emit an event about this node; it is built only if somebody takes it."""
        self._executor.stream.tell(kind, self._node, **fields)
