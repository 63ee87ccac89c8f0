"""Training batches of the people of a study, with the same contract as those of simulated people.

What lies ahead is known of a study with scan errors only; a network that learned these would widen its forecasts by them. So
the future frames of a batch are drawn from what the closed form says of the true course given all visits of the person, those
ahead too (plausible values; Mislevy, 1991, doi:10.1007/BF02294457): where the visits say much, all draws lie close to them;
where they say little, the closed form is believed, and there is nothing to learn. The draw is exact (Matheron's rule): draw a
course and its errors from the law, and correct it by what the visits say against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuro4d_lib.data.population import Population
from neuro4d_lib.networks.covariates import diagnosis_index
from neuro4d_lib.networks.gaussian_prior import GaussianPrior, kron
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.training.simulated import Batch, SimulatedBatches
from neuro4d_lib.training.study_config import StudyConfig
from neuro4d_lib.training.study_people import LEAST_YEARS, Moment, Person, mean_rates, mirrored, moments


@dataclass(frozen=True, eq=False)
class _Row:
    """One person at one moment, as shown in a batch."""

    person: Person
    moment: Moment
    past: tuple[int, ...]
    fresh: bool


class StudyBatches:
    """People of a study, any visit of theirs as the latest one; some of them simulated where that is asked for."""

    def __init__(
        self,
        people: Sequence[Person],
        prior: GaussianPrior,
        deformation: Deformation,
        population: Population,
        config: StudyConfig,
        simulated: SimulatedBatches | None = None,
    ) -> None:
        """prior: the law of the study, fitted by the time of the first draw; population: how covariates are hidden."""
        self.people, self.prior, self.deformation = people, prior, deformation
        self.population, self.config, self.simulated = population, config, simulated
        self.moments = [(person, moment) for person in people for moment in moments(person) if moment.future]
        if not self.moments:
            raise ValueError("Nobody has a visit with another one ahead.")
        self.most_observed = max(len(moment.past) for _, moment in self.moments)

    def draw(self, size: int, observed: int, future: int, generator: torch.Generator, all_known: float = 0.0) -> Batch:
        """`observed` earlier visits, or as many as the study has, and `future` frames ahead, in order of time.

        A share `all_known` of the people, the first ones, keep every covariate that is known; of the others some are hidden.
        """
        observed = min(observed, self.most_observed)
        simulated = round(self.config.simulated_share * size) if self.simulated else 0
        parts = []
        if simulated and self.simulated:
            parts.append(self.simulated.draw(simulated, observed, future, generator, all_known))
        if size > simulated:
            parts.append(self._of_study(size - simulated, observed, future, generator, all_known))
        return Batch(*(torch.cat([getattr(p, name) for p in parts]) for name in Batch.__dataclass_fields__))

    def only(self, place: int, observed: int) -> StudyBatches | None:
        """The person at a place of `people` alone, if they have so many earlier visits at some moment."""
        person = self.people[place]
        if not any(moment.future and len(moment.past) >= observed for moment in moments(person)):
            return None
        return StudyBatches([person], self.prior, self.deformation, self.population, self.config)

    def _of_study(self, size: int, observed: int, future: int, generator: torch.Generator, all_known: float) -> Batch:
        rows = self._rows(size, observed, generator)
        ahead = torch.stack([self._years_ahead(row, future, generator) for row in rows])
        past_years, seen, truth = self._courses(rows, ahead, generator)
        covariates = torch.stack([row.person.covariates[row.moment.latest] for row in rows])
        hidden = self.population.hide(covariates, generator)
        whole = round(all_known * size)
        hidden[:whole] = covariates[:whole]
        return Batch(
            covariates=hidden,
            anatomy=torch.stack([row.person.anatomy[row.moment.latest] for row in rows]).float(),
            years=torch.cat([past_years, ahead], dim=1),
            seen=seen,
            future=truth,
        )

    def _rows(self, size: int, observed: int, generator: torch.Generator) -> list[_Row]:
        able = [(person, moment) for person, moment in self.moments if len(moment.past) >= observed]
        # Everybody counts the same, however many moments they have.
        times: dict[str, int] = {}
        for person, _ in able:
            times[person.id] = times.get(person.id, 0) + 1
        weights = torch.tensor([1 / times[person.id] for person, _ in able])
        rows = []
        for place in torch.multinomial(weights, size, replacement=True, generator=generator).tolist():
            person, moment = able[place]
            turned, fresh = torch.rand(2, generator=generator).tolist()
            kept = torch.randperm(len(moment.past), generator=generator)[:observed].sort().values.tolist()
            shown = mirrored(person) if turned < self.config.mirrored_share else person
            rows.append(_Row(shown, moment, tuple(moment.past[i] for i in kept), fresh < self.config.fresh_errors))
        return rows

    def _years_ahead(self, row: _Row, count: int, generator: torch.Generator) -> Tensor:
        """Close to the visits ahead, and elsewhere until the last of them where they are too few: [count], ascending."""
        visits = row.person.years[list(row.moment.future)] - row.person.years[row.moment.latest]
        order = torch.randperm(len(visits), generator=generator)[:count]
        jitter = (
            2 * torch.rand(len(order), generator=generator, dtype=torch.float64) - 1
        ) * self.config.time_jitter_years
        last = max(float(visits.max()), LEAST_YEARS + 0.25)
        between = torch.rand(count - len(order), generator=generator, dtype=torch.float64) * (last - LEAST_YEARS)
        years = torch.cat([(visits[order] + jitter).clamp_min(LEAST_YEARS), LEAST_YEARS + between]).sort().values
        # Two frames at one time would be one.
        return years + 0.01 * torch.arange(count, dtype=torch.float64)

    @torch.no_grad()
    def _courses(self, rows: list[_Row], ahead: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Years [B, O] and measured frames [B, O, K] of the visits before, and plausible true frames ahead [B, F, K]."""
        years_of: list[Tensor | None] = [None] * len(rows)
        seen_of: list[Tensor | None] = [None] * len(rows)
        truth_of: list[Tensor | None] = [None] * len(rows)
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(len(row.moment.past) + len(row.moment.future), []).append(i)
        for frames, members in sorted(groups.items()):
            found = [mean_rates(rows[i].person, rows[i].moment.latest, _visits(rows[i].moment)) for i in members]
            years = torch.stack([each for each, _ in found])
            rates = torch.stack([each for _, each in found])
            measured = self.deformation.from_rates(rates.float()).double()
            covariates = torch.stack([rows[i].person.covariates[rows[i].moment.latest] for i in members])
            state = torch.stack([rows[i].person.state[rows[i].moment.latest] for i in members])
            true, errors = plausible_course(self.prior, covariates, state, years, measured, ahead[members], generator)
            again = true[:, :frames] + errors
            for place, i in enumerate(members):
                shown = again[place] if rows[i].fresh else measured[place]
                kept = [_visits(rows[i].moment).index(visit) for visit in rows[i].past]
                years_of[i], seen_of[i] = years[place, kept], shown[kept]
                truth_of[i] = true[place, frames:]
        stacked = (
            torch.stack([value for value in values if value is not None]) for values in (years_of, seen_of, truth_of)
        )
        past_years, seen, truth = stacked
        return past_years, seen.float(), truth.float()


