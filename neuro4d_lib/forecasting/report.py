"""What a person looks at first: one figure, and one page that explains it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from neuro4d_lib.data.png import png
from neuro4d_lib.data.regions import AGGREGATES
from neuro4d_lib.forecasting.provenance import RESEARCH_USE, SIMULATED_TRAINING
from neuro4d_lib.forecasting.report_page import PAGE
from neuro4d_lib.forecasting.result import Forecast
from neuro4d_lib.forecasting.slices import PLANES, Slices

SHOWN_REGIONS = {
    "hippocampus": "Hippocampus",
    "lateral_ventricle": "Lateral ventricles",
    "cortex": "Cortex",
    "whole_brain": "Whole brain without fluid",
}
_COVARIATES = {
    "age": "age",
    "sex": "sex",
    "education_years": "years of education",
    "apoe4": "APOE e4 alleles",
    "diagnosis": "diagnosis",
}
_MOST_COLUMNS = 6
_LEAST_RANGE_PERCENT = 2.0


def write_figure(forecast: Forecast, slices: Slices, path: Path) -> None:
    """Slices through time, the change on top of them, volumes with bands. ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = _spread_out(len(slices.frames))
    columns = len(chosen)
    heights = [_height(slices, plane) for plane in (*PLANES, PLANES[-1])]
    width = max(2.0 * columns + 0.9, 10.5)
    tile = (width - 0.9) / columns
    figure = Figure(figsize=(width, tile * sum(heights) + 3.9), facecolor="white")
    FigureCanvasAgg(figure)
    images, curves = figure.subfigures(2, 1, height_ratios=(tile * sum(heights) + 0.7, 3.2), squeeze=False)[:, 0]
    _draw_images(images, slices, chosen, heights)
    _draw_curves(curves, forecast)
    figure.savefig(path, dpi=130)


def write_report(forecast: Forecast, slices: Slices, folder: Path, written: Mapping[str, str]) -> None:
    """One HTML file that needs no other file: frames to slide through, figure, table, how it was made."""
    figure = folder / "forecast.png"
    page = Template(PAGE).substitute(
        research_use=html.escape(RESEARCH_USE),
        title=html.escape(_title(forecast)),
        person=html.escape(_person(forecast)),
        summary=_summary(forecast),
        training=html.escape(_training(forecast)),
        warnings="".join(f"<p class='warning'>{html.escape(text)}</p>" for text in forecast.warnings),
        frames=_frames(slices),
        last=len(slices.frames) - 1,
        figure=f"<img class='figure' alt='Figure' src='{_data_uri(figure.read_bytes())}'>" if figure.exists() else "",
        head="".join(f"<th colspan='2'>{_years(year)}</th>" for year in forecast.years),
        subhead="<th class='number'>expected</th><th class='number'>group</th>" * len(forecast.years),
        rows="".join(_row(forecast, region) for region in _table_order(forecast)),
        band="with the 90 % band beneath" if forecast.futures > 1 else "(one future, so no bands)",
        facts="".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in _facts(forecast)),
        files="".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(what)}</dd>" for name, what in written.items()),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _draw_images(figure: Any, slices: Slices, chosen: list[int], heights: list[float]) -> None:
    """Rows: axial, coronal, coronal with the change; columns: years."""
    axes = figure.subplots(
        3,
        len(chosen),
        squeeze=False,
        gridspec_kw={
            "height_ratios": heights,
            "left": 0.03,
            "right": 0.93,
            "top": 0.94,
            "bottom": 0.01,
            "wspace": 0.02,
            "hspace": 0.02,
        },
    )
    reach = _change_reach(slices)
    overlay = None
    for column, number in enumerate(chosen):
        year, cut = slices.frames[number]
        axes[0, column].set_title("Scan" if number == 0 else f"+ {_years(year)}", fontsize=11)
        for row, plane in enumerate((*PLANES, PLANES[-1])):
            axis = axes[row, column]
            axis.set_axis_off()
            gray, change = cut[plane].gray, cut[plane].change_percent
            if row == 2 and change is None:
                continue
            axis.imshow(gray, cmap="gray", vmin=0, vmax=1, aspect=slices.aspect[plane], interpolation="bilinear")
            if row == 2 and change is not None:
                overlay = axis.imshow(
                    change,
                    cmap="RdBu",
                    vmin=-reach,
                    vmax=reach,
                    alpha=cut[plane].brain * np.clip(np.abs(change) / (0.35 * reach), 0, 0.75),
                    aspect=slices.aspect[plane],
                    interpolation="bilinear",
                )
    axes[2, 0].text(0.5, 0.5, "Change of volume\nsince the scan", ha="center", va="center", fontsize=11)
    if overlay is not None:
        place = axes[2, -1].get_position()
        scale = figure.add_axes((0.94, place.y0 + 0.1 * place.height, 0.012, 0.8 * place.height))
        figure.colorbar(overlay, cax=scale, format="%g %%").ax.tick_params(labelsize=8)


