"""Commit rules: which positions become final in a denoising step.

A rule looks at numbers only: how sure the model is of its best token at each undecided position (`measure`
has several ways to say that). New decoding papers become new functions here. `quotas` says how many
positions a step commits where a rule commits fixed numbers.

Legend: B canvases, T positions (or other units of decision, such as gates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CommitRule = Callable[[Tensor, Tensor, int], Tensor]
"""(confidence [B, T] float, undecided [B, T] bool, step from 0) -> commit [B, T] bool."""


def confidence_threshold(threshold: float) -> CommitRule:
    """Commit what is at least `threshold` sure, and the surest position of each canvas in any case.

    The forced pick keeps every canvas moving: one with undecided positions settles in at most T steps.
    After the confidence threshold of arXiv 2505.22618.

    Raises:
        ValueError: threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a confidence threshold is above 0 and at most 1, not {threshold}")

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        ranked = confidence.masked_fill(~undecided, -torch.inf)
        best = torch.zeros_like(undecided).scatter(1, ranked.argmax(1, keepdim=True), True)
        return undecided & ((ranked >= threshold) | best)

    return rule


def fixed_steps(quotas: Tensor) -> CommitRule:
    """Commit the `quotas[b, step]` surest positions of canvas b, none once its quotas are spent.

    Shape: quotas [B, steps] int. After LLaDA (arXiv 2502.09992), low-confidence remasking.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        if step >= quotas.shape[1]:
            return torch.zeros_like(undecided)
        return surest(confidence, undecided, quotas[:, step])

    return rule


def surest(confidence: Tensor, undecided: Tensor, counts: Tensor) -> Tensor:
    """The `counts[b]` surest undecided positions of canvas b, all where there are fewer. counts [B] int."""
    ranked = confidence.masked_fill(~undecided, -torch.inf)
    order = ranked.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places)
    return undecided & (ranks < counts[:, None])


def at_least(rule: CommitRule, count: int | Tensor) -> CommitRule:
    """What `rule` commits, and the surest further positions up to `count`, one number or one for each canvas [B]."""

    def wider(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        commit = rule(confidence, undecided, step)
        counts = torch.as_tensor(count, device=confidence.device).expand(len(confidence))
        return commit | surest(confidence.masked_fill(commit, torch.inf), undecided, counts)

    return wider


def scheduled(plan: Callable[[Tensor], Tensor]) -> CommitRule:
    """As `fixed_steps`, by quotas [B, steps] that `plan` makes from the undecided of a block's first step."""
    current = fixed_steps(torch.zeros(1, 0, dtype=torch.int64))

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        nonlocal current
        if step == 0:
            current = fixed_steps(plan(undecided).to(undecided.device))
        return current(confidence, undecided, step)

    return rule


def threshold_or_quota(threshold: float, quotas: Sequence[int]) -> CommitRule:
    """Commit all that is surer than `threshold` if that is the step's quota or more, else the surest of the quota.

    Steps beyond the last quota go on with it. After SDAR (arXiv 2510.06303, dynamic low-confidence
    remasking) and LLaDA 2.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        quota = quotas[min(step, len(quotas) - 1)]
        sure = undecided & (confidence > threshold)
        enough = sure.sum(1, keepdim=True) >= quota
        filled = surest(confidence, undecided, torch.full((len(sure),), quota, device=sure.device))
        return torch.where(enough, sure, filled)

    return rule


def above(threshold: float) -> CommitRule:
    """Commit what is surer than `threshold`, which may be nothing: the rule of edits in LLaDA 2.1."""

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        return undecided & (confidence > threshold)

    return rule


def factor(factor: float) -> CommitRule:
    """Commit as many of the surest as there are ranks r (from 1) with a confidence of 1 - factor / (r + 1) or
    more, and at least one.

    After the factor strategy of Fast-dLLM (arXiv 2505.22618).
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        ordered = confidence.masked_fill(~undecided, -torch.inf).sort(1, descending=True).values
        ranks = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
        passed = ordered >= 1 - factor / (ranks + 1)
        passed[:, 0] = True
        return surest(confidence, undecided, passed.sum(1))

    return rule


