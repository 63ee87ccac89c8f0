"""One person under other covariates: the same scan and the same future noise, and what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from neuro4d_lib.applications.figures import COLORS
from neuro4d_lib.applications.page import NO_ADVICE, Section, as_csv, as_json, figure, png_of, render_page
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting.ensemble import student_t_quantile
from neuro4d_lib.forecasting.provenance import RESEARCH_USE, record
from neuro4d_lib.forecasting.report import SHOWN_REGIONS
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.forecasting.slices import Slices
from neuro4d_lib.forecasting.staging import staged
from neuro4d_lib.progress import Progress, silent

_FIELDS = {"age": "age", "sex": "sex", "education": "education_years", "apoe4": "apoe4", "diagnosis": "diagnosis"}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Change:
    """Other covariates: as written, and whole."""

    text: str
    covariates: Covariates


def read_change(text: str, base: Covariates) -> Change:
    """`apoe4=2` or `diagnosis=AD,apoe4=2` on top of what is known of the person; `apoe4=unknown` too."""
    changed: dict[str, object] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or name not in _FIELDS or not value:
            raise InputError(
                f"The change {text!r} is not understood: {item.strip()!r}. Expected NAME=VALUE with one of "
                f"{', '.join(_FIELDS)}, such as apoe4=2 or diagnosis=AD,apoe4=2."
            )
        if _FIELDS[name] in changed:
            raise InputError(f"The change {text!r} names {name} twice.")
        changed[_FIELDS[name]] = None if value.lower() == UNKNOWN else _value(text, name, value)
    return Change(text, dataclasses.replace(base, **changed))  # type: ignore[arg-type]


def checked_changes(texts: Sequence[str], base: Covariates) -> tuple[Change, ...]:
    changes = tuple(read_change(text, base) for text in texts)
    if not changes:
        raise InputError("Nothing is changed. Give at least one --change, such as --change apoe4=2.")
    if len({change.covariates for change in changes}) < len(changes):
        raise InputError("Two changes say the same. Give each once.")
    return changes


def _value(text: str, name: str, value: str) -> object:
    if name in ("sex", "diagnosis"):
        return value.upper()
    try:
        return int(value) if name == "apoe4" else float(value)
    except ValueError:
        raise InputError(f"The change {text!r} gives {name} the value {value!r}; expected a number.") from None


def differences_percent(base: Forecast, other: Forecast) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much larger each region is under the other covariates, % of its volume: mean, low and high end of 90 % [T, R].

    Both futures of a pair come from the same noise, so their difference spreads far less than either. As the bands of
    volumes: Student's t for the next pair, in log-volume.
    """
    ratios = np.log(other.volumes.futures_mm3 / base.volumes.futures_mm3)
    mean = ratios.mean(axis=0)
    reach = np.zeros_like(mean)
    if len(ratios) > 1:
        width = ratios.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(ratios))
        reach = student_t_quantile(0.95, len(ratios) - 1) * width
    middle, low, high = (100 * np.expm1(value) for value in (mean, mean - reach, mean + reach))
    return middle, low, high


def difference_map(base: Forecast, other: Forecast, time: int) -> np.ndarray:
    """Change of volume at every voxel of the scan under the other covariates minus that under the person's own, % points."""
    return other.volume_change_percent(time) - base.volume_change_percent(time)


def write_what_if(
    results: Sequence[Forecast], changes: Sequence[Change], folder: Path, progress: Progress = silent
) -> dict[str, str]:
    """Maps, table, figure, page and record: all or nothing. The first forecast is that of the person's own covariates."""
    base, others = results[0], results[1:]
    names = [f"difference_{''.join(c if c.isalnum() else '-' for c in change.text)}.nii.gz" for change in changes]
    written = {
        "what_if.html": "everything on one page, for a web browser",
        "what_if.png": "volumes under each of the covariates, and where the largest difference lies",
        "volumes.csv": "volumes of every region and year under each, and the paired differences with 90 % bands",
        "what_if.json": "how it was made",
        **{name: f"{change.text}: difference of the volume change, % points, one volume per year"
           for name, change in zip(names, changes, strict=True)},
    }  # fmt: skip
    with staged(folder) as place:
        last: list[np.ndarray] = []
        for i, (name, other) in enumerate(zip(names, others, strict=True)):
            progress(i / len(names), f"Writing {name}")
            maps = [difference_map(base, other, k) for k in range(len(base.years))]
            image = nibabel.Nifti1Image(np.stack(maps, axis=-1).astype(np.float32), base.scan.affine)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, place / name)
            last.append(maps[-1])
        (place / "volumes.csv").write_text(as_csv(_rows(results, changes)), encoding="utf-8")
        png = _draw(results, changes, last)
        (place / "what_if.png").write_bytes(png)
        (place / "what_if.html").write_text(_page(results, changes, png), encoding="utf-8")
        made = {
            "notice": f"{RESEARCH_USE} {NO_ADVICE}",
            "changes": {change.text: change.covariates.as_dict() for change in changes},
            "forecast": record(base, written, base.seconds),
        }
        (place / "what_if.json").write_text(as_json(made), encoding="utf-8")
    return written


