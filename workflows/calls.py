"""What happens when a step is called: inside a workflow, in a trace, or outside of both; and its types.

Type checkers see exact results everywhere, and check arguments by name, number and type. An argument given
by position may also be a handle of the right type, or a list or dict of handles. In a keyword argument,
beside plain values in a list, or in a field of a dataclass, `later(handle)` says the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    overload,
)

from carrara.runtime.fingerprint import things_used
from carrara.runtime.handle import Handle
from carrara.runtime.run import in_workflow, submit, submit_map
from carrara.runtime.step import StepSpec
from carrara.workflows.parameters import MISSING, Parameters

P = ParamSpec("P")
Q = ParamSpec("Q")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
F_co = TypeVar("F_co", covariant=True)

Several = Sequence[Handle[Any]] | Mapping[str, Handle[Any]]


class Tracer(Protocol):
    """Something that is told of calls instead of the runtime."""

    def call(self, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    def map(self, step: Any, items: Any, common: dict[str, Any]) -> Any: ...


tracer: ContextVar[Tracer | None] = ContextVar("carrara_tracer", default=None)


class Wraps(Generic[F_co]):
    """The function behind a definition, for type checkers: it binds the parameters of `self` below."""


class Definition(Wraps[Callable[P, R_co]], Generic[P, R_co]):
    """A step or workflow: something that is called inside workflows. `name` is what paths and reports call
    it, `function` what it was made of, None where there is none."""

    def __init__(
        self, name: str, parameters: Parameters, function: Callable[..., Any] | None = None
    ) -> None:
        if function is not None:
            functools.update_wrapper(self, function)
        self.function: Callable[..., Any] | None = function
        self.name = name
        self.parameters = parameters

    @cached_property
    def spec(self) -> StepSpec:
        """Made at the first use, when everything that the definition refers to is there."""
        raise NotImplementedError

    @cached_property
    def inside(self) -> list[Definition[..., Any]]:
        """The steps and workflows that its function uses, also through functions, classes and objects of its project;
        found at the first use, as `spec` is made."""
        used = [] if self.function is None else things_used(self.function)
        return [thing for thing in used if isinstance(thing, Definition)]

    @property
    def returns(self) -> Any:
        """The annotation of the result, None where there is none; of `Handle[T]` it is T."""
        found = self.parameters.returns
        if found is MISSING:
            return None
        return get_args(found)[0] if get_origin(found) is Handle else found

    def _outside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call where no workflow function is running."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}{self.parameters.shown()}>"

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]: ...
    @overload
    def __call__(
        self: Wraps[Callable[Concatenate[A, Q], R]],
        a: A | Handle[A] | Several,
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[R]: ...
    @overload
    def __call__(
        self: Wraps[Callable[Concatenate[A, B, Q], R]],
        a: A | Handle[A] | Several,
        b: B | Handle[B] | Several,
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[R]: ...
    @overload
    def __call__(
        self: Wraps[Callable[Concatenate[A, B, C, Q], R]],
        a: A | Handle[A] | Several,
        b: B | Handle[B] | Several,
        c: C | Handle[C] | Several,
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[R]: ...
    @overload
    def __call__(
        self: Wraps[Callable[Concatenate[A, B, C, D, Q], R]],
        a: A | Handle[A] | Several,
        b: B | Handle[B] | Several,
        c: C | Handle[C] | Several,
        d: D | Handle[D] | Several,
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[R]: ...
    @overload
    def __call__(
        self: Wraps[Callable[Concatenate[A, B, C, D, E, Q], R]],
        a: A | Handle[A] | Several,
        b: B | Handle[B] | Several,
        c: C | Handle[C] | Several,
        d: D | Handle[D] | Several,
        e: E | Handle[E] | Several,
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[R]: ...
    @overload
    def __call__(
        self: Wraps[Callable[Concatenate[A, B, C, D, E, F, Q], R]],
        a: A | Handle[A] | Several,
        b: B | Handle[B] | Several,
        c: C | Handle[C] | Several,
        d: D | Handle[D] | Several,
        e: E | Handle[E] | Several,
        f: F | Handle[F] | Several,
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # Q against Any
        """Inside a workflow: submit the step and give its handle at once.

        Raises:
            TypeError: the arguments do not fit.
        """
        self.parameters.check(self.name, args, kwargs)
        if in_workflow():
            return submit(self.spec, args, kwargs)
        told = tracer.get()
        return self._outside(args, kwargs) if told is None else told.call(self, args, kwargs)

    @overload
    def map(
        self: Wraps[Callable[Concatenate[A, Q], R]],
        items: Iterable[A] | Handle[Iterable[A]] | Iterable[Handle[A]],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handle[list[R]]: ...
    @overload
    def map(
        self: Wraps[Callable[Concatenate[A, ...], R]],
        items: Iterable[A] | Handle[Iterable[A]] | Iterable[Handle[A]],
        /,
        *,
        limit: int,
        **common: Any,
    ) -> Handle[list[R]]: ...
    def map(self, items: Any, /, *args: Any, limit: int | None = None, **common: Any) -> Any:  # type: ignore[misc]
        """This step for each of `items`, side by side: a handle of the results in the order of the items.

        `items` is an iterable, or the handle of a list; the other arguments are the same for all. At most
        `limit` of them run at once.
        """
        common.update(zip(self.parameters.names[1:], args, strict=False))
        self.parameters.check(self.name, (None,), common)
        if in_workflow():
            return submit_map(self.spec, items, common, limit)
        told = tracer.get()
        if told is not None:
            return told.map(self, items, common)
        return [self._outside((item,), common) for item in items]


def later(handle: Handle[T]) -> T:
    """The handle itself, typed as the value it will hold.

    For type checkers only, where they cannot see that a handle may stand for a value: in a keyword argument,
    in a list beside plain values, in a field of a dataclass. It runs nothing and waits for nothing.
    """
    return handle  # type: ignore[return-value]  # the point of this function
