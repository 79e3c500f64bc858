"""Whether a prompt asks for a chain of thought, read off its wording: then a small denoiser is out of its depth.

A diffusion model commits the answer before it has written the thought that leads to it; published ones fall behind AR
models of their size first on word problems and on inference (reasoning is where the routers of mixed systems send
calls away). The signs are of three sorts: the prompt says so; it asks for a quantity that follows from several
others; it asks to infer yes or no from premises. Labels and extraction by schema are no reasoning unless the prompt
says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from carrara.engines.contract import Choice, Contract, Json, Regex, Text
from carrara.engines.request import Message

_SAID = re.compile(
    r"step[- ]by[- ]step|think (?:it )?(?:through|aloud|carefully)|(?:show|explain) your (?:work|working|reasoning)"
    r"|reason (?:about|through|carefully)|chain of thought"
    r"|\b(?:solve|prove|derive|deduce)\b (?:the|this|that|each|for|it)\b"
    r"|\b(?:sub-?questions?|word problem|syllogism|riddle)\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\b(?:how (?:many|much|long|far|old|fast|often)|what (?:is|was|will be|are) the"
    r" (?:\w+ ){0,3}(?:total|sum|difference|average|mean|price|cost|number|amount|percent\w*|ratio|profit|speed"
    r"|area))\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty"
    r"|hundred|dozen|half|twice|double|triple|third|quarter|thrice)\b",
    re.IGNORECASE,
)
_PREMISES = re.compile(
    r"\b(?:facts?|premises?|given that|assum(?:e|ing) that|according to the rules|if all|it follows)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"\b(?:is|are|was|were|do|does|did|can|could|would|will|should|has|have|had|might)\b[^?\n]{3,200}\?",
    re.IGNORECASE,
)
_VERDICTS = (
    {"yes", "no"},
    {"true", "false"},
    {"yes", "no", "unknown"},
    {"true", "false", "unknown"},
)
_FEW_NUMBERS = 2
_END = 8192
"""Characters of each end of a message that are read."""


def asks_for_reasoning(messages: Iterable[Message], output: Contract) -> bool:
    """Whether the wording says that the answer has to be worked out. Pure.

    Of a long message the ends are read, where the task stands: a document of 50 MB would hold the event loop up for a
    minute and a half.
    """
    text = "\n".join(_ends(message.content) for message in messages if message.role != "assistant")
    if _SAID.search(text):
        return True
    if _is_open(output):
        return _asks_for_quantity(text) or (_is_verdict(output) and _asks_to_infer(text))
    return _is_verdict(output) and _asks_to_infer(text)


def _ends(text: str) -> str:
    return text if len(text) <= 2 * _END else f"{text[:_END]}\n{text[-_END:]}"


def _is_open(output: Contract) -> bool:
    """Free text and single values: what a word problem is answered with."""
    if isinstance(output, Text | Regex):
        return True
    return isinstance(output, Json) and output.schema.get("type") in ("integer", "number", "string")


def _is_verdict(output: Contract) -> bool:
    if isinstance(output, Choice):
        return {option.lower() for option in output.options} in _VERDICTS
    if isinstance(output, Json):
        return output.schema.get("type") == "boolean"
    return isinstance(output, Text)


def _asks_for_quantity(text: str) -> bool:
    """A quantity is asked for, and there are several to work it out from."""
    return bool(_QUANTITY.search(text)) and len(_NUMBER.findall(text)) >= _FEW_NUMBERS


def _asks_to_infer(text: str) -> bool:
    return bool(_PREMISES.search(text) and _QUESTION.search(text))


__all__ = ["asks_for_reasoning"]
