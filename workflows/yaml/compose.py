"""Reading YAML 1.2 to a Source: dicts, lists and scalars, and the place of each.

ruamel.yaml composes the text to a tree of marked nodes; this module turns the tree into plain data. Mistakes
that do not hide the rest of the file (a duplicate key, a tag) are noted; text that is no YAML is one mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from carrara.workflows.yaml.mistakes import Mistake, Mistakes
from carrara.workflows.yaml.source import Location, Source, mark_of

MAX_PARTS = 100_000
"""Keys, items and values in one file, aliases counted each time they are used."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_AS_TEXT = {_TAG + "str", _TAG + "timestamp"}
_PLAIN = {_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"}


_PIPELINE = "a pipeline needs 'steps'"


def read(path: Path, name: str, mistakes: Mistakes, needs: str = _PIPELINE) -> Source | None:
    """The file at `path`, shown as `name` in messages; None if it has no content to go on with. `needs` says of an
    empty one what it lacks."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        mistakes.add(Mistake(name, 0, 0, f"cannot read the file: {error.strerror or error}"))
        return None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        text = f"not UTF-8 text: byte 0x{error.object[error.start]:02x} cannot be read"
        mistakes.add(Mistake(name, line, 1, text))
        return None
    return parse(text, name, mistakes, needs)


def parse(text: str, name: str, mistakes: Mistakes, needs: str = _PIPELINE) -> Source | None:
    """The YAML `text` as a Source, None (and a mistake) if it is empty or no YAML."""
    source = Source(name, text)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mistakes.add(_syntax_mistake(error, source))
        return None
    except (YAMLError, RecursionError, ValueError) as error:
        mistakes.add(_unreadable(error, source))
        return None
    if root is None:
        mistakes.add(Mistake(name, 1, 1, f"the file is empty: {needs}"))
        return None
    return source if _Builder(source, mistakes).build_root(root) else None


class _Builder:
    """Walks the composed nodes once, filling the data and the locations of a Source."""

    def __init__(self, source: Source, mistakes: Mistakes) -> None:
        self.source, self.mistakes = source, mistakes
        self.scalars = SafeConstructor(preserve_quotes=None, loader=YAML(typ="safe", pure=True))
        self.open: list[int] = []
        self.parts = 0

    def build_root(self, root: Node) -> bool:
        """Fill the source; False after a mistake that leaves nothing to go on with."""
        try:
            self.source.value = self.build(root, ())
            return True
        except _TooMuch as error:
            mark = mark_of(error.node)
            self.mistakes.add(Mistake(self.source.name, mark.line, mark.column, str(error)))
        except RecursionError:
            self.mistakes.add(Mistake(self.source.name, 1, 1, "nested too deeply to be read"))
        return False

    def build(self, node: Node, where: Location) -> Any:
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise _TooMuch(f"more than {MAX_PARTS:,} parts, aliases counted", node)
        if id(node) in self.open:
            raise _TooMuch("an anchor that contains itself", node)
        self.source.nodes[where] = node
        self.open.append(id(node))
        try:
            if isinstance(node, MappingNode) and _is_bare_template(node):
                self.note(node, 'a template must stand in quotes: "{{ … }}"')
                return "{{ none }}"  # read on as if it were the template that was meant
            if isinstance(node, MappingNode):
                return self.mapping(node, where)
            if isinstance(node, SequenceNode):
                return [self.build(item, (*where, i)) for i, item in enumerate(node.value)]
            return self.scalar(node)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, where: Location) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for part in self.merge_parts(value):
                    merged = self.mapping(part, where) | merged
        built: dict[str, Any] = {}
        for key, value in node.value:
            name = None if key.tag == _MERGE else self.key(key)
            if name is None:
                continue
            spot = (*where, name)
            if name in built:
                first = mark_of(self.source.keys[spot]).line
                self.note(key, f"duplicate key '{name}', first written in line {first}")
                continue
            self.source.keys[spot] = key
            built[name] = self.build(value, spot)
        return merged | built

    def merge_parts(self, node: Node) -> Iterator[MappingNode]:
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(part, MappingNode) and id(part) not in self.open:
                yield part
            else:
                self.note(part, "'<<' takes a mapping, or a list of mappings")

    def key(self, node: Node) -> str | None:
        if isinstance(node, ScalarNode):
            return str(node.value)
        self.note(node, "a key must be text")
        return None

    def scalar(self, node: Node) -> Any:
        if node.tag in _PLAIN:
            try:
                return self.scalars.construct_object(node)
            except (ValueError, YAMLError):
                self.note(node, f"{str(node.value)[:40]!r} is no number that can be read")
                return 0
        if node.tag not in _AS_TEXT:
            written = str(node.tag).replace(_TAG, "!!")
            self.note(node, f"tags like '{written}' are not used in pipelines")
        return str(node.value)

    def note(self, node: Node, message: str) -> None:
        mark = mark_of(node)
        self.mistakes.add(Mistake(self.source.name, mark.line, mark.column, message))


class _TooMuch(Exception):
    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.node = node


def _is_bare_template(node: MappingNode) -> bool:
    """`{{ x }}` without quotes is a mapping with a mapping as its key."""
    return len(node.value) == 1 and isinstance(node.value[0][0], MappingNode)


def _syntax_mistake(error: MarkedYAMLError, source: Source) -> Mistake:
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or error.context or "not YAML").replace("\n", " ")
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Mistake(source.name, line, column, f"not YAML: {problem}{_syntax_advice(problem)}")


def _syntax_advice(problem: str) -> str:
    if "\\t" in problem:
        return ". Indent with spaces, YAML takes no tabs"
    if "mapping values are not allowed" in problem:
        return ". Text with ': ' in it must stand in quotes"
    return ""


def _unreadable(error: Exception, source: Source) -> Mistake:
    position = getattr(error, "position", None)
    if isinstance(position, int):
        before = source.text[:position]
        line, column = before.count("\n") + 1, position - before.rfind("\n")
        code = ord(source.text[position])
        text = f"not YAML: the character U+{code:04X} is not allowed. Is this a text file?"
        return Mistake(source.name, line, column, text)
    reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Mistake(source.name, 1, 1, f"not YAML: {reason}".replace("\n", " "))