def entropy_bounded(bound: float) -> CommitRule:
    """Commit the surest positions as long as the entropies of those before them, in nats, add up to `bound`
    at most; so at least one. `confidence` is `measure.negative_entropy`.

    What is committed together is then nearly independent. After arXiv 2505.24857.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        entropy = (-confidence).masked_fill(~undecided, torch.inf)
        ordered, order = entropy.sort(dim=1, stable=True)
        before = ordered.cumsum(1) - ordered
        return undecided & torch.zeros_like(undecided).scatter(1, order, before <= bound)

    return rule


def in_steps(steps: int) -> CommitRule:
    """Commit an equal part of what is left in each of the `steps` of a block, the surest first, so all in the last.

    Where decisions appear while a block is refined, they are shared out over the steps that are left. After LLaDA
    (arXiv 2502.09992).
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        left = max(1, steps - step)
        return surest(confidence, undecided, (undecided.sum(1) + left - 1) // left)

    return rule


def early_exit(gaps: Sequence[float], steps: int) -> CommitRule:
    """As `in_steps`, but commit everything once the mean gap between best and second-best logits reaches the step's
    bound: the first of `gaps` for the first part of the steps, and so on; the last one beyond them.

    `confidence` is the logistic function of the gap. After Prophet (arXiv 2508.19982).
    """
    base = in_steps(steps)

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        bound = gaps[min(step * len(gaps) // steps, len(gaps) - 1)]
        gap = torch.logit(confidence.double(), eps=1e-9).masked_fill(~undecided, 0.0)
        mean = gap.sum(1) / undecided.sum(1).clamp_min(1)
        exits = (mean >= bound)[:, None]
        return torch.where(exits, undecided, base(confidence, undecided, step))

    return rule


def in_order(quotas: Sequence[int]) -> CommitRule:
    """Commit the step's quota of positions from the first undecided one on, whatever the confidence.

    After SDAR's sequential decoding.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        quota = quotas[min(step, len(quotas) - 1)]
        first = undecided.int().argmax(1, keepdim=True)
        places = torch.arange(undecided.shape[1], device=undecided.device)
        return undecided & (places >= first) & (places < first + quota)

    return rule


def falling(shares: Sequence[float]) -> CommitRule:
    """Commit the step's share of what is undecided on average over the canvases, rounded down; the surest.

    After the samplers of Dream (arXiv 2508.15487); `quotas.falls` makes their shares.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        if step >= len(shares):
            return torch.zeros_like(undecided)
        mean = undecided.sum() / undecided.shape[0]
        count = int(mean * shares[step])
        return surest(
            confidence, undecided, torch.full((len(undecided),), count, device=undecided.device)
        )

    return rule


def at_random(shares: Sequence[float], draw: Callable[[int], Tensor]) -> CommitRule:
    """Commit each undecided position with the step's share as its chance.

    `draw(n)` gives n uniform numbers in [0, 1), for the undecided positions row by row. The original
    sampler of masked diffusion (Dream's "origin"), which ranks nothing.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        commit = torch.zeros_like(undecided)
        if step < len(shares):
            numbers = draw(int(undecided.sum())).to(undecided.device)
            commit[undecided] = numbers < shares[step]
        return commit

    return rule


class Carried:
    """Commit the surest of a quota where they pass `threshold`, and the surest in any case; the rest is carried
    over to the next step's quota.

    One canvas. The quota of each of `steps` steps is an equal part of `count`; steps that are needed
    beyond them have what was carried alone. `steps` grows then. After Fast-dLLM's sampler for Dream
    without blocks.
    """

    def __init__(self, count: int, steps: int, threshold: float) -> None:
        self.steps, self._quota, self._threshold = steps, count // steps, threshold
        self._carried = 0

    def __call__(self, confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        count = self._quota + self._carried
        taken = surest(confidence, undecided, torch.tensor([count], device=confidence.device))
        best = surest(confidence, undecided, torch.tensor([1], device=confidence.device))
        commit = taken & ((confidence >= self._threshold) | best)
        self._carried = int((taken & ~commit).sum())
        if self._carried and step >= self.steps - 1:
            self._quota, self.steps = 0, self.steps + 1
        return commit
