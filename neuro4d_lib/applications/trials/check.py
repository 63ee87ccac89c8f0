"""The simulation against truths: sample sizes in closed form, level of the tests, analytic power, statsmodels' mixed model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from neuro4d_lib.applications.trials.courses import simulate_arm
from neuro4d_lib.applications.trials.design import ANALYSES, CHANGE, Arm, Biomarker, Criteria, TrialDesign
from neuro4d_lib.applications.trials.law import Law, law_of
from neuro4d_lib.applications.trials.mixed_model import fit_mixed, pattern_sums
from neuro4d_lib.applications.trials.run import Workers, run_trials
from neuro4d_lib.applications.trials.simulation import Arrays, generator_of, one_thread
from neuro4d_lib.applications.trials.sizes import closed_form_n
from neuro4d_lib.applications.trials.summary import Summary, summarize
from neuro4d_lib.progress import Progress, part

WHOLE_BRAIN = {"AD": (-1.84, 1.33), "MCI": (-1.15, 1.21), "CN": (-0.65, 0.82)}
"""Whole-brain change in a year, percent: mean and observed SD. ADNI by SIENA, Cover et al., 2011."""
SCAN_NOISE = 0.37
"""Percent of one scan: part of the observed SD."""
SLOWING = (0.2, 0.25, 0.3)
STATED_N = {"AD": (206, 132, 92), "MCI": (435, 279, 194), "CN": (625, 400, 278)}
"""2 (1.96 + 0.842)^2 SD^2 / (slowing mean)^2: people per arm for 80 % power, one year, not adjusted for controls."""
TRIALS = 4000
_POWER_SIZES = (40, 60, 80, 100, 120, 132, 160, 200)


def closed_form_design(trials: int, effect: str = "shift", seed: int = 0) -> TrialDesign:
    """One year, two scans, nobody leaves; a control arm and one arm for every slowing; a biomarker for every diagnosis."""
    markers = {
        name: Biomarker(
            mean_percent_per_year=mean,
            sd_percent_per_year=float(np.sqrt(sd**2 - 2 * SCAN_NOISE**2)),
            noise_percent=SCAN_NOISE,
        )
        for name, (mean, sd) in WHOLE_BRAIN.items()
    }
    arms = [Arm(name="control")]
    arms += [Arm(name=f"{share:g}", effect=effect, slowing=dict.fromkeys(markers, share)) for share in SLOWING]
    return TrialDesign(
        seed=seed,
        trials=trials,
        visits_years=(0.0, 1.0),
        dropout_per_year=0.0,
        missed_visit=0.0,
        people_per_arm=132,
        analyses=(CHANGE,),
        arms=tuple(arms),
        biomarkers=markers,
    )


def level_design(trials: int, seed: int = 1) -> TrialDesign:
    """Four visits with dropout and missed ones; the treatment has an effect, which the test of the level leaves out."""
    markers = {name: Biomarker() for name in ("hippocampus", "lateral_ventricle", "whole_brain", "cortex")}
    markers["composite"] = Biomarker(weights={"hippocampus": 1.0, "cortex": 1.0, "lateral_ventricle": -0.1})
    return TrialDesign(
        seed=seed,
        trials=trials,
        people_per_arm=60,
        criteria=Criteria(diagnoses=("AD",)),
        arms=(Arm(name="control"), Arm(name="treated", slowing={"whole_brain": 0.25})),
        biomarkers=markers,
    )


def simulated(law: Law, sizes: Sequence[int], workers: Workers, progress: Progress) -> tuple[Summary, Arrays]:
    """Summary of trials of so many people in every arm, the design's own number among them."""
    arms = len(law.design.arms)
    every = [[n] * arms for n in sorted({*sizes, law.design.people_per_arm})]
    with TemporaryDirectory() as folder:
        arrays = run_trials(law, every, law.design.trials, Path(folder), workers, progress)
    return summarize(law.design, law.markers, every, arrays), arrays


