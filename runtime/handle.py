"""Handles: what calling a step inside a workflow returns."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from carrara.runtime.errors import HandleError
from carrara.runtime.node import StepNode, current
from carrara.runtime.scheduler import DONE
from carrara.runtime.shapes import PLAIN, private

T = TypeVar("T", covariant=True)


class Handle(Generic[T]):
    """A value that a step will return. Pass it to other steps, or await it.

    Awaiting raises StepError if the step, or one that it waits for, failed for good. A handle may be
    awaited many times and by many; each time gives a value of its own, whose changes nobody else sees. Every
    other use of a handle as if it were the value is an error that says so.
    """

    __slots__ = ("_node",)

    def __init__(self, node: StepNode) -> None:
        self._node = node

    def __await__(self) -> Generator[Any, None, T]:
        node = self._node
        if node.state < DONE:
            self._check_may_wait()
            woken = node.scope.executor.loop.create_future()
            if node.waiters is None:
                node.waiters = [woken]
            else:
                node.waiters.append(woken)
            yield from woken
        if node.error is not None:
            raise node.given_error()
        value: T = node.value
        return value if type(value) in PLAIN else private(value)

    def cancel(self, reason: str = "no longer wanted") -> None:
        """Give the step up, with everything that waits for it. Nothing happens if it has ended.

        Awaiting it raises StepError afterwards. A sync body that runs already goes on in its thread, its
        result is dropped.
        """
        self._node.scope.executor.cancel(self._node, reason)

    def _check_may_wait(self) -> None:
        # A step that waited would keep its place from the very step it waits for.
        asking = current.get()
        if isinstance(asking, StepNode):
            raise HandleError(
                f"step {asking.path!r} cannot wait for step {self._node.path!r}: "
                "pass the handle to it as an argument, then its body gets the value"
            )

    def __repr__(self) -> str:
        return f"<handle of step {self._node.path!r}: {self._node.state_name}>"

    def _misused(self, what: str) -> NoReturn:
        raise HandleError(
            f"{what} the handle of step {self._node.path!r}: its value is not there yet. "
            "Write `await` before it to get the value, or pass the handle to another step."
        )

    def __bool__(self) -> NoReturn:
        self._misused("cannot test")

    # Hidden from type checkers, so that they report a forgotten `await` instead of believing these.
    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            self._misused("cannot iterate over")

        def __len__(self) -> NoReturn:
            self._misused("cannot take the length of")

        def __contains__(self, item: object) -> NoReturn:
            self._misused("cannot look inside")

        def __getitem__(self, item: object) -> NoReturn:
            self._misused(f"cannot take item {item!r} of")

        def __setitem__(self, item: object, value: object) -> NoReturn:
            self._misused(f"cannot set item {item!r} of")

        def __delitem__(self, item: object) -> NoReturn:
            self._misused(f"cannot delete item {item!r} of")

        def __reversed__(self) -> NoReturn:
            self._misused("cannot iterate over")

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # what Python and debuggers probe for must fail the usual way
                raise AttributeError(name)
            self._misused(f"cannot read {name!r} of")

        def __format__(self, spec: str) -> NoReturn:
            self._misused("cannot format")

        def __str__(self) -> NoReturn:
            self._misused("cannot make text of")

        def __copy__(self) -> Handle[Any]:
            return self

        def __deepcopy__(self, memo: object) -> Handle[Any]:
            return self

        def __reduce__(self) -> NoReturn:
            self._misused("cannot pickle")

        def __call__(self, *args: object, **kwargs: object) -> NoReturn:
            self._misused("cannot call")

        def __eq__(self, other: object) -> bool:
            if isinstance(other, Handle):
                return self is other
            self._misused(f"cannot compare {type(other).__name__!r} with")

        def __hash__(self) -> int:
            return id(self)

        def _order(self, other: object) -> NoReturn:
            self._misused("cannot compare")

        __lt__ = __le__ = __gt__ = __ge__ = _order

        def _operate(self, *others: object) -> NoReturn:
            self._misused("cannot compute with")

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _operate
        __rtruediv__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = __divmod__ = _operate
        __mod__ = __rmod__ = __or__ = __ror__ = __and__ = __rand__ = __xor__ = __rxor__ = _operate
        __matmul__ = __rmatmul__ = __lshift__ = __rshift__ = __neg__ = __pos__ = __invert__ = (
            _operate
        )
        __abs__ = __round__ = __int__ = __float__ = __complex__ = __index__ = _operate
