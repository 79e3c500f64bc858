"""What a step or workflow takes: names, types and defaults, against which calls are checked at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

from carrara.workflows.errors import did_you_mean

MISSING: Any = inspect.Parameter.empty
_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Parameters:
    """The parameters of a definition, from a Python signature or declared by name.

    `types` maps every named parameter to its annotation, MISSING where there is none; `returns` is the
    annotation of the result, MISSING where there is none. `unresolved` is the reason why annotations could
    not be evaluated, "" if they could; the types are then MISSING.
    """

    __slots__ = (
        "_least",
        "_most",
        "defaults",
        "names",
        "returns",
        "signature",
        "types",
        "unresolved",
    )

    def __init__(
        self, signature: inspect.Signature, hints: Mapping[str, Any], unresolved: str = ""
    ) -> None:
        self.signature = signature
        named = [p for p in signature.parameters.values() if p.kind not in _SEVERAL]
        self.names = tuple(p.name for p in named)
        self.types: dict[str, Any] = {name: hints.get(name, MISSING) for name in self.names}
        self.defaults = {p.name: p.default for p in named if p.default is not MISSING}
        self.returns = hints.get("return", MISSING)
        self.unresolved = unresolved
        self._least, self._most = _positional_range(signature)

    @classmethod
    def of(cls, function: Callable[..., Any], scope: Mapping[str, Any] | None = None) -> Parameters:
        """Those of a function. `scope` holds the names that its annotations may use beside its module's."""
        signature = inspect.signature(function)
        plain = inspect.unwrap(function)
        while isinstance(plain, partial):
            plain = inspect.unwrap(plain.func)
        if not isinstance(plain, type) and not hasattr(plain, "__annotations__"):
            plain = type(plain).__call__  # an object that can be called
        known = {**getattr(plain, "__globals__", {}), **(scope or {})}
        try:
            return cls(signature, get_type_hints(plain, known, include_extras=True))
        except (NameError, TypeError, SyntaxError, AttributeError) as error:
            return cls(signature, {}, f"{type(error).__name__}: {error}")

    @classmethod
    def named(
        cls,
        *names: str,
        types: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        returns: Any = MISSING,
    ) -> Parameters:
        """Declared by name; given by position too, unless one without a default stands after one with."""
        defaults = defaults or {}
        in_order = _defaults_last(names, defaults)
        kind = (
            inspect.Parameter.POSITIONAL_OR_KEYWORD if in_order else inspect.Parameter.KEYWORD_ONLY
        )
        made = [inspect.Parameter(n, kind, default=defaults.get(n, MISSING)) for n in names]
        hints = dict(types or {})
        if returns is not MISSING:
            hints["return"] = returns
        return cls(inspect.Signature(made), hints)

    @property
    def takes_any(self) -> bool:
        """Whether there is a *args or **kwargs, so that names are not all known."""
        return any(p.kind in _SEVERAL for p in self.signature.parameters.values())

    @property
    def unnamed(self) -> str:
        """The first parameter that cannot be given by name, as it is written; "" if all can."""
        for name, parameter in self.signature.parameters.items():
            if parameter.kind in _SEVERAL:
                return str(parameter.replace(annotation=MISSING))
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                return f"{name} (before the '/')"
        return ""

    def check(self, owner: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError, as Python does for a function, where a call does not fit."""
        if kwargs or not self._least <= len(args) <= self._most:
            self._bound(owner, args, kwargs)

    def bind(self, owner: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, defaults filled in.

        Raises:
            TypeError: the call does not fit.
        """
        bound = self._bound(owner, args, kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _bound(
        self, owner: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> inspect.BoundArguments:
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [name for name in kwargs if name not in self.names]
            meant = did_you_mean(unknown[0], self.names) if unknown else None
            hint = f". Did you mean {meant!r}?" if meant else ""
            raise TypeError(f"{owner}{self.shown()}: {error}{hint}") from None

    def shown(self) -> str:
        """The names as in a call: `(doc, style=...)`."""
        parts = [f"{n}=..." if n in self.defaults else n for n in self.names]
        return f"({', '.join(parts)})"


def _defaults_last(names: tuple[str, ...], defaults: Mapping[str, Any]) -> bool:
    has = [name in defaults for name in names]
    return has == sorted(has)


def _positional_range(signature: inspect.Signature) -> tuple[float, float]:
    """How many positional arguments alone make a call that fits; none do if a keyword is needed."""
    least = most = 0.0
    for parameter in signature.parameters.values():
        needed = parameter.default is MISSING
        match parameter.kind:
            case inspect.Parameter.VAR_POSITIONAL:
                most = float("inf")
            case inspect.Parameter.KEYWORD_ONLY:
                least = float("inf") if needed else least
            case inspect.Parameter.VAR_KEYWORD:
                pass
            case _:
                most += 1
                least += needed
    return least, most
