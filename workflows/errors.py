"""What can be wrong with a definition, with its inputs, and with a prompt while it is rendered."""

from __future__ import annotations

from collections.abc import Iterable

from carrara.engines.errors import CarraraError, EngineRefused


class DefinitionError(CarraraError):
    """A workflow, a step or a pipeline is written wrongly. Raised before anything runs.

    `text` is the message without its place; `file`, `line` and `column` (both from 1) are None where they
    are not known; `hint` is what was probably meant.
    """

    def __init__(
        self,
        text: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.text = text
        self.file = file
        self.line = line
        self.column = column
        self.hint = hint
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        if hint:
            text = f"{text.rstrip('.')}. Did you mean {hint!r}?"
        super().__init__(f"{place}: {text}" if place else text)


class InputError(CarraraError, ValueError):
    """The inputs given to a workflow are not those it takes. `name` is the input, "" for several."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class PolicyRefused(EngineRefused):
    """A run's routing policy names what there is not, or cannot work. Raised before anything runs."""


class RenderError(CarraraError):
    """A prompt could not be rendered from these inputs; trying again gives the same."""


class Refusal(ValueError):
    """A typed value was refused. `paths` are the JSON pointers of the parts that are wrong, if known."""

    def __init__(self, message: str, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


def did_you_mean(word: str, options: Iterable[str]) -> str | None:
    """The option nearest to `word`, None if none is near."""
    from carrara.engines.nearest import nearest

    return nearest(word, options)