def mixed_model_differences(law: Law, trials: int, people: int) -> dict[str, float]:
    """Largest differences between our fits and statsmodels' of the same trials, where statsmodels converges.

    Returns:
        effect: in standard errors of the effect; standard_error: relative; likelihood: by how much statsmodels' restricted
        log-likelihood is higher at its own estimate than at ours; fits: compared.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

    with one_thread():
        generator = generator_of(law.design.seed, -20)
        arms = [simulate_arm(law, arm, trials, people, generator) for arm in law.design.arms[:2]]
    years = np.array(law.design.visits_years)
    time = years / years[-1]
    worst = {"effect": 0.0, "standard_error": 0.0, "likelihood": -np.inf, "fits": 0.0}
    for b in range(trials):
        for q in range(len(law.markers)):
            shown = [(arm.treated[b, :, :, q].numpy(), arm.present[b].numpy()) for arm in arms]
            center = np.concatenate([values[:, 0] for values, _ in shown]).mean()
            sums = [
                pattern_sums(time, (values - center)[None, ..., None], there[None], [people]) for values, there in shown
            ]
            ours = fit_mixed(*sums)
            values = np.concatenate([values for values, _ in shown]) - center
            person, visit = np.nonzero(np.concatenate([there for _, there in shown]))
            y, t = values[person, visit], time[visit]
            design = np.stack([np.ones_like(t), t, t * (person >= people)], axis=1)
            unit = np.std(y)  # in which all variances are near 1, else its optimizer may stop halfway
            model = MixedLM(y, design, groups=person, exog_re=np.stack([np.full_like(t, unit), t], axis=1))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = model.fit(reml=True, method=["lbfgs", "bfgs"])
            if not fit.converged:
                continue
            covariance = ours.covariance[0] / np.outer([unit, 1], [unit, 1]) / ours.noise_variance[0]
            own = MixedLMParams.from_components(fe_params=ours.fixed[0], cov_re=covariance)
            error = float(ours.standard_error[0])
            worst["effect"] = max(worst["effect"], abs(float(fit.fe_params[2]) - float(ours.effect[0])) / error)
            worst["standard_error"] = max(worst["standard_error"], abs(float(fit.bse[2]) / error - 1))
            worst["likelihood"] = max(worst["likelihood"], float(fit.llf - model.loglike(own, profile_fe=False)))
            worst["fits"] += 1
    return worst


def render_check(workers: Workers, progress: Progress, trials: int = TRIALS) -> str:
    """Markdown: every truth beside what the simulation gives."""
    sizes = sorted({*_POWER_SIZES, 92, 110, 150, 194, 240, 280, 340, 400, 435, 520, 625, 720})
    shift, _ = simulated(law_of(closed_form_design(trials)), sizes, workers, part(progress, 0.0, 0.3))
    scaled, _ = simulated(
        law_of(closed_form_design(trials, "proportional", 2)), sizes, workers, part(progress, 0.3, 0.6)
    )
    level_law = law_of(level_design(trials))
    level, _ = simulated(level_law, (), workers, part(progress, 0.6, 0.95))
    progress(0.96, "Comparing with statsmodels")
    differences = mixed_model_differences(level_law, 4, 40)
    progress(1.0, "Done")
    return "\n\n".join(
        [
            f"Simulated: {trials} trials each.",
            _sizes(shift, scaled, trials),
            _powers(shift, trials),
            _levels(level, trials),
            f"Mixed model against statsmodels' MixedLM, {differences['fits']:.0f} fits of 80 people: effects differ by at most "
            f"{differences['effect']:.1e} standard errors, standard errors by {100 * differences['standard_error']:.2g} %; "
            f"statsmodels' restricted log-likelihood is higher by at most {differences['likelihood']:.1e}.",
        ]
    )


def _sizes(shift: Summary, scaled: Summary, trials: int) -> str:
    lines = [
        "| whole brain, 1 year | slowing | stated | closed form | simulated | difference | "
        "everybody slowed in proportion: closed form | simulated | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (mean, sd) in WHOLE_BRAIN.items():
        for share, stated in zip(SLOWING, STATED_N[name], strict=True):
            (row,) = [r for r in shift.rows if (r.arm, r.biomarker) == (f"{share:g}", name)]
            (other,) = [r for r in scaled.rows if (r.arm, r.biomarker) == (f"{share:g}", name)]
            formula = closed_form_n(share * mean, sd, sd)
            smaller = closed_form_n(share * mean, sd, proportional_sd(sd, share))
            lines.append(
                f"| {name} | {100 * share:g} % | {stated} | {formula:.1f} | {row.n_simulated:.1f} | "
                f"{_percent(row.n_simulated / formula - 1)} | {smaller:.1f} | {other.n_simulated:.1f} | "
                f"{_percent(other.n_simulated / smaller - 1)} |"
            )
    return "\n".join(lines)


def proportional_sd(sd: float, share: float) -> float:
    """Observed SD of the change in an arm in which everybody's own change is slowed: scan noise stays."""
    noise = 2 * SCAN_NOISE**2
    return float(np.sqrt((1 - share) ** 2 * (sd**2 - noise) + noise))


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def analytic_power(people: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Of the t-test of two equal arms, by statsmodels."""
    from statsmodels.stats.power import TTestIndPower

    return float(TTestIndPower().power(abs(effect) / sd, people, alpha))


def _powers(shift: Summary, trials: int) -> str:
    mean, sd = WHOLE_BRAIN["AD"]
    lines = [
        "| people per arm (AD, 25 %) | power, statsmodels | simulated | Monte Carlo errors apart |",
        "|---|---|---|---|",
    ]
    for point in shift.powers:
        if (point.arm, point.biomarker) == ("0.25", "AD") and point.people in _POWER_SIZES:
            truth = analytic_power(point.people, 0.25 * mean, sd)
            error = np.sqrt(truth * (1 - truth) / trials)
            lines.append(
                f"| {point.people} | {100 * truth:.1f} % | {100 * point.power:.1f} ± {100 * error:.1f} % | "
                f"{(point.power - truth) / error:+.1f} |"
            )
    return "\n".join(lines)


def _levels(level: Summary, trials: int) -> str:
    error = np.sqrt(0.05 * 0.95 / trials)
    lines = [f"| type-I error, % (5 is right, ± {100 * error:.2f}) | {' | '.join(ANALYSES)} |", "|---|---|---|---|---|"]
    for marker in dict.fromkeys(row.biomarker for row in level.rows):
        cells = [
            f"{100 * row.type_1:.2f}{' (!)' if abs(row.type_1 - 0.05) > 2 * error else ''}"
            for row in level.rows
            if row.biomarker == marker
        ]
        lines.append(f"| {marker} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n(!): more than two Monte Carlo errors from 5 %."
