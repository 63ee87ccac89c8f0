"""The files of a comparison: table, maps, figures, one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from neuro4d_lib.applications.cohorts.compare import AgeingCurve, Comparison, ageing_curve
from neuro4d_lib.applications.cohorts.rates import REGIONS, Cohort
from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.page import Section, as_csv, figure, png_of, render_page
from neuro4d_lib.applications.risk.volume_file import weights_of
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.forecasting.staging import staged
from neuro4d_lib.geometry.spaces import LATTICE

SHOWN = ("hippocampus", "lateral_ventricle", "cortex", "whole_brain")
LEVEL = 0.05


def write_comparison(
    found: Comparison, maps: tuple[np.ndarray, np.ndarray], reference: Reference, folder: Path
) -> dict[str, str]:
    """All files, or none. maps: [V] mean log-Jacobian per year on the whole lattice, of each cohort."""
    weights = weights_of(SHOWN, reference).numpy()
    curves = [ageing_curve(cohort, weights) for cohort in (found.first, found.second)]
    pictures = {"regions.png": _draw_regions(found), "maps.png": _draw_maps(maps)}
    if any(curve is not None for curve in curves):
        pictures["ageing.png"] = _draw_ageing(found, curves)
    written = {
        "compare.html": "everything on one page, for a web browser",
        "regions.csv": "rate of every region in each cohort, difference, p alone and p for all regions together",
        "progression_first.nii.gz": "mean change of volume in the first cohort, % per year, MNI space, 5.25 mm",
        "progression_second.nii.gz": "the same of the second",
        "progression_difference.nii.gz": "second minus first, % points per year",
        "regions.png": "rates of every region", "maps.png": "the maps", "ageing.png": "normal ageing: rates over age",
        "p_corrected.nii.gz": "p of the difference at every place for all places together (1 outside the brain)",
    }  # fmt: skip
    with staged(folder) as place:
        (place / "regions.csv").write_text(as_csv(_rows(found)), encoding="utf-8")
        for name, png in pictures.items():
            (place / name).write_bytes(png)
        first, second = maps
        for name, values in (("first", first), ("second", second), ("difference", second - first)):
            _write_map(100 * values, place / f"progression_{name}.nii.gz")
        if found.maps is not None and found.mask is not None:
            p = np.ones(len(found.mask))
            p[found.mask] = found.maps.p_max
            _write_map(p, place / "p_corrected.nii.gz")
        (place / "compare.html").write_text(_page(found, pictures), encoding="utf-8")
        return {name: what for name, what in written.items() if (place / name).exists()}


def _write_map(values: np.ndarray, path: Path) -> None:
    image = nibabel.Nifti1Image(values.reshape(LATTICE.shape).astype(np.float32), LATTICE.affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _group(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Mean and its standard error [R], % per year."""
    rates = 100 * cohort.rates
    return rates.mean(axis=0), rates.std(axis=0, ddof=1) / np.sqrt(len(rates))


def _rows(found: Comparison) -> list[dict[str, Any]]:
    from scipy import stats

    (first, first_error), (second, second_error) = _group(found.first), _group(found.second)
    difference = found.regions
    reach = stats.t.ppf(0.975, difference.freedom) * difference.standard_error
    return [
        {
            "region": region, "first": float(first[r]), "first_standard_error": float(first_error[r]), "second": float(second[r]),
            "second_standard_error": float(second_error[r]), "difference": 100 * float(difference.estimate[r]),
            "low_95": 100 * float(difference.estimate[r] - reach[r]), "high_95": 100 * float(difference.estimate[r] + reach[r]),
            "t": float(difference.t[r]), "p": float(difference.p[r]), "p_all_regions": float(difference.p_max[r]),
        }
        for r, region in enumerate(REGIONS)
    ]  # fmt: skip