def _draw_curves(figure: Any, forecast: Forecast) -> None:
    table = forecast.volumes
    median, bands = table.median_and_bands
    years = np.array([0.0, *table.years])
    shown = _shown_regions(forecast)
    axes = figure.subplots(
        1, len(shown), squeeze=False, gridspec_kw={"left": 0.06, "right": 0.985, "top": 0.86, "bottom": 0.3}
    )[0]

    def percent(volumes_mm3: np.ndarray, region: int) -> np.ndarray:
        return np.append(0.0, 100 * (volumes_mm3[:, region] / table.baseline_mm3[region] - 1))

    for axis, (region, title) in zip(axes, shown, strict=True):
        for coverage, color in ((90, "#dbe8f4"), (50, "#aecde6")):
            if coverage in bands:
                low, high = (percent(end, region) for end in bands[coverage])
                axis.fill_between(years, low, high, color=color, linewidth=0, label=f"{coverage} % band")
        for future in table.futures_mm3[:20] if bands else ():
            axis.plot(years, percent(future, region), color="C0", linewidth=0.5, alpha=0.45)
        axis.plot(years, percent(median, region), color="C0", linewidth=2, marker="o", ms=3, label="this person")
        axis.plot(years, percent(table.group_rate_mm3, region), color="C1", linestyle="--", label="group rate")
        axis.axhline(0, color="0.4", linestyle=":", label="no change")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("years after the scan", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("volume, % of the scan's", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", ncol=len(labels), fontsize=9, frameon=False, bbox_to_anchor=(0.5, 0.06)
    )
    figure.text(0.5, 0.02, RESEARCH_USE, ha="center", fontsize=8, color="0.35")


def _shown_regions(forecast: Forecast) -> list[tuple[int, str]]:
    """Place in the table and title of each region that figure and summary show; some may lie outside the scan."""
    names = forecast.volumes.names
    return [(names.index(name), title) for name, title in SHOWN_REGIONS.items() if name in names]


def _table_order(forecast: Forecast) -> list[int]:
    """The regions that people ask for first, then the other sums, then the single regions."""
    names = forecast.volumes.names
    return sorted(range(len(names)), key=lambda i: (names[i] not in SHOWN_REGIONS, names[i] not in AGGREGATES))


def _change_reach(slices: Slices) -> float:
    """The change at the ends of the color scale: most of what the last year's slices show of the brain.

    A tenth lies beyond: fluid grows by far more percent than tissue loses, which would pale beside it.
    """
    last = slices.frames[-1][1].values()
    shown = [cut.change_percent[cut.brain] for cut in last if cut.change_percent is not None]
    return float(max(np.percentile(np.abs(np.concatenate(shown)), 90), _LEAST_RANGE_PERCENT))


def _height(slices: Slices, plane: str) -> float:
    """Height over width of a plane as shown."""
    rows, columns = slices.frames[0][1][plane].gray.shape
    return rows * slices.aspect[plane] / columns


def _spread_out(frames: int) -> list[int]:
    """The frames to show: first and last, and evenly between them as many as there is room for."""
    return sorted({round(i) for i in np.linspace(0, frames - 1, min(frames, _MOST_COLUMNS))})


def _frames(slices: Slices) -> str:
    """The frames one over the other, of which a slider shows one."""
    parts = []
    for number, (year, cut) in enumerate(slices.frames):
        tiles = "".join(
            f"<img alt='{plane}' src='{_data_uri(png(cut[plane].gray))}' "
            f"style='aspect-ratio:{1 / _height(slices, plane):.4f}'>"
            for plane in PLANES
        )
        caption = "The scan" if number == 0 else f"Expected after {_years(year)}"
        parts.append(f"<figure class='frame'>{tiles}<figcaption>{caption}</figcaption></figure>")
    return "".join(parts)


def _row(forecast: Forecast, region: int) -> str:
    """A region's row: baseline, then for each year the expected change with its band, and the group's."""
    table = forecast.volumes
    median, bands = table.median_and_bands
    baseline = table.baseline_mm3[region]
    cells = [f"<td>{table.names[region].replace('_', ' ')}</td><td class='number'>{baseline / 1000:,.2f}</td>"]
    for k in range(len(table.years)):
        band = ""
        if 90 in bands:
            low, high = (_signed(end[k, region], baseline) for end in bands[90])
            band = f"<br><small>{low} … {high}</small>"
        cells.append(f"<td class='number'>{_signed(median[k, region], baseline)}{band}</td>")
        cells.append(f"<td class='number group'>{_signed(table.group_rate_mm3[k, region], baseline)}</td>")
    important = " class='important'" if table.names[region] in SHOWN_REGIONS else ""
    return f"<tr{important}>{''.join(cells)}</tr>"


def _signed(volume_mm3: float, baseline_mm3: float) -> str:
    return f"{100 * (volume_mm3 / baseline_mm3 - 1):+.1f} %".replace("-", "−")


def _summary(forecast: Forecast) -> str:
    """The main result in a sentence per region."""
    table = forecast.volumes
    median, bands = table.median_and_bands
    sentences = []
    for region, title in _shown_regions(forecast):
        baseline = table.baseline_mm3[region]
        text = f"<b>{title}</b> {_signed(median[-1, region], baseline)}"
        if 90 in bands:
            low, high = (_signed(end[-1, region], baseline) for end in bands[90])
            text += f" <small>(90 % band {low} to {high})</small>"
        sentences.append(f"<li>{text}</li>")
    return (
        f"<p>Expected after {_years(table.years[-1])}, in % of the volume at the scan:</p><ul>{''.join(sentences)}</ul>"
    )


def _title(forecast: Forecast) -> str:
    return f"Brain forecast for {', '.join(f'{year:g}' for year in forecast.years)} years"


def _person(forecast: Forecast) -> str:
    """What is known of the person, and what is not."""
    values = forecast.inputs.covariates.as_dict()
    known = [f"{_COVARIATES[name]} {value:g}" for name, value in values.items() if isinstance(value, (int, float))]
    known += [f"{_COVARIATES[name]} {value}" for name, value in values.items() if isinstance(value, str)]
    unknown = [_COVARIATES[name] for name, value in values.items() if value is None]
    past = len(forecast.inputs.past)
    known.append(f"{past} earlier scan{'s' if past > 1 else ''}" if past else "no earlier scan")
    return f"Known: {', '.join(known)}." + (f" Unknown: {', '.join(unknown)}." if unknown else "")


def _facts(forecast: Forecast) -> list[tuple[str, str]]:
    folds, model = forecast.folds, forecast.model
    measures = {name: value for name, value in forecast.registration.items() if isinstance(value, float)}
    quality = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measures.items())
    return [
        ("Model", f"{model['name']} {model.get('version', '')}, weights {forecast.model_sha256[:12]}…"),
        ("Futures", f"{forecast.futures}, seed {forecast.seed}, {forecast.network_calls} network calls each"),
        (
            "Fold test",
            f"{folds.failed} of {folds.voxels:,} voxels failed ({folds.determinants_per_voxel} determinants each, "
            f"{forecast.fold_tested_maps} maps, every future and year)",
        ),
        ("Registration", quality),
    ]


def _training(forecast: Forecast) -> str:
    return str(forecast.model.get("training_data", SIMULATED_TRAINING))


def _years(year: float) -> str:
    return f"{year:g} year{'' if year == 1 else 's'}"


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
