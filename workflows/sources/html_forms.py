"""What the fields of a form show: the values that they hold."""

from __future__ import annotations

from carrara.workflows.sources.html_page import Node, attribute, children

_NO_VALUE = ("hidden", "password", "file", "image", "submit", "reset", "button", "range", "color")
"""Kinds of `input` whose value is not shown, or is no content."""


def input_value(node: Node) -> str:
    """The text of an `input`, between spaces; "" where nothing of it is content."""
    kind = attribute(node, "type").strip().lower()
    if kind in ("checkbox", "radio"):
        return " [x] " if "checked" in node.attrs else " [ ] "
    return "" if kind in _NO_VALUE else f" {attribute(node, 'value')} "


def chosen_options(select: Node) -> list[Node]:
    """The options of a `select` that are selected when a browser opens the page: those marked, of which the last one
    counts where only one can be; where none is marked the first one that is not disabled, unless the field is a list
    of several lines, in which nothing is selected then."""
    options = _options(select)
    marked = [option for option, _ in options if "selected" in option.attrs]
    if "multiple" in select.attrs:
        return marked
    if marked:
        return marked[-1:]
    lines = attribute(select, "size").strip().lstrip("0")
    if lines.isdecimal() and lines != "1":
        return []
    return [option for option, is_disabled in options if not is_disabled][:1]


def _options(select: Node) -> list[tuple[Node, bool]]:
    """All options, with whether each is disabled, itself or with its group."""
    found: list[tuple[Node, bool]] = []
    left = [(child, False) for child in reversed(children(select))]
    while left:
        node, is_disabled = left.pop()
        if node.name[0] in "#!":
            continue
        is_disabled = is_disabled or "disabled" in node.attrs
        if node.name == "option":
            found.append((node, is_disabled))
        else:
            left.extend((child, is_disabled) for child in reversed(children(node)))
    return found


__all__ = ["chosen_options", "input_value"]