def plausible_course(
    prior: GaussianPrior,
    covariates: Tensor,
    state: Tensor,
    years: Tensor,
    measured: Tensor,
    ahead: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A draw of the true course, given everything that was measured of it, and fresh errors of the visits.

    Args:
        years: [B, T] of the visits, measured [B, T, K]; ahead: [B, F], when else the course is wanted. A wanted time within
            0.2 years of a visit has the unevenness of that visit.

    Returns:
        True mean velocities at all of them [B, T + F, K], errors [B, T, K]: on the CPU.
    """
    place = prior.rate.device
    b, frames, modes = measured.shape
    together = torch.cat([years, ahead], dim=1).to(place)
    covariates, state, measured = covariates.to(place), state.to(place), measured.to(place)
    mean, true_covariance, error_covariance = course_law(prior, covariates, state, together, frames)
    split = frames * modes
    root = torch.linalg.cholesky(true_covariance + 1e-9 * torch.eye(true_covariance.shape[1]).to(true_covariance))
    error_root = torch.linalg.cholesky(error_covariance + 1e-12 * torch.eye(split).to(error_covariance))

    def normal(count: int) -> Tensor:
        return torch.randn(b, count, 1, generator=generator, dtype=torch.float64).to(place)

    course = mean.flatten(1)[..., None] + root @ normal(root.shape[1])
    said = measured.flatten(1)[..., None] - course[:, :split] - error_root @ normal(split)
    gain = torch.cholesky_solve(said, torch.linalg.cholesky(true_covariance[:, :split, :split] + error_covariance))
    course = course + true_covariance[:, :, :split] @ gain
    errors = error_root @ normal(split)
    return course[..., 0].reshape(b, -1, modes).cpu(), errors[..., 0].reshape(b, frames, modes).cpu()


def course_law(
    prior: GaussianPrior, covariates: Tensor, state: Tensor, years: Tensor, measured: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of frames of which the first are measured: mean [B, T, K] and covariance [B, T K, T K] of the true course, covariance of
    the errors of the measured ones."""
    mean, whole = prior.joint(covariates, state, years, 0)
    visits = years[:, :measured]
    shared = torch.zeros(len(years), years.shape[1], years.shape[1]).to(years)
    block = _nearest(visits, years[:, measured:]) * (1 - 1e-6)
    shared[:, :measured, measured:], shared[:, measured:, :measured] = block, block.mT
    d = diagnosis_index(covariates, prior.diagnoses)
    rate_root = torch.tril(prior.rate_root)
    uneven = torch.exp(2 * prior.log_unevenness)[d]
    true = whole + kron(uneven[:, None, None] * shared, (rate_root @ rate_root.mT)[d])
    noise_root = torch.tril(prior.noise_root)
    eye = torch.eye(measured, dtype=years.dtype, device=years.device)
    scans = (1 + eye) / (visits[:, :, None] * visits[:, None])
    return mean, true, kron(scans, (noise_root @ noise_root.mT).expand(len(years), -1, -1))


def _nearest(visits: Tensor, wanted: Tensor) -> Tensor:
    """Which wanted time is that of which visit, [B, T, F] of 0 and 1: within 0.2 years, and each the nearest of the other."""
    if not wanted.shape[1]:
        return wanted.new_zeros(*visits.shape, 0)
    apart = (visits[:, :, None] - wanted[:, None]).abs()
    both = (apart == apart.amin(dim=1, keepdim=True)) & (apart == apart.amin(dim=2, keepdim=True))
    return (both & (apart < 0.2)).to(visits.dtype)


def _visits(moment: Moment) -> tuple[int, ...]:
    return moment.past + moment.future
