"""Lines of Markdown from running text: breaks, spaces and marks are written where text follows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

LINE, PARAGRAPH = 1, 2
Keeping = Literal["verbatim", "code", "lines"]
"""What an element keeps of the text in it: all of it, all but its spaces, or its lines."""
_MAX_NESTED = 32
"""Quotes and lists are indented so far, what lies deeper no further."""
_SPACES = re.compile(r"[ \t\n\r\f]+")
_TICKS = re.compile("`+")
_TRADE = {"TM", "SM", "MC", "MD"}
_SIGNS = "+-\u2212"


@dataclass(slots=True)
class _Container:
    """What begins the lines of a heading, an item or a quotation: the first, behind what is around it; the others,
    together with what is around it; and, in a single line, the text."""

    first: str
    rest: str
    in_line: str
    is_used: bool = False


class Lines:
    """Takes text in reading order. What begins something returns the function that ends it."""

    def __init__(self, flat: bool = False) -> None:
        self._flat = int(flat)
        self._out: list[str] = []
        self._gap = LINE  # before the next character: none, a new line, a blank line
        self._space = False
        self._last = ""  # the character before, "" at the beginning of a line
        self._marks: list[str] = []  # written and not yet closed
        self._wanted: list[str] = []
        self._containers = [_Container("", "", "", is_used=True)]
        self._verbatim: list[str] = []
        self._code: list[str] = []
        self._around = Counter[Keeping]()  # elements that keep text
        self._shift = ""

    @property
    def is_flat(self) -> bool:
        return self._flat > 0

    def text(self) -> str:
        self._write_code()
        self._write_verbatim()
        self._close_marks()
        return "".join(self._out)

    def add(self, data: str) -> None:
        """Text as it stands in the page."""
        if self._around["verbatim"]:
            self._verbatim.append(data)
        elif self._around["code"]:
            self._code.append(data)
        elif self._around["lines"] and not self._flat:
            for number, line in enumerate(data.split("\n")):
                if number:
                    self.new_line()
                self._flow(line)
        else:
            self._flow(data)

    def add_block(self, lines: Iterable[str]) -> None:
        """Lines that are Markdown already."""
        self._write_code()
        self._write_verbatim()
        self._write_lines(lines)

    def rule(self) -> None:
        if not self._flat and not self._around["verbatim"]:
            self.add_block(["---"])

    def want(self, gap: int) -> None:
        """Asks for a new line or a blank one before what follows."""
        if self._around["verbatim"]:
            if self._verbatim and not self._verbatim[-1].endswith("\n"):
                self._verbatim.append("\n")
            return
        self._write_code()
        if self._flat:
            self._space = True
        else:
            self._gap = max(self._gap, gap if self._containers[-1].is_used else LINE)

    def new_line(self) -> None:
        """As `<br>` makes it: two of them leave a line blank."""
        if self._around["verbatim"]:
            self._verbatim.append("\n")
        else:
            self.want(PARAGRAPH if self._gap else LINE)

    def contain(
        self, first: str, rest: str, in_line: str, is_flat: bool = False, is_item: bool = False
    ) -> Callable[[], None]:
        """Lines begin with `first`, then with `rest`, where there is one line only with `in_line`. `is_flat`: all
        within stands in one line; `is_item`: no blank line after it."""
        around = self._containers[-1].rest
        rest = around + rest if len(self._containers) <= _MAX_NESTED else around
        container = _Container(in_line if self._flat else first, rest, in_line)
        self._containers.append(container)
        self._flat += is_flat

        def end() -> None:
            self._write_code()
            self._containers.pop()
            self._flat -= is_flat
            if is_item and container.is_used and not self._flat:
                self._gap = LINE

        return end

    def begin_mark(self, mark: str) -> Callable[[], None]:
        if mark in self._wanted:
            return lambda: None
        self._wanted.append(mark)
        return lambda: self._wanted.remove(mark)

    def begin_code(self) -> Callable[[], None]:
        return self._keep("code", self._write_code)

    def begin_verbatim(self) -> Callable[[], None]:
        if self._flat:
            return lambda: None
        self._write_code()
        return self._keep("verbatim", self._write_verbatim)

    def keep_lines(self) -> Callable[[], None]:
        return self._keep("lines", lambda: None)

    def _keep(self, what: Keeping, write: Callable[[], None]) -> Callable[[], None]:
        """`write` puts out what was kept, at the end of the outermost such element."""
        self._around[what] += 1

        def end() -> None:
            self._around[what] -= 1
            if not self._around[what]:
                write()

        return end

    def shift(self, mark: str) -> None:
        """What follows is raised ("^"), lowered ("_") or neither."""
        self._shift = mark

    def _flow(self, data: str) -> None:
        if not data:
            return
        core = _SPACES.sub(" ", data).strip()
        if not core:
            self._space = True
            return
        self._space |= data[0].isspace()
        self._put(core)
        self._space = data[-1].isspace()

    def _put(self, core: str) -> None:
        if self._gap:
            self._open_line()
        elif not self._containers[-1].is_used:
            self._begin_in_line()
        pairs = zip(self._marks, self._wanted, strict=False)
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        self._close_marks(same)
        if self._space and self._last:
            self._out.append(" ")
        elif self._shift and _needs_shift(self._last, self._shift, core):
            self._out.append(self._shift)
        self._shift = ""
        opened = self._wanted[same:]
        self._out += opened
        self._marks += opened
        self._out.append(core)
        self._last, self._space = core[-1], False

    def _open_line(self, text: str | None = None) -> None:
        """Begins a line, or writes a whole one."""
        self._close_marks()
        unused = self._unused()
        used = self._containers[-1 - len(unused)]
        if self._out:
            blank = "\n" + used.rest.rstrip() if self._gap == PARAGRAPH else ""
            self._out.append(blank + "\n")
        begun = used.rest + "".join(container.first for container in unused)
        self._out.append(begun if text is None else (begun + text).rstrip())
        self._gap, self._space, self._last = 0, False, ""

    def _begin_in_line(self) -> None:
        self._close_marks()
        begun = "".join(container.in_line for container in self._unused())
        if begun:
            self._out.append(" " + begun if self._last else begun)
            self._space, self._last = False, ""

    def _unused(self) -> list[_Container]:
        """The innermost containers in which nothing stands yet, from now on used."""
        found = list(takewhile(lambda one: not one.is_used, reversed(self._containers)))
        for container in found:
            container.is_used = True
        found.reverse()
        return found

    def _close_marks(self, keep: int = 0) -> None:
        self._out += reversed(self._marks[keep:])
        del self._marks[keep:]

    def _write_code(self) -> None:
        data, self._code = "".join(self._code), []
        core = _SPACES.sub(" ", data).strip()
        if core:
            longest = max(map(len, _TICKS.findall(core)), default=0)
            ticks, pad = "`" * (longest + 1), " " if longest else ""
            self._space |= data[0].isspace()
            self._put(f"{ticks}{pad}{core}{pad}{ticks}")
        if data:
            self._space = data[-1].isspace()

    def _write_verbatim(self) -> None:
        data, self._verbatim = "".join(self._verbatim), []
        lines = [line.rstrip() for line in data.split("\n")]
        shown = [number for number, line in enumerate(lines) if line]
        if shown:
            fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(data)), default=0))
            self._gap = max(self._gap, PARAGRAPH if self._containers[-1].is_used else LINE)
            self._write_lines([fence, *lines[shown[0] : shown[-1] + 1], fence])
            self._gap = PARAGRAPH

    def _write_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._gap = max(self._gap, LINE)
            self._open_line(line)
        self._gap = LINE


def _needs_shift(before: str, mark: str, core: str) -> bool:
    """Whether what is raised or lowered would read as part of what stands before it: not in 1st and H2O."""
    if not (before.isalnum() or before == ")") or not (core[0].isalnum() or core[0] in _SIGNS):
        return False
    if mark == "_":
        return before.isdigit() and core[0].isdigit()
    return not ((before.isdigit() and core.isalpha()) or core in _TRADE)


__all__ = ["LINE", "PARAGRAPH", "Lines"]
