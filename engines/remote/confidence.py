"""How sure a server was: from the probabilities of its tokens to those of the parts of an answer.

A server's probabilities are among all tokens, also where a grammar allowed few, so punctuation that a grammar forced
may look doubtful: a field counts the tokens of its value alone. For a choice the alternatives that no option begins
with are left out, where the server tells the likeliest, which gives the probability of that option among all options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from carrara.engines.autoregressive.confidence import Written, confidence_of, mean, spans
from carrara.engines.contract import Choice, Contract, Json, Regex, Text
from carrara.engines.json_schema import pointer
from carrara.engines.remote.carrier import Carrier
from carrara.engines.remote.reply import TokenChance
from carrara.engines.request import Confidence

_ANY = Json("{}")


def confidence(
    contract: Contract,
    carrier: Carrier | None,
    raw: str,
    tokens: Sequence[TokenChance],
    is_whole: bool,
) -> Confidence:
    """The confidence in an answer. `raw` is its text as the server wrote it, `is_whole` that it holds to `contract`."""
    if not tokens:
        return Confidence()
    placed = _within(raw.encode("utf-8", "surrogatepass"), tokens)
    chances = tuple(token.chance for token in tokens)
    if placed is None or not is_whole:
        return Confidence(mean(chances), {}, chances)
    text = raw.encode("utf-8", "surrogatepass")
    if isinstance(contract, Choice):
        chosen = contract.parse(raw if carrier is None else carrier.unpacked(raw))
        sure = _option(chosen, contract, raw, placed)
        return Confidence(sure, {"": sure}, chances)
    written = [Written(len(token.raw), token.chance) for token in placed]
    if carrier is None:
        return _by_fields(confidence_of(contract, text, written), chances)
    try:
        found = confidence_of(_ANY, text, written)
    except (ValueError, IndexError):  # a fence or words around the JSON
        return Confidence(mean(chances), {}, chances)
    fields = _renamed(carrier, text, found.fields)
    if isinstance(contract, Regex | Text):
        fields = {"": mean(list(fields.values()))}
    return _by_fields(Confidence(found.overall, fields), chances)


def _by_fields(found: Confidence, chances: tuple[float, ...]) -> Confidence:
    """Overall as the fields have it: what stands between them was forced."""
    overall = mean(list(found.fields.values())) if found.fields else found.overall
    return Confidence(overall, found.fields, chances)


def _within(raw: bytes, tokens: Sequence[TokenChance]) -> list[TokenChance] | None:
    """The tokens cut to those that write `raw`: servers strip white space and fences. None where they write
    something else."""
    joined = b"".join(token.raw for token in tokens)
    start = joined.find(raw)
    if start < 0 or not raw:
        return None
    stop, at = start + len(raw), 0
    found = []
    for token in tokens:
        first, last = max(at, start), min(at + len(token.raw), stop)
        if first < last:
            found.append(TokenChance(token.raw[first - at : last - at], token.chance, token.others))
        at += len(token.raw)
    return found


def _renamed(carrier: Carrier, raw: bytes, fields: Mapping[str, float]) -> dict[str, float]:
    """The fields under the names that the contract has for them."""
    named = {}
    for span in spans(_ANY, raw):
        path = carrier.path_of(_keys(span.path))
        if path is not None:
            named[pointer(path)] = fields[span.path]
    return named


def _keys(path: str) -> tuple[object, ...]:
    parts = path.split("/")[1:]
    return tuple(int(p) if p.isdigit() else p.replace("~1", "/").replace("~0", "~") for p in parts)


def _option(chosen: str, contract: Choice, raw: str, tokens: Sequence[TokenChance]) -> float:
    """The probability of the option that was written, among all options where the alternatives are known."""
    text, mark = raw.encode(), chosen.encode()
    start = text.find(mark)
    if start < 0:  # spelled with escapes
        return mean([token.chance for token in tokens])
    stop, at, sure = start + len(mark), 0, []
    options = [option.encode() for option in contract.options]
    for token in tokens:
        if at < stop and at + len(token.raw) > start:
            sure.append(_among(token, text[start : max(at, start)], options))
        at += len(token.raw)
    return math.prod(sure)


def _among(token: TokenChance, written: bytes, options: Sequence[bytes]) -> float:
    """The probability of `token` among the alternatives with which some option goes on; its own where none is told."""
    rest = [option[len(written) :] for option in options if option.startswith(written)]
    if len(rest) == 1:
        return 1.0  # only one option goes on like this: the rest of it is forced
    others = [(raw, found) for raw, found in token.others if raw != token.raw]
    if not others:
        return token.chance  # the server tells of no alternative: what they add up to is not known
    fitting = sum(
        found for raw, found in others if any(_goes_on(raw.strip(b' "'), left) for left in rest)
    )
    return token.chance / (token.chance + fitting) if token.chance else 0.0


def _goes_on(raw: bytes, left: bytes) -> bool:
    return bool(raw) and bool(left) and (left.startswith(raw) or raw.startswith(left))


__all__ = ["confidence"]
