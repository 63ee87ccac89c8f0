"""The closed-form law of a study: that of a model, or a plain regression, brought to the people of the study.

1. The law that is started from is scaled: one factor for the mean rates, one for their spread, one for the acceleration, and
   one per coordinate for the scan error, by maximum likelihood. These few numbers are well determined by a dozen people.
2. From there all numbers of the law are fitted: to the likelihood of the study plus `strength` times that of people of the
   scaled law in the place of each of the study's, in closed form (a Kullback-Leibler divergence). That is maximum a
   posteriori with the start as the prior: strength 0 would be maximum likelihood, an endless one the start itself.
3. The strength is what foretells people best who were left out in turn; the scaled law alone is tried as well.

All frames of a study carry scan errors, those ahead too; the law keeps them apart from the course itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuro4d_lib.networks.covariates import diagnosis_index, standardized
from neuro4d_lib.networks.gaussian_prior import GaussianPrior
from neuro4d_lib.progress import Progress, part, silent
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training.study_config import StudyConfig
from neuro4d_lib.training.study_people import Person, mean_rates, mirrored, moments

_AT_ONCE = 32
_SCALING_STEPS = 60
# How far the scale of a scan error lies from the start's: SD of its logarithm (assumed; matters for a dozen people only).
_SCALE_SD = 1.0
# People of the pooled regression that count as much as one diagnosis' own, and those of the start for the group rates.
_POOLED, _GROUP = 4.0, 5.0
_RIDGE = 10.0


@dataclass(frozen=True, eq=False)
class Designs:
    """N moments with T measured frames each, of several people.

    Attributes:
        person: [N], whose moment it is.
        weight: [N], such that all moments of a person of whom all was told count 1 together.
        covariates: [N, 5]; state: [N, K]; years: [N, T]; seen: [N, T, K], coordinates.
        told: [N], whether nothing was hidden and nothing mirrored.
    """

    person: Tensor
    weight: Tensor
    covariates: Tensor
    state: Tensor
    years: Tensor
    seen: Tensor
    told: Tensor

    def where(self, chosen: Tensor) -> Designs:
        """Some of them, by place or by mask."""
        return Designs(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def to(self, device: torch.device) -> Designs:
        return Designs(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Choice:
    """What was chosen and why: the mean loss (negative log-likelihood per number) of people left out, by strength.

    `loss_of_start` is that of the law before it was scaled. An endless strength stands for the scaled law alone.
    """

    strength: float
    losses: dict[float, float]
    loss_of_start: float

    def record(self) -> dict[str, Any]:
        """For the card."""
        return {
            "what": "The closed form was fitted to the study with so many people of the law that it started from for each "
            "of the study's (inf: that law alone, scaled to the study); loss of people who were left out in turn.",
            "strength": _named(self.strength),
            "loss_by_strength": {_named(key): round(value, 5) for key, value in self.losses.items()},
            "loss_of_the_start_unscaled": round(self.loss_of_start, 5),
        }


def designs(
    people: Sequence[Person],
    deformation: Deformation,
    hide: Callable[[Tensor], Tensor],
    mirror: bool,
) -> list[Designs]:
    """Every moment of everybody, as it is and with some covariates hidden, mirrored as well; by number of frames."""
    rows: dict[int, list[tuple[int, float, Tensor, Tensor, Tensor, Tensor, bool]]] = {}
    for i, person in enumerate(people):
        for turned, one in enumerate([person, mirrored(person)] if mirror else [person]):
            found = moments(one)
            for moment in found:
                years, rates = mean_rates(one, moment.latest, moment.past + moment.future)
                known, state = one.covariates[moment.latest], one.state[moment.latest]
                for whole, shown in ((not turned, known), (False, hide(known[None])[0])):
                    row = (i, 1 / len(found), shown, state, years, rates, whole)
                    rows.setdefault(len(years), []).append(row)
    made = []
    for of_frames in rows.values():
        measured = torch.stack([row[5] for row in of_frames])
        made.append(
            Designs(
                torch.tensor([row[0] for row in of_frames]),
                torch.tensor([row[1] for row in of_frames], dtype=torch.float64),
                torch.stack([row[2] for row in of_frames]),
                torch.stack([row[3] for row in of_frames]),
                torch.stack([row[4] for row in of_frames]),
                deformation.from_rates(measured.float()).double(),
                torch.tensor([row[6] for row in of_frames]),
            )
        )
    return made


def fit_law(
    prior: GaussianPrior,
    people: list[Designs],
    count: int,
    config: StudyConfig,
    device: torch.device,
    generator: torch.Generator,
    progress: Progress = silent,
) -> Choice:
    """Bring a law to the people of a study; see the text of this module.

    Args:
        prior: the law to start from; left as the law of the study.
        people: moments of `count` people.
        generator: on the CPU; of the folds and the order of the people.
    """
    people = [group.to(device) for group in people]
    fold = (torch.randperm(count, generator=generator) % config.folds).to(device)
    start = copy.deepcopy(prior)
    told = {0.0: 0.0} | dict.fromkeys((*config.strengths, math.inf), 0.0)
    for k in range(config.folds):
        said = part(progress, 0.9 * k / config.folds, 0.9 * (k + 1) / config.folds)
        rest, left_out = _divided(people, fold != k), _divided(people, fold == k)
        if not rest or not left_out:
            continue
        scaled = copy.deepcopy(start)
        scale_law(scaled, rest, config.law_steps)
        told[0.0] += _held_out_loss(start, left_out)
        told[math.inf] += _held_out_loss(scaled, left_out)
        for j, strength in enumerate(config.strengths):
            said(j / len(config.strengths), f"Choosing how far the start is held on to: {strength:g}")
            law = copy.deepcopy(scaled)
            adapt_law(law, scaled, rest, strength, config.law_steps, generator)
            told[strength] += _held_out_loss(law, left_out)
    losses = {strength: loss / config.folds for strength, loss in told.items() if strength}
    chosen = min(losses, key=lambda strength: losses[strength])
    scale_law(prior, people, config.law_steps)
    if math.isfinite(chosen):
        adapt_law(prior, copy.deepcopy(prior), people, chosen, config.law_steps, generator, part(progress, 0.9, 1.0))
    _fit_group_rates(prior, people)
    return Choice(chosen, losses, told[0.0] / config.folds)


def loss_of(law: GaussianPrior, some: Designs) -> Tensor:
    """Negative log-likelihood per number, of each: [N]."""
    root, mean = _root_and_mean(law, some)
    z = torch.linalg.solve_triangular(root, (some.seen - mean).flatten(1)[..., None], upper=False)[..., 0]
    return (z.square() / 2 + root.diagonal(dim1=1, dim2=2).log()).mean(dim=1)


def expected_loss(law: GaussianPrior, of: GaussianPrior, some: Designs) -> Tensor:
    """The same of people of another law in the place of these, expected: [N]."""
    with torch.no_grad():
        other_root, other_mean = _root_and_mean(of, some)
    root, mean = _root_and_mean(law, some)
    both = torch.cat([other_root, (other_mean - mean).flatten(1)[..., None]], dim=2)
    z = torch.linalg.solve_triangular(root, both, upper=False)
    return z.square().sum(dim=(1, 2)) / 2 / z.shape[1] + root.diagonal(dim1=1, dim2=2).log().mean(dim=1)


def scale_law(law: GaussianPrior, people: list[Designs], steps: int = _SCALING_STEPS) -> None:
    """Step 1 of the module's text, in place, in `steps` steps or in as many as it takes."""
    steps = min(steps, _SCALING_STEPS)
    start = {name: value.detach().clone() for name, value in law.named_parameters()}
    factors = torch.zeros(3 + law.modes, dtype=torch.float64, device=start["rate"].device, requires_grad=True)
    calls = _Law(law)
    optimizer = torch.optim.Adam([factors], lr=0.2, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)
    some = [group.where(group.told) for group in people]
    for _ in range(steps):
        total, weight = factors[3:].square().sum() / (2 * _SCALE_SD**2), 0.0
        for group in some:
            if len(group.weight):
                mean, covariance = functional_call(calls, _scaled(start, factors), (group,))
                root = torch.linalg.cholesky(covariance)
                difference = (group.seen - mean).flatten(1)[..., None]
                z = torch.linalg.solve_triangular(root, difference, upper=False)[..., 0]
                each = (z.square() / 2 + root.diagonal(dim1=1, dim2=2).log()).sum(dim=1)
                total = total + (group.weight * each).sum()
                weight += float(group.weight.sum())
        optimizer.zero_grad()
        (total / max(weight, 1e-9)).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        for name, value in _scaled(start, factors.detach()).items():
            law.get_parameter(name.removeprefix("prior.")).copy_(value)


