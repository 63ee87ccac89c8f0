"""The simulated population as a page: its rates by region and diagnosis, and every other assumption with its source."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from neuro4d_lib.data.population import Population
from neuro4d_lib.data.population_volumes import PopulationVolumes
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.reference import Reference

SUMS = ("cortex", "whole_brain")
_OWN_TABLES = ("rates",)


def render_population(population: Population, reference: Reference) -> str:
    """Markdown: a table of rates, mean (SD between people) in % per year, and a list of the other settings."""
    return f"{_rates(population, reference)}\n\n{_settings(population)}"


def _rates(population: Population, reference: Reference) -> str:
    lines = [f"| region | {' | '.join(DIAGNOSES)} | source |", "|---" * (len(DIAGNOSES) + 2) + "|"]
    for name, rate in population.config.rates.items():
        cells = [f"{mean:+.2f} ({sd:.2f})" for mean, sd in zip(rate.mean, rate.sd, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} | {rate.source} |")
    shares = PopulationVolumes(population, reference).shares(SUMS)
    for name, share in zip(SUMS, shares, strict=True):
        means = population.mean_rate @ share
        spreads = population.rate_sd * share
        sds = torch.einsum("dr,rs,ds->d", spreads, population.correlation, spreads).sqrt()
        cells = [f"{100 * float(mean):+.2f} ({100 * float(sd):.2f})" for mean, sd in zip(means, sds, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} | sum of its regions, to first order |")
    return "\n".join(lines)


def _settings(population: Population) -> str:
    lines = ["| setting | value | meaning | source |", "|---|---|---|---|"]
    return "\n".join(lines + _rows(population.config, ""))


def _rows(settings: Any, where: str) -> list[str]:
    """A line for each field, those of nested settings by their place, such as `lesions.new_per_year`."""
    lines = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in _OWN_TABLES:
            continue
        if dataclasses.is_dataclass(value):
            lines += _rows(value, f"{where}{field.name}.")
            continue
        text = f"{_text(value)} | {field.metadata['help']} | {field.metadata['source']}"
        lines.append(f"| `{where}{field.name}` | {text} |")
    return lines


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, tuple):
        inner = any(isinstance(item, tuple) for item in value)
        return ("; " if inner else ", ").join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
