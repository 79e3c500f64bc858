"""Chat templates: a conversation as segments of control tokens and of text, whatever the contents hold.

A model's Jinja template runs in an immutable sandbox. Contents pass through it guarded: a mark that no
content can hold breaks up every control token in them, and stands at both of their ends so that
neighbours cannot form one either. After rendering, control tokens are those of the template alone, and
the marks go.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from carrara.engines.errors import CarraraError, EngineRefused, LoadingError
from carrara.engines.request import Message, Role

if TYPE_CHECKING:
    from jinja2 import Template

_ROLES = get_args(Role)


@dataclass(frozen=True, slots=True)
class Control:
    """A control token as the tokenizer declares it; the strip flags swallow white space beside it."""

    id: int
    text: str
    strips_left: bool = False
    strips_right: bool = False


class ChatTemplate:
    """One model's template. `named` are the variables it may use, such as bos_token."""

    def __init__(
        self, source: str, controls: Iterable[Control], named: Mapping[str, str], where: str
    ) -> None:
        self._source = source
        self._named = dict(named)
        self._where = where
        self._controls = {control.text: control for control in controls if control.text}
        # Longest first: "<|im_end|>" must not be found as the "<|" of another token.
        texts = sorted(self._controls, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        # Private-use characters drawn anew in each process: no content can be written to hold them, and no
        # filter of a template changes them.
        self._mark = "".join(chr(0xE000 + secrets.randbelow(0x1900)) for _ in range(8))

    def segments(self, messages: Sequence[Message]) -> Iterator[Control | str]:
        """The conversation with the opening of the answer: control tokens, and the text between them.

        Raises:
            EngineRefused: the template does not take such a conversation; holds its own words.
            LoadingError: the template itself is broken.
        """
        rendered = self._render(messages)
        start, strip = 0, False
        for found in self._pattern.finditer(rendered):
            control = self._controls[found[0]]
            text = self._unmarked(rendered[start : found.start()], strip, control.strips_left)
            if text:
                yield text
            yield control
            start, strip = found.end(), control.strips_right
        if text := self._unmarked(rendered[start:], strip, False):
            yield text

    def _render(self, messages: Sequence[Message]) -> str:
        import jinja2

        if wrong := next((m.role for m in messages if m.role not in _ROLES), None):
            raise CarraraError(f"a message has the role {wrong!r}, known are {', '.join(_ROLES)}")
        turns = [{"role": m.role, "content": self._guarded(m.content)} for m in messages]
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **self._named)
        except _Refusal as error:
            raise EngineRefused(f"{self._where} refuses the conversation: {error}") from error
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            raise LoadingError(f"{self._where}: failed on a conversation: {error}") from error

    def _guarded(self, content: str) -> str:
        core = content.strip()
        if not core:  # templates ask whether a content is empty, and white space forms no token
            return content
        before, _, after = content.partition(core)
        broken = self._pattern.sub(lambda found: found[0][0] + self._mark + found[0][1:], core)
        # Inside the outer white space, so that a template that trims finds it.
        return f"{before}{self._mark}{broken}{self._mark}{after}"

    def _unmarked(self, text: str, strip_left: bool, strip_right: bool) -> str:
        text = text.replace(self._mark, "")
        text = text.lstrip() if strip_left else text
        return text.rstrip() if strip_right else text

    @cached_property
    def _template(self) -> Template:
        import jinja2
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _plain_json
        environment.globals["raise_exception"] = _refuse
        try:
            return environment.from_string(self._source)
        except jinja2.TemplateError as error:
            raise LoadingError(f"{self._where}: is not a Jinja template: {error}") from error


class _Refusal(Exception):
    """What a template says when it calls raise_exception."""


def _refuse(words: object) -> None:
    raise _Refusal(str(words))


def _plain_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes HTML; models were trained on plain JSON.
    return json.dumps(value, ensure_ascii=False, indent=indent)