def adapt_law(
    law: GaussianPrior,
    start: GaussianPrior,
    people: list[Designs],
    strength: float,
    steps: int,
    generator: torch.Generator,
    progress: Progress = silent,
) -> None:
    """Step 2 of the module's text, in place."""
    optimizer = torch.optim.Adam(law.requires_grad_(True).parameters(), lr=5e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    sizes = torch.tensor([float(group.weight.sum()) for group in people])
    for step in range(steps):
        group = people[int(torch.multinomial(sizes, 1, generator=generator))]
        chosen = torch.multinomial(group.weight.float().cpu(), min(_AT_ONCE, len(group.weight)), generator=generator)
        some = group.where(chosen.to(group.weight.device))
        loss = (loss_of(law, some) + strength * expected_loss(law, start, some)).mean() / (1 + strength)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(law.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress((step + 1) / steps, f"Fitting the closed form, loss {float(loss.detach()):.4f}")


@torch.no_grad()
def regressed_law(prior: GaussianPrior, people: list[Designs]) -> None:
    """A law to start from without a model, in place: one regression for everybody, a shift for every diagnosis."""
    whole = [group.where(group.told) for group in people]
    covariates, state, rate, weight = (
        torch.cat(parts) for parts in zip(*((g.covariates, g.state, _longest(g), g.weight) for g in whole), strict=True)
    )
    features = prior.features(covariates, state)
    penalty = torch.full((features.shape[1],), _RIDGE, dtype=torch.float64)
    penalty[0] = 0.1
    pull = features.T * weight
    common = torch.linalg.solve(pull @ features + torch.diag(penalty), pull @ rate)
    left = rate - features @ common
    diagnosis = diagnosis_index(covariates, prior.diagnoses)
    for c in range(prior.diagnoses + 1):
        chosen = diagnosis == c
        prior.rate[c] = common
        if bool(chosen.any()):
            there = weight[chosen].sum()
            shift = (weight[chosen, None] * left[chosen]).sum(dim=0) / (there + _POOLED)
            prior.rate[c, 0] += shift
            left[chosen] -= shift
    root = torch.linalg.cholesky(shrunk_covariance(left, weight))
    prior.rate_root.copy_(root.expand_as(prior.rate_root))
    prior.acceleration.zero_()
    prior.acceleration_root.copy_(0.1 * prior.rate_root)
    prior.noise_root.copy_(0.5 * torch.diag(root.square().sum(dim=1).sqrt()))
    prior.log_unevenness.fill_(-2.0)
    prior.group_rate.zero_()
    prior.group_rate[:, 0] = (weight[:, None] * rate).sum(dim=0) / weight.sum()


def shrunk_covariance(values: Tensor, weight: Tensor) -> Tensor:
    """Of the rows [N, K] with weights [N], drawn towards its diagonal the more, the fewer people there are: [K, K]."""
    people, k = weight.sum(), values.shape[1]
    covariance = (values.T * weight) @ values / people
    share = k / (k + people)
    diagonal = torch.diag(covariance.diagonal())
    return (1 - share) * covariance + share * diagonal + 1e-4 * diagonal.mean() * torch.eye(k).to(values)


class _Law(nn.Module):
    """Calls `joint` of a law whose parameters are given."""

    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, some: Designs) -> tuple[Tensor, Tensor]:
        return self.prior.joint(some.covariates, some.state, some.years, some.years.shape[1])


def _root_and_mean(law: GaussianPrior, some: Designs) -> tuple[Tensor, Tensor]:
    mean, covariance = law.joint(some.covariates, some.state, some.years, some.years.shape[1])
    return torch.linalg.cholesky(covariance), mean


def _scaled(start: dict[str, Tensor], factors: Tensor) -> dict[str, Tensor]:
    """The parameters of the law with mean, spread, acceleration and scan errors scaled by exp(factors)."""
    scale = factors.exp()
    errors = scale[3:, None] * torch.tril(start["noise_root"])
    made = {
        "rate": start["rate"] * scale[0],
        "rate_root": start["rate_root"] * scale[1],
        "acceleration": start["acceleration"] * scale[2],
        "acceleration_root": start["acceleration_root"] * scale[2],
        "noise_root": errors,  # a diagonal matrix times a lower triangular one is lower triangular
        "log_unevenness": start["log_unevenness"],
    }
    return {f"prior.{name}": value for name, value in made.items()}


@torch.no_grad()
def _held_out_loss(law: GaussianPrior, people: list[Designs]) -> float:
    total, weight = 0.0, 0.0
    for group in people:
        some = group.where(group.told)
        if len(some.weight):
            total += float((some.weight * loss_of(law, some)).sum())
            weight += float(some.weight.sum())
    return total / weight


def _divided(people: list[Designs], chosen: Tensor) -> list[Designs]:
    """The moments of some of the people."""
    some = [group.where(chosen[group.person]) for group in people]
    return [group for group in some if len(group.weight)]


@torch.no_grad()
def _fit_group_rates(prior: GaussianPrior, people: list[Designs]) -> None:
    """Mean rate by diagnosis and age, the simple forecast; that of the start counts as much as some people."""
    whole = [group.where(group.told) for group in people]
    covariates, rate, weight = (
        torch.cat(parts) for parts in zip(*((g.covariates, _longest(g), g.weight) for g in whole), strict=True)
    )
    diagnosis = diagnosis_index(covariates, prior.diagnoses)
    age = standardized(covariates)[0][:, :1]
    line = torch.cat([torch.ones_like(age), age], dim=1)
    for c in range(prior.diagnoses + 1):
        # Whoever's diagnosis is unknown gets the mean of everybody.
        chosen = torch.ones_like(diagnosis, dtype=torch.bool) if c == prior.diagnoses else diagnosis == c
        pull = line[chosen].T * weight[chosen]
        gram = pull @ line[chosen] + _GROUP * torch.eye(2).to(line)
        prior.group_rate[c] = torch.linalg.solve(gram, pull @ rate[chosen] + _GROUP * prior.group_rate[c])


def _longest(group: Designs) -> Tensor:
    """The rate over the longest time: [N, K]."""
    place = group.years.abs().argmax(dim=1)
    return group.seen[torch.arange(len(place)).to(place), place]


def _named(strength: float) -> str:
    return f"{strength:g}"
