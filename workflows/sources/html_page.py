"""The elements of a page as browsers build them, by an HTML5 parser, within bounds of time, memory and depth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import Any

from justhtml import JustHTML

from carrara.workflows.sources.record import Unreadable

Node = Any
"""An element (`name`, `attrs`, `children`, `namespace`), or a text (`#text`, `data`) of the parser."""
MAX_DEPTH = 2000
"""Browsers stop at 512; what lies deeper was made by no one who meant it to be read."""
_MAX_REOPENED = 300_000
"""In a page with more, bold and the like are left out; its text is whole."""
_UNSEEN = {
    *("head", "script", "style", "template", "noscript", "noframes", "noembed", "title", "svg"),
    *("canvas", "iframe", "nav", "object", "audio", "video", "datalist"),
}  # fmt: skip
_NO_SHOW = re.compile(r"(?:^|;)\s*display\s*:\s*none\b", re.IGNORECASE)
_ATTRIBUTES = r"""(?:[^<>"']|"[^"]*"|'[^']*')*+"""
_EMPHASIS = re.compile(
    rf"<(/?)(a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>]){_ATTRIBUTES}>",
    re.IGNORECASE,
)
_END = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)
_XHTML = re.compile(r"\ufeff?\s*<\?xml\s", re.IGNORECASE)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
_CLOSED = re.compile(
    r"""<([a-z][a-z0-9]*)((?:\s(?:[^<>"'/]|/(?!>)|"[^"]*"|'[^']*')*+)?)/>""", re.IGNORECASE
)
_VOID = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source"),
    *("track", "wbr", "basefont", "bgsound", "frame", "keygen"),
}  # fmt: skip


def parsed(page: str) -> Node:
    """The document; a second page that follows the first in one file is part of it.

    Raises:
        Unreadable: it nests its elements too deeply.
    """
    if _XHTML.match(page):
        page = _as_html(page)
    page = _END.sub("<div></div>", page)  # what follows stands apart
    if _reopened(page) > _MAX_REOPENED:
        page = _EMPHASIS.sub("", page)
    root = JustHTML(page, sanitize=False).root
    _check_depth(root)
    return root


def children(node: Node) -> list[Node]:
    found: list[Node] = node.children or []
    return found


def attribute(node: Node, name: str) -> str:
    return (node.attrs or {}).get(name) or ""


def is_unseen(node: Node) -> bool:
    """Whether a browser shows nothing of the element, or it is there for moving about the site."""
    if node.name in _UNSEEN:
        return True
    attrs = node.attrs or {}
    if "hidden" in attrs or (node.name == "dialog" and "open" not in attrs):
        return True
    return "style" in attrs and _NO_SHOW.search(attrs["style"] or "") is not None


def title_of(root: Node) -> str:
    """The page's title, else its first heading, else ""."""
    found = {"title": "", "h1": ""}
    for node in _elements(root):
        if node.name in found and not found[node.name] and node.namespace == "html":
            found[node.name] = " ".join(" ".join(_texts(node)).split())
            if node.name == "title" and found["title"]:
                break
    return found["title"] or found["h1"]


def _elements(root: Node) -> Iterator[Node]:
    """Every element, in the order of their start tags."""
    left = [root]
    while left:
        node = left.pop()
        if node.name.startswith("#") and node is not root:
            continue
        yield node
        left.extend(reversed(children(node)))


def _texts(node: Node) -> Iterator[str]:
    left = [node]
    while left:
        found = left.pop()
        if found.name == "#text":
            yield found.data or ""
        elif found is node or not is_unseen(found):
            left.extend(reversed(children(found)))


def _check_depth(root: Node) -> None:
    level, depth = [root], 0
    while level:
        if depth > MAX_DEPTH:
            raise Unreadable("the page nests its elements too deeply to be read")
        level = [inner for node in level for inner in children(node)]
        depth += 1


def _reopened(page: str) -> int:
    """At most how many elements the parser makes by itself: each that marks up text and is not closed is opened again
    in each block that follows, which takes quadratic memory where there are many. Of equal ones it opens three."""
    open_, made, at = dict[str, Counter[str]](), 0, 0
    count = 0
    for found in _EMPHASIS.finditer(page):
        made += count * (1 + page.count("<", at, found.start()))
        at = found.end()
        name = found[2].lower()
        if not found[1] and name in ("a", "nobr") and name in open_:  # it closes the one before
            count -= len(open_.pop(name))
        tags = open_.setdefault(name, Counter())
        if not found[1]:
            tags[found[0]] += 1
            count += tags[found[0]] <= 3
        elif tags:
            last = next(reversed(tags))
            tags[last] -= 1
            count -= tags[last] < 3
            if not tags[last]:
                del tags[last]
    return made + count * page.count("<", at)


def _as_html(page: str) -> str:
    """XHTML for a parser of HTML, which knows neither CDATA nor that `<p/>` is closed."""
    page = _CDATA.sub(lambda found: escape(found[1], quote=False), page)
    return _CLOSED.sub(
        lambda tag: tag[0] if tag[1].lower() in _VOID else f"<{tag[1]}{tag[2]}></{tag[1]}>", page
    )


__all__ = ["MAX_DEPTH", "Node", "attribute", "children", "is_unseen", "parsed", "title_of"]