def _rows(results: Sequence[Forecast], changes: Sequence[Change]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for label, result in zip(("person", *(change.text for change in changes)), results, strict=True):
        table = result.volumes
        median, bands = table.median_and_bands
        difference = differences_percent(results[0], result)
        for r, region in enumerate(table.names):
            for k, year in enumerate(table.years):
                ends: list[float | None] = [float(end[k, r]) for end in bands.get(90, ())]
                mean, low, high = (float(part[k, r]) for part in difference)
                rows.append({
                    "covariates": label, "region": region, "year": year, "median_mm3": float(median[k, r]),
                    "low_90_mm3": ends[0] if ends else None, "high_90_mm3": ends[1] if ends else None, "difference_percent": mean,
                    "difference_low_90": low, "difference_high_90": high,
                })  # fmt: skip
    return rows


def _draw(results: Sequence[Forecast], changes: Sequence[Change], maps: Sequence[np.ndarray]) -> bytes:
    """Curves of the main regions; beneath, the largest difference at the last year on the scan."""
    base = results[0]
    names = base.volumes.names
    shown = [(names.index(name), title) for name, title in SHOWN_REGIONS.items() if name in names]
    made = figure(3.3 * len(shown), 6.8)
    upper, lower = made.subfigures(2, 1, height_ratios=(1, 1.1))
    for axes, (region, title) in zip(upper.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for label, result, color in zip(("person", *(c.text for c in changes)), results, COLORS * 9, strict=False):
            median, bands = result.volumes.median_and_bands
            start = result.volumes.baseline_mm3[region]
            years = np.append(0.0, result.years)
            curve, *ends = (np.append(0.0, 100 * (v[:, region] / start - 1)) for v in (median, *bands.get(90, ())))
            if ends:
                axes.fill_between(years, *ends, color=color, alpha=0.12, linewidth=0)
            axes.plot(years, curve, color=color, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("years after the scan", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    first = upper.axes[0]
    first.set_ylabel("volume, % of the scan's", fontsize=9)
    first.legend(fontsize=7, frameon=False)
    slices = Slices(base.scan, base.aligned.labels)
    for k, values in enumerate(maps):
        slices.add(k, base.scan.array, values)
    tiles = lower.subplots(1, max(len(maps), 2), squeeze=False)[0]
    cuts = [cut["coronal"] for _, cut in slices.frames]
    for axes in tiles:
        axes.set_axis_off()
    for axes, cut, change in zip(tiles, cuts, changes, strict=False):
        aspect, difference = slices.aspect["coronal"], cut.change_percent
        assert difference is not None  # every cut has a map
        reach = max(float(np.percentile(np.abs(difference[cut.brain]), 95)), 0.01)
        axes.imshow(cut.gray, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        shade = np.clip(np.abs(difference) / (0.3 * reach), 0, 0.75) * cut.brain
        overlay = axes.imshow(difference, cmap="RdBu", vmin=-reach, vmax=reach, alpha=shade, aspect=aspect)
        axes.set_title(f"{change.text}: after {base.years[-1]:g} years", fontsize=10)
        lower.colorbar(overlay, ax=axes, shrink=0.8, label="difference of volume, % points")
    return png_of(made)


def _page(results: Sequence[Forecast], changes: Sequence[Change], png: bytes) -> str:
    base = results[0]
    order = sorted(range(len(base.volumes.names)), key=lambda r: base.volumes.names[r] not in SHOWN_REGIONS)
    sections = [
        Section(
            "Volumes under other covariates",
            "Same scan, same future noise. Bands hold 90 % of the futures. Beneath: where more (blue) or less (red) is left.",
            png,
        )
    ]
    for change, other in zip(changes, results[1:], strict=True):
        mean, low, high = differences_percent(base, other)
        rows = [
            (base.volumes.names[r].replace("_", " "), *(f"{mean[k, r]:+.2f} % ({low[k, r]:+.2f} to {high[k, r]:+.2f})" for k in range(len(base.years))))
            for r in order
        ]  # fmt: skip
        header = ("region", *(f"after {year:g} years (90 % of pairs)" for year in base.years))
        sections.append(Section(f"{change.text} against the person's own", "", None, header, rows))
    known = {name: value for name, value in base.inputs.covariates.as_dict().items() if value is not None}
    person = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items()) or "nothing"
    lead = f"Known of the person: {person}. {base.futures} pairs of futures, seed {base.seed}."
    warnings = list(dict.fromkeys(warning for result in results for warning in result.warnings))
    note = "A change of a covariate in the model is an association in simulated people, not an effect of changing it in a person."
    return render_page("What if the covariates were others", lead, sections, [note, *warnings])