def _draw_regions(found: Comparison) -> bytes:
    made = figure(9.5, 7.5)
    rates, difference = made.subplots(1, 2, sharey=True)
    for side, (cohort, shift) in enumerate(((found.first, -0.15), (found.second, 0.15))):
        mean, error = _group(cohort)
        rates.errorbar(mean, np.arange(len(REGIONS)) + shift, xerr=1.96 * error, fmt="o", ms=3, lw=1, color=COLORS[side],
                       label=f"{cohort.name}, {len(cohort)} people")  # fmt: skip
    rows = _rows(found)
    for r, row in enumerate(rows):
        color = "#d40000" if row["p_all_regions"] < LEVEL else "0.5"
        difference.errorbar(
            row["difference"], r, xerr=(row["high_95"] - row["low_95"]) / 2, fmt="o", ms=3, lw=1, color=color
        )
    for axes in (rates, difference):
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    rates.set_yticks(range(len(REGIONS)), [name.replace("_", " ") for name in REGIONS])
    rates.invert_yaxis()
    rates.set_xlabel("rate, % of the volume per year (95 %)", fontsize=9)
    difference.set_xlabel("second minus first, adjusted (95 %)\nred: p < 0.05 for all regions together", fontsize=9)
    made.legend(*rates.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside upper left")
    return png_of(made)


def _draw_maps(maps: tuple[np.ndarray, np.ndarray]) -> bytes:
    """Coronal and axial slices of each cohort and of the difference, on the lattice."""
    made = figure(9, 6)
    shown = [100 * maps[0], 100 * maps[1], 100 * (maps[1] - maps[0])]
    for k, (values, title) in enumerate(zip(shown, ("first", "second", "second minus first"), strict=True)):
        volume = values.reshape(LATTICE.shape)
        same_scale = np.concatenate(shown[:2]) if k < 2 else values
        reach = max(float(np.percentile(np.abs(same_scale), 98)), 0.01)
        column = made.add_subplot(2, 3, k + 1), made.add_subplot(2, 3, k + 4)
        for axes, axis, mm in zip(column, (1, 2), (-22.0, 6.0), strict=True):
            index = round((mm - LATTICE.affine[axis, 3]) / LATTICE.affine[axis, axis])
            cut = np.take(volume, index, axis=axis)
            drawn = axes.imshow(cut.T, origin="lower", cmap="RdBu", vmin=-reach, vmax=reach, interpolation="bilinear")
            axes.set_axis_off()
        column[0].set_title(title, fontsize=10)
        made.colorbar(drawn, ax=list(column), shrink=0.7, label="% per year")
    return png_of(made)


def _draw_ageing(found: Comparison, curves: list[AgeingCurve | None]) -> bytes:
    made = figure(3.2 * len(SHOWN), 3.2)
    for q, (axes, name) in enumerate(zip(made.subplots(1, len(SHOWN)), SHOWN, strict=True)):
        for side, (curve, cohort) in enumerate(zip(curves, (found.first, found.second), strict=True)):
            if curve is None:
                continue
            axes.fill_between(
                curve.ages, 100 * curve.low[:, q], 100 * curve.high[:, q], color=COLORS[side], alpha=0.25, lw=0
            )
            axes.plot(curve.ages, 100 * curve.mean[:, q], color=COLORS[side], label=f"{cohort.name}, {curve.people} CN")
            if curve.truth is not None:
                axes.plot(curve.ages, 100 * curve.truth[:, q], color=COLORS[side], linestyle="--", linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("age, years", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if q == 0:
            axes.set_ylabel("% per year (dashed: truth)", fontsize=9)
            axes.legend(fontsize=6, frameon=False)
    return png_of(made)


def _page(found: Comparison, pictures: dict[str, bytes]) -> str:
    rows = sorted(_rows(found), key=lambda row: row["p_all_regions"])
    different = sum(row["p_all_regions"] < LEVEL for row in rows)
    cells = [
        (row["region"].replace("_", " "), f"{row['first']:+.2f}", f"{row['second']:+.2f}",
         f"{row['difference']:+.2f} ({row['low_95']:+.2f} to {row['high_95']:+.2f})", f"{row['p']:.3f}", f"{row['p_all_regions']:.3f}")
        for row in rows
    ]  # fmt: skip
    text = (
        f"{different} of {len(rows)} regions differ, p < {LEVEL} for all regions together (permutation, largest |t|). "
        f"Adjusted for: {', '.join(found.adjusted) or 'nothing'}."
    )
    header = ("region", "first, %/year", "second, %/year", "second minus first (95 %)", "p", "p, all regions")
    sections = [Section("Rates", text, pictures["regions.png"], header, cells)]
    places = "Mean log-Jacobian per year; red: loss."
    if found.maps is not None:
        places += f" {(found.maps.p_max < LEVEL).sum()} of {len(found.maps.p_max)} places differ, p < {LEVEL} for all together."
    else:
        places += " Made of the regional rates: they say nothing beyond them, so they are not tested place by place."
    sections.append(Section("Maps", places, pictures["maps.png"]))
    if "ageing.png" in pictures:
        sections.append(
            Section(
                "Normal ageing",
                "Rates of people of normal cognition over age; band: 95 % of the mean.",
                pictures["ageing.png"],
            )
        )
    if found.scanner is not None:
        sections.append(Section("Harmonization", scanner_sentence(found)))
    lead = f"First: {found.first.name}, {len(found.first)} people. Second: {found.second.name}, {len(found.second)} people."
    return render_page("Two cohorts", lead, sections, [f"Not adjusted: {text}." for text in found.left_out])


def scanner_sentence(found: Comparison) -> str:
    """What ComBat did."""
    effect = found.scanner
    if effect is None:
        return ""
    return (
        f"ComBat on the regional rates: mean |shift| between the scanners {np.abs(effect.shift_before).mean():.2f} SD before, "
        f"{np.abs(effect.shift_after).mean():.2f} after; ratio of their SDs {effect.ratio_before.mean():.2f} before, "
        f"{effect.ratio_after.mean():.2f} after. What differs between the cohorts for other reasons, beyond "
        f"{', '.join(found.adjusted) or 'nothing'}, is taken away too."
    )
