"""Writing a given value into a tree, and taking fields of it out again: for drafts, and for training canvases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from carrara.engines.diffusion.scaffold.forms import MISSING
from carrara.engines.diffusion.scaffold.nodes import (
    Chain,
    Fork,
    Group,
    Hole,
    Node,
    OpenEnd,
    Pinned,
    Step,
)
from carrara.engines.diffusion.scaffold.read import Path, members
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.errors import CarraraError
from carrara.engines.json_schema import pointer


@dataclass(frozen=True, slots=True)
class Filler:
    """Writes values into nodes.

    Where a value does not fit, a `strict` filler refuses; another leaves the part undecided.
    """

    tree: Tree
    strict: bool = True

    def fill(self, node: Node, value: Any, path: Path = ()) -> None:
        """Write `value` into a fresh node.

        Raises:
            CarraraError: strict, and the value does not fit; names the field.
        """
        match node:
            case Pinned() | OpenEnd():
                return
            case Hole():
                self._fill_hole(node, value, path)
            case Step():
                here = path if node.form.silent else (*path, node.form.step)
                self.fill(node.part, node.form.pick(value), here)
            case Group():
                for part in node.parts:
                    self.fill(part, value, path)
            case Fork():
                self._fill_fork(node, value, path)
            case Chain():
                self._fill_chain(node, value, path)

    def _fill_hole(self, hole: Hole, value: Any, path: Path) -> None:
        value = self._given(value)
        spelled = None if value is MISSING else hole.slot.write(value)
        if spelled is None or not hole.write(self._spell(spelled), 0):
            self._misfit(value, path)

    def _fill_fork(self, fork: Fork, value: Any, path: Path) -> None:
        options = fork.plan.gate.options
        if fork.plan.gate.kind != "property":
            value = self._given(value)
        takers = [n for n, option in enumerate(options) if option.takes(value)]
        if not takers:
            self._misfit(value, path)
            return
        fork.allowed = tuple(range(len(options)))
        if fork.plan.gate.kind != "union":
            del takers[1:]
        for chosen in takers[:-1]:
            # A free value is a scalar on a canvas: an alternative may take in its schema what only a later one holds.
            try:
                self._take(fork, chosen, value, path)
            except CarraraError:
                fork.body = None
            else:
                return
        self._take(fork, takers[-1], value, path)

    def _take(self, fork: Fork, option: int, value: Any, path: Path) -> None:
        self.tree.choose(fork, option, None)
        if fork.body is not None:
            self.fill(fork.body, value, path)

    def _fill_chain(self, chain: Chain, value: Any, path: Path) -> None:
        parts = chain.items.split(value)
        if parts is None:
            self._misfit(value, path)
            return
        self.fill(chain.entries[0], parts[0][1], (*path, 0))
        for number, (option, part) in enumerate(parts[1:], 1):
            fork = self._fork(chain, number - 1)
            if option >= len(fork.plan.leads) - 1:
                self._misfit(value, (*path, number))
                return
            self.tree.choose(fork, option, None, chain)
            self.fill(chain.entries[number], part, (*path, number))
        end = self._fork(chain, len(parts) - 1)
        self.tree.choose(end, len(end.plan.leads) - 1, None, chain)

    def _fork(self, chain: Chain, number: int) -> Fork:
        gate = chain.items.gate(chain.option(number))
        fork = Fork(self.tree.scaffold.plan(gate), chain.level, gate.expect)
        fork.allowed = tuple(range(len(gate.options)))
        chain.forks.append(fork)
        return fork

    def _given(self, value: Any) -> Any:
        """A property that is missing although it is always written: null, where that has to be decided."""
        return None if value is MISSING and self.strict else value

    def _spell(self, text: str) -> tuple[int, ...]:
        return self.tree.scaffold.lexicon.spell(text)

    def _misfit(self, value: Any, path: Path) -> None:
        if self.strict:
            shown = "no value" if value is MISSING else repr(value)[:80]
            raise CarraraError(f"{pointer(path) or 'the value'}: {shown} does not fit the contract")


def forget(tree: Tree, fields: Iterable[str]) -> list[str]:
    """Make the fields with these JSON pointers undecided again; those that the tree does not have."""
    missing = []
    for field in fields:
        wanted = tuple(part.replace("~1", "/").replace("~0", "~") for part in field.split("/")[1:])
        if not wanted:
            tree.root = tree.make(tree.scaffold.program.root, 0)
        elif not _forget(tree, tree.root, (), wanted):
            missing.append(field)
    return missing


def _forget(tree: Tree, node: Node, path: Path, wanted: tuple[str, ...]) -> bool:
    """Renew the part of a node at a path; whether there is one."""
    match node:
        case Step():
            here = path if node.form.silent else (*path, node.form.step)
            if not node.form.silent and _same(here, wanted):
                node.part = tree.make(node.form.part, node.level)
                return True
            return _forget(tree, node.part, here, wanted)
        case Group():
            return any([_forget(tree, part, path, wanted) for part in node.parts])
        case Fork():
            return node.body is not None and _forget(tree, node.body, path, wanted)
        case Chain():
            found = False
            for number, steps, entry in members(node):
                here = (*path, *steps)
                if _same(here, wanted):
                    form = node.items.later if number else node.items.first
                    node.entries[number] = tree.make(form, node.level)
                    found = True
                else:
                    found |= _forget(tree, entry, here, wanted)
            return found
        case _:
            return False


def _same(path: Path, wanted: tuple[str, ...]) -> bool:
    return tuple(map(str, path)) == wanted
