"""A linear mixed model of many trials at once: random level and slope by restricted maximum likelihood.

    y = level + slope t + effect t [treated] + (personal level + personal slope t) + error

Both arms start from the same mean level, as people are assigned by chance. Laird and Ware, 1982, doi:10.2307/2529876. A
person's visits enter only through Z'y and y'y, so that people of the same arm and pattern of visits are added up first.
The estimates are those of statsmodels' MixedLM (tests), which takes one trial at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_STEPS = 60
_LONGEST_STEP = 2.0
_SETTLED = 1e-9
"""Of -2 log-likelihood, what a Newton step may still promise."""


@dataclass(frozen=True, eq=False)
class PatternSums:
    """Sums over people by pattern of visits P, for F fits (trials, sizes, biomarkers).

    Attributes:
        design: [P, 2, 2] Z'Z of a person, Z = (1, t).
        visits: [P] number of visits of a person.
        people: [F, P]; first: [F, P, 2] sum of Z'y; second: [F, P, 2, 2] sum of Z'y y'Z; square: [F, P] sum of y'y.
    """

    design: Tensor
    visits: Tensor
    people: Tensor
    first: Tensor
    second: Tensor
    square: Tensor


@dataclass(frozen=True, eq=False)
class MixedFit:
    """Effect on the slope [F], its standard error, (level, slope, effect) [F, 3], covariance [F, 2, 2] of personal
    level and slope, variance of the error [F]."""

    effect: np.ndarray
    standard_error: np.ndarray
    fixed: np.ndarray
    covariance: np.ndarray
    noise_variance: np.ndarray


def pattern_sums(time: np.ndarray, values: np.ndarray, present: np.ndarray, ends: list[int]) -> PatternSums:
    """Sums over the first so many people.

    Args:
        time: [V].
        values: [B, N, V, Q]; present: [B, N, V].
        ends: K numbers of people, ascending.

    Returns:
        Fits in the order B x K x Q.
    """
    trials, people, _, markers = values.shape
    patterns, which = np.unique(present.reshape(-1, len(time)), axis=0, return_inverse=True)
    basis = np.stack([np.ones_like(time), time])  # [2, V]
    shown = patterns.astype(float)
    design = np.einsum("pv,iv,jv->pij", shown, basis, basis)
    kept = np.where(present[..., None], values, 0.0)
    first = np.einsum("bnvq,iv->bnqi", kept, basis)
    square = np.square(kept).sum(axis=2)
    segment = np.searchsorted(np.asarray(ends), np.arange(people), side="right")
    cell = ((np.arange(trials)[:, None] * (len(ends) + 1) + segment) * len(patterns)).ravel() + which.ravel()
    size = trials * (len(ends) + 1) * len(patterns)

    def summed(quantity: np.ndarray) -> Tensor:
        """[B, N, Q] -> [F, P]."""
        by_cell = np.stack([np.bincount(cell, quantity[..., q].ravel(), size) for q in range(quantity.shape[2])])
        by_cell = by_cell.reshape(-1, trials, len(ends) + 1, len(patterns))[:, :, :-1].cumsum(axis=2)
        return torch.from_numpy(by_cell.transpose(1, 2, 0, 3).reshape(-1, len(patterns)).copy())

    second = [[summed(first[..., i] * first[..., j]) for j in (0, 1)] for i in (0, 1)]
    return PatternSums(
        torch.from_numpy(design),
        torch.from_numpy(shown.sum(axis=1)),
        summed(np.ones((trials, people, markers))),
        torch.stack([summed(first[..., i]) for i in (0, 1)], dim=-1),
        torch.stack([torch.stack(row, dim=-1) for row in second], dim=-2),
        summed(square),
    )


def fit_mixed(control: PatternSums, treated: PatternSums) -> MixedFit:
    """The model of every fit, by Newton's method on (log, log, -) Cholesky factors of the personal covariance."""
    arms = _Arms(control, treated)
    root = arms.start()
    settled = torch.zeros(len(root), dtype=torch.bool)
    for _ in range(_STEPS):
        active = (~settled).nonzero()[:, 0]
        if len(active) == 0:
            break
        here = arms.only(active)
        value, gradient, hessian = _derivatives(here, root[active])
        curvature, axes = torch.linalg.eigh(hessian)
        along = (axes.mT @ gradient[..., None])[..., 0]
        step = -(axes @ (along / curvature.abs().clamp_min(1e-6))[..., None])[..., 0]
        promised = (along.square() / curvature.abs().clamp_min(1e-6)).sum(dim=1)
        step = step * (_LONGEST_STEP / step.norm(dim=1, keepdim=True)).clamp_max(1.0)
        length = torch.ones(len(active), 1, dtype=root.dtype)
        lower = torch.zeros(len(active), dtype=torch.bool)
        for _ in range(12):  # half as far, until it goes down
            lower = here.criterion(root[active] + length * step)[0] <= value
            if lower.all():
                break
            length = torch.where(lower[:, None], length, length / 2)
        root[active] = torch.where(lower[:, None], root[active] + length * step, root[active])
        settled[active] = (promised < _SETTLED) | ~lower
    _, fixed, noise = arms.criterion(root)
    factor = _lower(root)
    return MixedFit(
        fixed[:, 2].numpy(),
        _standard_error(arms, fixed, root).numpy(),
        fixed.numpy(),
        (noise[:, None, None] * (factor @ factor.mT)).numpy(),
        noise.numpy(),
    )


