"""The commit rules of the served engine, each a short function from its parameters to a `Ruling`.

A rule is a judge, which ranks what is undecided (`judge`), and a commit rule, which picks from the ranks (`commit`).
A ruling may remember earlier passes and belongs to one request. Names and parameters are in `rule_table`: a new
rule is an entry there and a function here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from carrara.engines.diffusion import commit
from carrara.engines.diffusion.commit import CommitRule
from carrara.engines.diffusion.judge import (
    PLAIN,
    Credit,
    Judge,
    Steadiness,
    certainty,
    certainty_of_gate,
    lead,
    lead_of_gate,
    least_of_them,
)
from carrara.engines.diffusion.rule_table import RULES, parameters
from carrara.engines.request import Rule


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one request commits in each pass, from what `judge` says.

    `counts_steps`: it looks at the number of the pass. `remembers`: at what passes before said, too.
    """

    commit: CommitRule
    judge: Judge = PLAIN
    counts_steps: bool = False
    remembers: bool = False


def ruling(rule: Rule, mask_id: int) -> Ruling:
    """A new ruling for one request; `mask_id` stands at what is undecided on its canvas.

    Raises:
        ValueError: no such rule or parameter, or a value out of range.
    """
    return _MAKERS[rule.name](mask_id, **parameters(rule))


def threshold(mask_id: int, threshold: float, gates: float) -> Ruling:
    """All that is `threshold` sure, and the surest decision in any case. Fast-dLLM (arXiv 2505.22618). `gates` is
    what a scaffold's canvas ranks its gates by (`Bar`)."""
    return Ruling(commit.confidence_threshold(threshold))


def fixed_steps(mask_id: int, steps: float) -> Ruling:
    """An equal share of a block in each of `steps` passes, the surest first. LLaDA (arXiv 2502.09992)."""
    return Ruling(commit.in_steps(int(steps)), counts_steps=True)


def factor(mask_id: int, factor: float) -> Ruling:
    """As many of the surest as are sure enough together: the r-th at 1 - factor / (r + 1) or more. Fast-dLLM
    (arXiv 2505.22618)."""
    return Ruling(commit.factor(factor), Judge(along=least_of_them))


def entropy_bounded(mask_id: int, bound: float) -> Ruling:
    """The surest while the entropies before them, in nats, sum to `bound` at most. EB-Sampler (arXiv 2505.24857);
    DiffusionGemma decodes with it."""
    picks = commit.entropy_bounded(bound)

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        return picks(confidence.clamp_min(1e-30).log(), undecided, step)

    return Ruling(rule, Judge(rank=certainty, gate=certainty_of_gate, along=least_of_them))


def klass(mask_id: int, threshold: float, drift: float, history: float) -> Ruling:
    """What is `threshold` sure and whose distribution moved by less than `drift` nats (KL) in each of the last
    `history` passes; else the surest. Gates count as steady. KLASS (arXiv 2511.05664)."""
    steady = Steadiness(mask_id, threshold, drift, int(history))
    judge = Judge(rank=steady.rank)
    return Ruling(commit.confidence_threshold(threshold), judge, remembers=True)


def credit(mask_id: int, threshold: float, strength: float, decay: float, power: float) -> Ruling:
    """As `threshold`, but a token that stays the best one gains credit, so that it is sure earlier. CreditDecoding
    (arXiv 2510.06133)."""
    credits = Credit(mask_id, strength, decay, power)
    judge = Judge(weigh=credits.weigh)
    return Ruling(commit.confidence_threshold(threshold), judge, remembers=True)


def edit(mask_id: int, threshold: float, edit_threshold: float, most_more: float) -> Ruling:
    """Masks as `threshold` does; and tokens that stand already are replaced where another one is surer than
    `edit_threshold`. A block whose masks are gone is looked at until nothing is edited, `most_more` times at most.
    LLaDA 2.1; the canvas edits (`edits`)."""
    return Ruling(commit.confidence_threshold(threshold))


def prophet(mask_id: int, steps: float, early: float, middle: float, late: float) -> Ruling:
    """As `fixed_steps`, but everything at once when the best two tokens lie far enough apart: by `early`, `middle`
    or `late` in logits on average, in the first, second and last third of the steps. Prophet (arXiv
    2508.19982)."""
    rule = commit.early_exit((early, middle, late), int(steps))
    return Ruling(rule, Judge(rank=lead, gate=lead_of_gate, along=least_of_them), counts_steps=True)


_MAKERS: Mapping[str, Callable[..., Ruling]] = {
    "threshold": threshold,
    "fixed_steps": fixed_steps,
    "factor": factor,
    "entropy_bounded": entropy_bounded,
    "klass": klass,
    "credit": credit,
    "edit": edit,
    "prophet": prophet,
}
assert _MAKERS.keys() == RULES.keys()


@dataclass(frozen=True, slots=True)
class Edits:
    """A canvas may replace a decided token where another one is surer than `threshold`, and looks at a block without
    masks `most_more` times at most."""

    threshold: float
    most_more: int

    @classmethod
    def of(cls, rule: Rule) -> Edits | None:
        """Those of the rule "edit", None for all others."""
        if rule.name != "edit":
            return None
        found = parameters(rule)
        return cls(found["edit_threshold"], int(found["most_more"]))


@dataclass(frozen=True, slots=True)
class Bar:
    """A choice among options is sure enough from `gates` on, a token from `threshold` on."""

    gates: float
    threshold: float

    @classmethod
    def of(cls, rule: Rule) -> Bar | None:
        """That of the rule "threshold" if it has one for gates, None for all others."""
        found = parameters(rule) if rule.name == "threshold" else {}
        return cls(found["gates"], found["threshold"]) if found.get("gates") else None

    def rank(self, chance: float) -> float:
        """A probability on the scale of tokens: `gates` becomes `threshold`; 0, 1 and the order stay."""
        if chance < self.gates:
            return chance * self.threshold / self.gates
        if self.gates == 1:
            return self.threshold
        return self.threshold + (chance - self.gates) * (1 - self.threshold) / (1 - self.gates)
