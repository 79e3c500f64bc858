"""What an LLM step says: a template over its inputs, a system message, examples; the messages of a call."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.contract import Contract, Json, Outline, Table
from carrara.engines.request import Message
from carrara.workflows.errors import DefinitionError, RenderError, did_you_mean
from carrara.workflows.template import Template
from carrara.workflows.types import ValueType

Example = tuple[Mapping[str, Any], Any]
"""Inputs by name, and the answer that is right for them."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` is the template of the user message, `system` that of the system message, "" for none.

    `messages` makes the messages itself, from the same inputs; there is then no template. `examples` are
    shown as earlier turns between the two.
    """

    text: str = ""
    system: str = ""
    messages: Callable[..., Sequence[Message]] | None = None
    examples: tuple[Example, ...] = ()
    _text: Template = field(init=False, repr=False, compare=False)
    _system: Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_text", Template(self.text))
        object.__setattr__(self, "_system", Template(self.system))

    @property
    def wording(self) -> tuple[Message, ...]:
        """The templates as messages, before anything is put into them; none where a function makes the messages."""
        return (
            *((Message("system", self.system),) if self.system else ()),
            Message("user", self.text),
        )

    def check_example(self, inputs: Mapping[str, Any], names: Collection[str]) -> None:
        """Raise DefinitionError where an example's inputs are not `names`, or do not render."""
        for name in inputs:
            if name not in names:
                raise DefinitionError(f"{name!r} is no input", hint=did_you_mean(name, names))
        try:
            self._text.render(inputs)
        except RenderError as error:
            raise DefinitionError(str(error)) from error

    def build(self, values: Mapping[str, Any], answer: ValueType) -> tuple[Message, ...]:
        """The messages for these inputs.

        Raises:
            RenderError: a template fails on these inputs, or the prompt is empty.
        """
        if self.messages is not None:
            return tuple(self.messages(**values))
        found = []
        if self.system:
            found.append(Message("system", self._system.render(values)))
        for inputs, wanted in self.examples:
            found.append(Message("user", self._text.render(inputs)))
            found.append(Message("assistant", written(answer, wanted)))
        text = self._text.render(values)
        if not text:
            raise RenderError("the prompt is empty for these inputs")
        return (*found, Message("user", text))


def written(answer: ValueType, value: Any) -> str:
    """A typed value as a model would write it under its contract.

    Raises:
        DefinitionError: the value is none that the contract allows.
    """
    try:
        text = _text_of(answer.contract, answer.from_python(value))
        answer.to_python(answer.contract.parse(text))
    except Exception as error:  # values of users' types: whatever fails, the example is wrong
        reason = f"{type(error).__name__}: {error}"
        raise DefinitionError(f"{value!r} is no answer of this type: {reason}") from error
    return text


def _text_of(contract: Contract, value: Any) -> str:
    from carrara.engines.markdown import render_outline, render_table

    match contract:
        case Json():
            return json.dumps(value, ensure_ascii=False)
        case Table():
            return render_table(value, contract)
        case Outline():
            return render_outline(value)
        case _:
            return str(value)