class _Arms:
    """The data of all fits, and the restricted likelihood of covariances."""

    def __init__(self, control: PatternSums, treated: PatternSums) -> None:
        self.parts = (control, treated)

    def only(self, chosen: Tensor) -> _Arms:
        return _Arms(
            *(
                PatternSums(p.design, p.visits, p.people[chosen], p.first[chosen], p.second[chosen], p.square[chosen])
                for p in self.parts
            )
        )

    def start(self) -> Tensor:
        """From the lines through single people: [F, 3]."""
        noise, count, spread, own, people = _added(_lines(part) for part in self.parts)
        variance = (noise / count.clamp_min(1)).clamp_min(1e-8)
        between = (spread / variance[:, None, None] - own) / people.clamp_min(1)[:, None, None]
        diagonal = between.diagonal(dim1=1, dim2=2).nan_to_num(1.0).clamp_min(0.05)
        return torch.stack([diagonal[:, 0].log() / 2, torch.zeros_like(noise), diagonal[:, 1].log() / 2], dim=1)

    def criterion(self, root: Tensor, fixed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """-2 restricted log-likelihood [F] up to a constant, the best fixed effects [F, 3] unless given, and variance of the
        error [F], at covariances L L' of personal level and slope in units of that variance."""
        factor = _lower(root)
        between = factor @ factor.mT
        information, score, square, determinant, visits = _added(
            _weighed(part, of_arm, between) for part, of_arm in zip(self.parts, (0.0, 1.0), strict=True)
        )
        if fixed is None:
            fixed = torch.linalg.solve(information, score)
        curved = (fixed[:, None] @ information @ fixed[..., None])[:, 0, 0]
        left = square - 2 * (fixed * score).sum(dim=1) + curved
        freedom = visits - 3
        value = freedom * left.log() + determinant + torch.linalg.slogdet(information)[1]
        return value, fixed, left / freedom


def _standard_error(arms: _Arms, fixed: Tensor, root: Tensor) -> Tensor:
    """Of the effect, from the curvature of the likelihood in fixed effects and covariances together: [F]."""
    at = torch.cat([fixed, root], dim=1).requires_grad_()
    value = arms.criterion(at[:, 3:], at[:, :3])[0] / 2
    (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    rows = [torch.autograd.grad(gradient[:, i].sum(), at, retain_graph=True)[0] for i in range(6)]
    hessian = torch.stack(rows, dim=1)
    # Where a variance is estimated as 0 the likelihood is flat in its logarithm: that direction tells nothing.
    free = torch.linalg.pinv(hessian[:, 3:, 3:], rtol=1e-6, hermitian=True)
    information = hessian[:, :3, :3] - hessian[:, :3, 3:] @ free @ hessian[:, 3:, :3]
    return torch.linalg.inv(information)[:, 2, 2].sqrt()


def _added(parts: Iterable[tuple[Tensor, ...]]) -> list[Tensor]:
    """Tuples of tensors, added up place by place."""
    first, second = parts
    return [a + b for a, b in zip(first, second, strict=True)]


def _lines(part: PatternSums) -> tuple[Tensor, ...]:
    """Of people with more than two visits: squares around their own lines [F] and degrees of freedom of these [F], squares
    of the lines around their mean [F, 2, 2], sum of (Z'Z)^-1 [F, 2, 2], people [F]."""
    long = part.visits > 2
    inverse = torch.linalg.inv(part.design[long])
    people, first, second = part.people[:, long], part.first[:, long], part.second[:, long]
    noise = (part.square[:, long] - torch.einsum("pij,fpij->fp", inverse, second)).sum(dim=1)
    count = people.sum(dim=1)
    mean = torch.einsum("pij,fpj->fi", inverse, first) / count.clamp_min(1)[:, None]
    squares = torch.einsum("pij,fpjk,pkl->fil", inverse, second, inverse)
    squares = squares - count[:, None, None] * mean[:, :, None] * mean[:, None]
    own = torch.einsum("fp,pij->fij", people, inverse)
    return noise, (people * (part.visits[long] - 2)).sum(dim=1), squares, own, count


def _weighed(part: PatternSums, of_arm: float, between: Tensor) -> tuple[Tensor, ...]:
    """What one arm adds to X'V^-1X [F, 3, 3], X'V^-1y [F, 3], y'V^-1y [F], log det V [F] and the visits [F]; V in units of
    the error's variance: V^-1 = I - Z D (I + S D)^-1 Z' with S = Z'Z."""
    selected = torch.tensor([[1.0, 0, 0], [0, 1, of_arm]], dtype=between.dtype)
    plus = torch.eye(2, dtype=between.dtype) + part.design @ between[:, None]  # [F, P, 2, 2]
    inverse = torch.linalg.inv(plus)
    information = (part.people[..., None, None] * (inverse @ part.design)).sum(dim=1)
    score = (inverse @ part.first[..., None]).sum(dim=1)[..., 0]
    explained = (between[:, None] @ inverse * part.second.mT).sum(dim=(1, 2, 3))
    return (
        selected.T @ information @ selected,
        score @ selected,
        part.square.sum(dim=1) - explained,
        (part.people * torch.linalg.det(plus).log()).sum(dim=1),
        (part.people * part.visits).sum(dim=1),
    )


def _derivatives(arms: _Arms, root: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The criterion [F], its gradient [F, 3] and Hessian [F, 3, 3]; fits do not know each other."""
    at = root.clone().requires_grad_()
    value = arms.criterion(at)[0]
    (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    rows = [torch.autograd.grad(gradient[:, i].sum(), at, retain_graph=True)[0] for i in range(3)]
    return value.detach(), gradient.detach(), torch.stack(rows, dim=1)


def _lower(root: Tensor) -> Tensor:
    """(a, b, c) -> [[exp a, 0], [b, exp c]]."""
    a, b, c = root.unbind(dim=-1)
    return torch.stack([torch.stack([a.exp(), torch.zeros_like(a)], -1), torch.stack([b, c.exp()], -1)], -2)
