"""The inputs of a workflow from plain data: records of a job, options of the command line, a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from carrara.workflows.calls import Definition
from carrara.workflows.digits import as_decimals, as_floats, takes_decimals
from carrara.workflows.errors import InputError, did_you_mean
from carrara.workflows.json_types import adapter_for, refusal
from carrara.workflows.parameters import MISSING

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class InputReader:
    """Turns mappings of plain values into the typed arguments of one workflow, many times over.

    Raises:
        DefinitionError: an input's type cannot be read from plain data.
    """

    def __init__(self, workflow: Definition[..., Any]) -> None:
        from pydantic import ValidationError

        self._refused = ValidationError
        self.name = workflow.name
        self.parameters = workflow.parameters
        self._adapters: dict[str, TypeAdapter[Any]] = {
            name: adapter_for(annotation)
            for name, annotation in workflow.parameters.types.items()
            if annotation is not MISSING
        }
        self._exact = {name for name, found in self._adapters.items() if takes_decimals(found)}
        self._of_empty: dict[str, Any] = {}
        self._of_null: dict[str, Any] = {}

    def read(self, values: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
        """The arguments by name. Text may stand for a number or a date, and JSON text for a list or object.
        With `partial` none is missed.

        Raises:
            InputError: an input is missing, unknown, or not of its type; `name` says which.
        """
        self.check_names(values)
        for name in self.parameters.names:
            if not partial and name not in values and name not in self.parameters.defaults:
                raise InputError(f"{self.name} needs the input {name!r}", name=name)
        return self.read_some(values)

    def read_some(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Like `read`, for a part of the inputs: what is missing is given elsewhere."""
        self.check_names(values)
        found, wrong = {}, {}
        for name, value in values.items():
            try:
                found[name] = self._value(name, value)
            except InputError as error:
                wrong[name] = error
        if len(wrong) == 1:
            raise next(iter(wrong.values()))
        if wrong:
            raise InputError("\n".join(map(str, wrong.values())))
        return found

    def of_empty(self, name: str) -> Any:
        """What an empty cell of a table of text is for the input: "" where it takes text or must be given, else MISSING
        for its default, or None."""
        if name not in self._of_empty:
            self._of_empty[name] = self._empty(name)
        return self._of_empty[name]

    def of_null(self, name: str) -> Any:
        """What null is for the input: MISSING where it has a default and takes no null, else None."""
        if name not in self._of_null:
            adapter = self._adapters.get(name)
            refused = adapter is not None and not _takes(adapter, None)
            falls_back = refused and name in self.parameters.defaults
            self._of_null[name] = MISSING if falls_back else None
        return self._of_null[name]

    @property
    def keeps_digits(self) -> bool:
        """Whether an input takes decimals: then numbers may come as `Digits`."""
        return bool(self._exact)

    def needs_text(self, name: str) -> bool:
        """Whether an input takes a text and neither null nor a default: a blank text is nothing to work on."""
        if name in self.parameters.defaults:
            return False
        adapter = self._adapters.get(name)
        return adapter is None or (_takes(adapter, "") and not _takes(adapter, None))

    def _empty(self, name: str) -> Any:
        adapter = self._adapters.get(name)
        if adapter is None or _takes(adapter, ""):
            return ""
        if name in self.parameters.defaults:
            return MISSING
        return None if _takes(adapter, None) else ""

    def check_names(self, names: Iterable[str]) -> None:
        """Raise InputError for a name that is no input."""
        known = self.parameters.names
        for name in names:
            if name not in known and not self.parameters.takes_any:
                meant = did_you_mean(name, known)
                hint = f"Did you mean {meant!r}?" if meant else f"It takes: {', '.join(known)}."
                raise InputError(f"{self.name} takes no input {name!r}. {hint}", name=name)

    def _value(self, name: str, value: Any) -> Any:
        if self._exact:
            value = as_decimals(value) if name in self._exact else as_floats(value)
        adapter = self._adapters.get(name)
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except self._refused as error:
            cause = error
            if isinstance(value, str):
                try:
                    return adapter.validate_json(value)
                except self._refused as of_json:
                    if value.lstrip().startswith(("{", "[")):  # meant as JSON
                        cause = of_json
            reason = str(refusal(cause)).removeprefix("value: ")
            raise InputError(f"input {name!r} of {self.name}: {reason}", name=name) from cause


def _takes(adapter: TypeAdapter[Any], value: Any) -> bool:
    from pydantic import ValidationError

    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def read_inputs(workflow: Definition[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The typed arguments of one call; see InputReader."""
    return InputReader(workflow).read(values)


def assignments(texts: Iterable[str], option: str = "--set") -> dict[str, str]:
    """`["name=value", ...]` as a mapping.

    Raises:
        InputError: a text without "=".
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} takes NAME=VALUE, not {text!r}")
        found[name.strip()] = value
    return found
