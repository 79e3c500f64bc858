"""How a model denoises: what an adapter or a checkpoint says about itself in `diffusion.json` beside its weights, or
a checkpoint of a diffusion family in its config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carrara.engines.contract_shape import SHAPES
from carrara.engines.diffusion.rule_table import RULES, parameters, parsed, written
from carrara.engines.errors import LoadingError
from carrara.engines.fields import COUNT, PART, SHARE, SIZE, Range, shortened
from carrara.engines.request import Rule
from carrara.engines.weights.folder import read_object

if TYPE_CHECKING:
    from carrara.engines.model.config import Denoising, UniformNoise

FILE = "diffusion.json"

_RANGES: Mapping[str, Range] = {
    "block_tokens": SIZE,
    "text_block_tokens": SIZE,
    "threshold": PART,
    "gate_threshold": SHARE,
    "slot_tokens": SIZE,
    "slot_most_tokens": SIZE,
    "most_steps": SIZE,
    "items_ahead": COUNT,
    "mask_token_id": COUNT,
    "slot_pad_id": COUNT,
    "attention_block_tokens": SIZE,
    "context_refresh_passes": COUNT,
    "canvas_refresh_passes": SIZE,
}
"""What the numbers among the settings may be; those whose default is None may be that, too."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults suit an adapter that says nothing else; `PLAIN` is for weights without one.

    logit_shift: the logits at position i-1 predict the token at i, as in an AR model.
    block_tokens, text_block_tokens: positions refined together, under a contract and in free text.
    threshold: the confidence from which a decision is final; gate_threshold: the same for a choice among options (null
    or a value, which of these, another item), 0: as threshold.
    rule: another commit rule (`rule_table`), in JSON its name or an object with "name" and its parameters; None:
    "threshold". A rule that has thresholds and is given none takes those above.
    slot_tokens: the length a string slot begins with; with `slots_grow` it gets longer when the model
    wants to write on, up to slot_most_tokens.
    slots_in_order: a token of a slot becomes final only with or after those before it: it is as sure as all of them
    together. Slots are still written side by side, and as many tokens of each in a pass as are sure. Where tokens
    settle in any order, those on both sides of a gap may leave too little room in it or too much: words get lost or
    come twice.
    most_steps: denoising steps of one answer where the request sets no limit; what is open then is
    completed at once. None: as many as the threshold takes.
    items_ahead: items of a list that are shown before it is known that they exist.
    mask_token_id, slot_pad_id: what the adapter was trained with, None: the tokenizer's own.
    attention: whom the prompt and settled blocks see. "causal": what is before them, as in an AR model.
    "block": blocks of attention_block_tokens, counted from the first token, see what is before them and
    themselves. "full": everything up to the end of the block being refined, so nothing is kept between
    passes. The block itself sees all of them and itself in any case.
    context_refresh_passes: under full attention, every how many passes of a block what lies before it is computed
    again: 1 in each of them, which is exact; more, or 0 for the block's first pass alone, keeps its keys and values
    meanwhile.
    noise: what is undecided are random tokens, new ones in each pass, instead of masks; a checkpoint says so, never a
    file.
    canvas_refresh_passes: every how many passes of a block all of its canvas is computed; the others compute only
    what is undecided or was decided since, seeing the rest as it was computed last. 1: always all, exact. After the
    dual cache of arXiv 2505.22618 and the delayed cache of arXiv 2505.15781.
    accepted: by the shape of a contract (`carrara.engines.contract_shape`), the share of its answers that the default
    routing policy takes, as measured: what a router may expect before it has seen any. It changes no answer.
    """

    logit_shift: bool = True
    block_tokens: int = 128
    text_block_tokens: int = 32
    threshold: float = 0.9
    gate_threshold: float = 0.0
    slot_tokens: int = 24
    slots_grow: bool = False
    slot_most_tokens: int = 96
    slots_in_order: bool = False
    most_steps: int | None = None
    items_ahead: int = 2
    mask_token_id: int | None = None
    slot_pad_id: int | None = None
    attention: Literal["causal", "block", "full"] = "causal"
    attention_block_tokens: int = 32
    context_refresh_passes: int = 1
    rule: Rule | None = None
    noise: UniformNoise | None = None
    canvas_refresh_passes: int = 1
    accepted: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if (wrong := self._wrong()) is not None:
            raise LoadingError(f"{FILE}: {wrong}")

    def _wrong(self) -> str | None:
        """The first setting that is not what it must be."""
        for one in fields(self):
            value, allowed = getattr(self, one.name), _RANGES.get(one.name)
            if allowed is None or value in allowed or (value is None and one.default is None):
                continue
            return f"{one.name} is {shortened(value)}, it must be {allowed}"
        for name in ("logit_shift", "slots_grow", "slots_in_order"):
            if not isinstance(value := getattr(self, name), bool):
                return f"{name} is {shortened(value)}, it must be true or false"
        if self.attention not in ("causal", "block", "full"):
            return f"attention is {shortened(self.attention)}, it must be causal, block or full"
        if self.rule is not None:
            try:
                parameters(self.rule)
            except ValueError as error:
                return str(error)
        return _wrong_accepted(self.accepted)

    def rule_of(self, asked: Rule | None = None) -> Rule:
        """The commit rule of a request that asked for this one, or for none.

        Raises:
            ValueError: no such rule or parameter.
        """
        rule = asked or self.rule or Rule("threshold")
        found = parameters(rule)
        if "threshold" in RULES[rule.name] and "threshold" not in rule.parameters:
            found["threshold"] = self.threshold
        if "gates" in RULES[rule.name] and "gates" not in rule.parameters:
            found["gates"] = self.gate_threshold
        return Rule(rule.name, found)

    @classmethod
    def of_adapter(cls, folder: Path) -> Settings:
        """Those in `diffusion.json` of an adapter folder; without the file, the defaults.

        Raises:
            LoadingError: as `read_over`.
        """
        return cls().read_over(folder)

    def read_over(self, folder: Path) -> Settings:
        """These settings with what `diffusion.json` in a folder says instead; without the file, these.

        Raises:
            LoadingError: not JSON, an unknown key or a value out of range; names the file.
        """
        path = folder / FILE
        if not path.is_file():
            return self
        found = read_object(path)
        known = {one.name for one in fields(self)}
        if unknown := sorted(found.keys() - known):
            raise LoadingError(
                f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )
        if found.get("noise") is not None:
            raise LoadingError(f"{path}: noise cannot be set: the model was trained with one kind")
        try:
            if found.get("rule") is not None:
                found["rule"] = parsed(found["rule"])
            return replace(self, **{key: found[key] for key in found if key != "noise"})
        except (LoadingError, ValueError) as error:
            raise LoadingError(f"{path}: {str(error).removeprefix(f'{FILE}: ')}") from error

    @classmethod
    def of_checkpoint(cls, how: Denoising | None) -> Settings:
        """What suits a checkpoint without an adapter: `PLAIN` for an AR model, else as it was trained.

        Of a model adapted to diffusion whose config.json does not say how, full attention is assumed.
        """
        if how is None:
            return PLAIN
        if how.noise is not None:
            return cls(
                logit_shift=False,
                block_tokens=how.block or 256,
                text_block_tokens=how.block or 256,
                rule=Rule("entropy_bounded", {"bound": how.noise.entropy_bound}),
                noise=how.noise,
            )
        if how.attention != "block":
            return cls(logit_shift=how.shifted, attention="full")
        block = how.block or 32
        return cls(
            logit_shift=how.shifted,
            block_tokens=max(block, 32),
            text_block_tokens=block,
            attention="block",
            attention_block_tokens=block,
        )

    def context_start(self, length: int, step: int = 0) -> int:
        """From which of `length` clean tokens on pass number `step` over the next block must compute them, too: they
        see it, or their logits say what its first token is."""
        match self.attention:
            case "causal":
                return length
            case "block":
                return length - length % self.attention_block_tokens
            case "full":
                every = self.context_refresh_passes
                kept = step % every if every else step
                return max(0, length - int(self.logit_shift)) if kept else 0

    @property
    def data(self) -> dict[str, Any]:
        """All settings as `diffusion.json` has them."""
        return {**asdict(self), "rule": None if self.rule is None else written(self.rule)}

    @property
    def line(self) -> str:
        """All settings that an answer depends on in one line of JSON, for fingerprints."""
        found = {key: value for key, value in self.data.items() if key != "accepted"}
        return json.dumps(found, sort_keys=True)


def _wrong_accepted(found: Any) -> str | None:
    if not isinstance(found, Mapping):
        return f"accepted is {shortened(found)}, it must map shapes of contracts to shares"
    if unknown := sorted(set(found) - set(SHAPES)):
        return f"accepted names {unknown[0]!r}; known are {', '.join(SHAPES)}"
    wrong = next((shape for shape, share in found.items() if share not in SHARE), None)
    if wrong is None:
        return None
    return f"accepted.{wrong} is {shortened(found[wrong])}, it must be {SHARE}"


PLAIN = Settings(block_tokens=64, most_steps=8, slot_tokens=16)
"""For plain AR weights. They are poor denoisers and more steps do not make them better: SmolLM2-135M wrote six
address fields as wrongly in 8 passes as in 133."""
