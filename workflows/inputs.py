"""The inputs of a workflow from plain data: records of a job, options of the command line, a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carrara.workflows.calls import Definition
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
        self.name = workflow.name
        self.parameters = workflow.parameters
        self._adapters: dict[str, TypeAdapter[Any]] = {
            name: adapter_for(annotation)
            for name, annotation in workflow.parameters.types.items()
            if annotation is not MISSING
        }

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name. Text may stand for a number or a date, and JSON text for a list or object.

        Raises:
            InputError: an input is missing, unknown, or not of its type; `name` says which.
        """
        known = self.parameters.names
        for name in values:
            if name not in known and not self.parameters.takes_any:
                meant = did_you_mean(name, known)
                hint = f"Did you mean {meant!r}?" if meant else f"It takes: {', '.join(known)}."
                raise InputError(f"{self.name} takes no input {name!r}. {hint}", name=name)
        for name in known:
            if name not in values and name not in self.parameters.defaults:
                raise InputError(f"{self.name} needs the input {name!r}", name=name)
        return {name: self._value(name, value) for name, value in values.items()}

    def _value(self, name: str, value: Any) -> Any:
        from pydantic import ValidationError

        adapter = self._adapters.get(name)
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            if isinstance(value, str):
                try:
                    return adapter.validate_json(value)
                except ValidationError:
                    pass  # the first error is about what was written
            reason = str(refusal(error)).removeprefix("value: ")
            raise InputError(f"input {name!r} of {self.name}: {reason}", name=name) from error


def read_inputs(workflow: Definition[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The typed arguments of one call; see InputReader."""
    return InputReader(workflow).read(values)
