"""One page on which a person sees whether a study was prepared well: the worst cases first, with pictures."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from neuro4d_lib.data.prepared import read_about
from neuro4d_lib.files import write_whole
from neuro4d_lib.preparation.jobs import PICTURES
from neuro4d_lib.preparation.page_template import PAGE
from neuro4d_lib.preparation.study import ordered_records

MOST_PICTURES = 60
# Beyond these a visit is named as one to look at; nobody is excluded for them.
LOW_AGREEMENT, HIGH_LOG_JACOBIAN, FAR_FROM_OTHERS = 0.8, 0.7, 3.5
_COLUMNS = (
    ("agreement_before", "agreement before", "{:.3f}"),
    ("agreement", "after", "{:.3f}"),
    ("difference_before", "difference before", "{:.3f}"),
    ("difference", "after", "{:.3f}"),
    ("largest_log_jacobian", "largest |log J|", "{:.2f}"),
    ("folds", "folds", "{:.0f}"),
)


def write_quality_page(output: Path) -> Path:
    """Write qc/index.html of a prepared study, from its records, and return where it is."""
    about, records = read_about(output), ordered_records(output)
    used = [record for record in records if record["state"] == "used"]
    changes = [_change_per_year(record) for record in used]
    distances = robust_distances(changes)
    visits = []
    for record, change, distance in zip(used, changes, distances, strict=True):
        warned = {item["session"]: item["warning"] for item in record["warnings"]}
        for visit in record["visits"]:
            remarks = remarks_on(visit, change, distance)
            if visit["session"] in warned:
                remarks.append(warned[visit["session"]])
            visits.append((_badness(visit, distance) + len(remarks), record["id"], visit, change, distance, remarks))
    visits.sort(key=lambda item: (-item[0], item[1], item[2]["session"]))
    excluded = {name: person["reason"] for name, person in about["subjects"].items() if person["state"] != "used"}
    left_out = [(r["id"], item["session"], item["reason"]) for r in used for item in r["left_out"]]
    page = Template(PAGE).substitute(
        study=html.escape(about["study"]),
        used=len(used),
        visits=len(visits),
        excluded_count=len(excluded),
        to_look_at=sum(bool(item[5]) for item in visits),
        version=html.escape(about["versions"]["neuro4d_lib"]),
        settings=html.escape(json.dumps(about["settings"])),
        excluded=_list([(name, reason) for name, reason in excluded.items()]) or "<p>Nobody.</p>",
        left_out=_list([(f"{name} {session}", reason) for name, session, reason in left_out]) or "<p>None.</p>",
        pictures="\n".join(_card(output, item) for item in visits[:MOST_PICTURES]),
        shown=min(MOST_PICTURES, len(visits)),
        head="".join(f"<th>{name}</th>" for _, name, _ in _COLUMNS),
        rows="\n".join(_row(item) for item in visits),
    )
    path = output / "qc" / "index.html"
    write_whole(path, page)
    return path


def remarks_on(visit: dict[str, Any], change: float, distance: float) -> list[str]:
    """What a person should look at, in sentences."""
    remarks = []
    if visit["agreement"] < LOW_AGREEMENT:
        remarks.append(f"Agrees with the other visits by {visit['agreement']:.2f} only.")
    if visit["agreement"] < visit["agreement_before"] - 0.005:
        remarks.append("Agrees less after bending than before.")
    if visit["largest_log_jacobian"] > HIGH_LOG_JACOBIAN:
        remarks.append(
            f"Somewhere volume changes by a factor of {math.exp(visit['largest_log_jacobian']):.1f} from where the visits "
            "meet."
        )
    if visit["folds"]:
        remarks.append(f"{visit['folds']} voxels of the motion fold.")
    if abs(distance) > FAR_FROM_OTHERS:
        remarks.append(f"The brain changes by {change:+.2f} % a year, far from the others of the study.")
    return remarks


def robust_distances(values: Sequence[float]) -> list[float]:
    """How many standard deviations from the median each value lies, these estimated by the median distance."""
    if not values:
        return []
    from_median = np.asarray(values) - np.median(values)
    spread = 1.4826 * float(np.median(np.abs(from_median)))
    return [float(value) / spread if spread > 0 and len(values) >= 5 else 0.0 for value in from_median]


def _change_per_year(record: dict[str, Any]) -> float:
    """Change of brain volume per year, %, by the line through the visits."""
    years = np.array([visit["years"] for visit in record["visits"]])
    values = np.array([visit["log_whole_brain"] for visit in record["visits"]])
    centered = years - years.mean()
    return 100 * float(centered @ values / (centered @ centered))


def _badness(visit: dict[str, Any], distance: float) -> float:
    return (1 - visit["agreement"]) + visit["difference"] + visit["largest_log_jacobian"] / 2 + abs(distance) / 10


def _card(output: Path, item: tuple[Any, ...]) -> str:
    _, name, visit, change, _, remarks = item
    content = base64.b64encode((output / PICTURES / visit["picture"]).read_bytes()).decode()
    said = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    numbers = ", ".join(f"{label} {form.format(visit[key])}" for key, label, form in _COLUMNS)
    return (
        f'<article class="{"look" if remarks else ""}"><h3>{html.escape(name)} {html.escape(visit["session"])} '
        f"<small>{visit['years']:.2f} years after the first visit; brain volume {change:+.2f} % a year</small></h3>"
        f'<ul>{said}</ul><img alt="{html.escape(name)} {html.escape(visit["session"])}" '
        f'src="data:image/png;base64,{content}"><p><small>{numbers}</small></p></article>'
    )


def _row(item: tuple[Any, ...]) -> str:
    _, name, visit, change, distance, remarks = item
    cells = "".join(f'<td class="number">{form.format(visit[key])}</td>' for key, _, form in _COLUMNS)
    return (
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(visit['session'])}</td>"
        f'<td class="number">{visit["years"]:.2f}</td>{cells}<td class="number">{change:+.2f}</td>'
        f'<td class="number">{distance:+.1f}</td><td>{html.escape(" ".join(remarks))}</td></tr>'
    )


def _list(items: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(reason)}</dd>" for name, reason in items)
    return f"<dl>{rows}</dl>" if rows else ""
