"""Every setting of a design, with its default and what it means, as Markdown."""

from __future__ import annotations

import dataclasses

from neuro4d_lib.applications.trials.design import Arm, Biomarker, Cost, Criteria, Optimization, Range, TrialDesign

_TABLES = {
    "At the top": TrialDesign,
    "`[criteria]`": Criteria,
    "A range, such as `{ min = 55, max = 85 }`": Range,
    "`[[arms]]`": Arm,
    "`[biomarkers.NAME]`": Biomarker,
    "`[optimization]`": Optimization,
    "`[optimization.cost]`": Cost,
}
_BELOW = {"criteria", "arms", "biomarkers", "optimization", "cost"}


def render_settings() -> str:
    parts = []
    for heading, kind in _TABLES.items():
        lines = [f"{heading}:", "", "| setting | default | meaning |", "|---|---|---|"]
        for field in dataclasses.fields(kind):
            if field.name not in _BELOW:
                lines.append(f"| `{field.name}` | {_default(field)} | {field.metadata['help']} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _default(field: dataclasses.Field[object]) -> str:
    value = field.default
    if value is dataclasses.MISSING or value is None or value in ("", ()) or isinstance(value, Range):
        return ""
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
