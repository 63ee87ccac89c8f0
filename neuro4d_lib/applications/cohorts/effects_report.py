"""The files of covariate effects: table, figure, one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from neuro4d_lib.applications.cohorts.effects import LEVEL, Effect, Recovery, recovery
from neuro4d_lib.applications.cohorts.rates import REGIONS, Cohort
from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.page import Section, as_csv, figure, png_of, render_page
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.forecasting.staging import staged

_LABELS = {
    "age": "10 years older", "sex": "men against women", "education": "4 more years of education", "apoe4": "one more APOE e4 allele",
}  # fmt: skip


def write_effects(cohort: Cohort, effects: Sequence[Effect], folder: Path) -> dict[str, str]:
    """All files, or none."""
    png = draw_effects(effects)
    with staged(folder) as place:
        (place / "effects.csv").write_text(as_csv([dataclasses.asdict(e) for e in effects]), encoding="utf-8")
        (place / "effects.png").write_bytes(png)
        (place / "effects.html").write_text(_page(cohort, effects, png), encoding="utf-8")
    return {
        "effects.html": "everything on one page, for a web browser",
        "effects.csv": "effect of every covariate on the rate of every region, with intervals and corrected p values",
        "effects.png": "the same as a figure",
    }


def _columns(effects: Sequence[Effect]) -> list[str]:
    return list(dict.fromkeys(effect.covariate for effect in effects))


def draw_effects(effects: Sequence[Effect]) -> bytes:
    """A panel per covariate, a row per region, a color per diagnosis; bars 95 % intervals, crosses the simulator's truth."""
    columns = _columns(effects)
    made = figure(2.1 * len(columns) + 2, 8.5)
    panels = made.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, covariate in zip(panels, columns, strict=True):
        chosen = [effect for effect in effects if effect.covariate == covariate]
        groups = list(dict.fromkeys(effect.diagnosis for effect in chosen))
        axes.axvline(0, color="0.5", linewidth=0.8)
        for g, group in enumerate(groups):
            rows = [effect for effect in chosen if effect.diagnosis == group]
            color = COLORS[DIAGNOSES.index(group)] if group else "black"
            places = [REGIONS.index(e.region) + (g - (len(groups) - 1) / 2) * 0.16 for e in rows]
            bars = [[e.estimate - e.low for e in rows], [e.high - e.estimate for e in rows]]
            axes.errorbar(
                [e.estimate for e in rows], places, xerr=bars, fmt="o", ms=2.5, lw=0.9, color=color, label=group or None
            )
            truth = [(e.truth, place) for e, place in zip(rows, places, strict=True) if e.truth is not None]
            if truth:
                axes.plot(*zip(*truth, strict=True), "x", color="#d40000", ms=4, mew=1, zorder=3)
        axes.set_title(_LABELS.get(covariate, covariate), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        if any(groups):
            axes.legend(fontsize=6, frameon=False)
    panels[0].set_yticks(range(len(REGIONS)), [name.replace("_", " ") for name in REGIONS])
    panels[0].invert_yaxis()
    made.supxlabel(
        "effect on the rate, % of the volume per year"
        + ("; red crosses: the simulator's truth" if any(e.truth is not None for e in effects) else ""),
        fontsize=9,
    )
    return png_of(made)


def _page(cohort: Cohort, effects: Sequence[Effect], png: bytes) -> str:
    found = [effect for effect in effects if effect.p_fdr < LEVEL]
    simulated = any(effect.truth is not None for effect in effects)
    text = (
        f"{len(effects)} effects were tested; {len(found)} are found at a false discovery rate of {100 * LEVEL:g} % "
        "(Benjamini and Hochberg, over the regions of each covariate and diagnosis). Linear models within each diagnosis; "
        "diagnoses are compared at 73 years, women, 15 years of education, no e4 allele."
    )
    sections = [Section("Effect of every covariate on every region", text, png)]
    met = recovery(effects)
    if met is not None:
        sections.append(Section("Beside the simulator's truth", said(met)))
    header = (
        "among",
        "covariate",
        "region",
        "effect, %/year (95 %)",
        "p",
        "p, Holm",
        "p, FDR",
        *(["truth"] if simulated else []),
    )
    for covariate in _columns(effects):
        chosen = sorted((e for e in effects if e.covariate == covariate), key=lambda e: e.p)
        rows = [_cells(effect, simulated) for effect in chosen]
        sections.append(Section(_LABELS.get(covariate, covariate), "", None, header, rows))
    lead = f"{cohort.name}: {len(cohort)} people. Rates of log-volume, % per year; loss is negative."
    note = "Associations between people, not effects of changing a covariate in a person."
    return render_page("Which regions answer to which covariate", lead, sections, [note])


def said(met: Recovery) -> str:
    """A recovery in a sentence."""
    return (
        f"Of {met.cells} effects, {100 * met.held:.1f} % of the 95 % intervals hold the truth. Of the {met.clear} whose truth exceeds "
        f"three standard errors, {100 * met.right_sign:.1f} % have its sign and {100 * met.found:.1f} % are found; "
        f"{100 * met.false:.1f} % of all findings have a truth of 0."
    )


def _cells(effect: Effect, simulated: bool) -> tuple[str, ...]:
    truth = "" if effect.truth is None else f"{effect.truth:+.2f}"
    return (
        effect.diagnosis or "all", _LABELS.get(effect.covariate, effect.covariate), effect.region.replace("_", " "),
        f"{effect.estimate:+.2f} ({effect.low:+.2f} to {effect.high:+.2f})", f"{effect.p:.2g}", f"{effect.p_holm:.2g}",
        f"{effect.p_fdr:.2g}", *([truth] if simulated else []),
    )  # fmt: skip
