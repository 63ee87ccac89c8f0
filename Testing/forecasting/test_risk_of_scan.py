"""Risk from a forecast of a scan: chances from its futures, centiles at the size of the reference's head."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from neuro4d_lib.applications.risk.assessment import assess_forecast
from neuro4d_lib.applications.risk.report import write_assessment
from neuro4d_lib.applications.risk.thresholds import checked_thresholds
from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.errors import InputError


@pytest.fixture(scope="module")
def reference():
    return Reference.load(SHIPPED)


def assess(forecast, texts, reference):
    return assess_forecast(forecast, checked_thresholds(texts), 4.0, Population(), reference)


def test_chances_are_those_of_the_futures(example, reference):
    (crossing,) = assess(example, ["left_hippocampus < -5%"], reference).crossings
    region = example.volumes.names.index("left_hippocampus")
    changes = np.log(example.volumes.futures_mm3[:, :, region] / example.volumes.baseline_mm3[region])
    draws = len(changes)
    scale = changes.std(axis=0, ddof=1) * np.sqrt(1 + 1 / draws)
    expected = stats.t.cdf((np.log(0.95) - changes.mean(axis=0)) / scale, draws - 1)
    assert np.allclose(crossing.person, expected) and crossing.years.tolist() == [1, 4]
    assert (crossing.person[1] > crossing.person[0]) and (crossing.group > 0).all() and (crossing.group < 1).all()


def test_a_larger_head_makes_the_same_volume_a_lower_centile(example, reference):
    """The scan in a space that is shrunk to the reference: the head was larger, so its regions are smaller for it."""
    shrunk = dataclasses.replace(example)
    aligned = type(example.aligned)(
        **{**vars(example.aligned), "affine": np.diag([0.97, 0.97, 0.97, 1]) @ example.aligned.affine}
    )
    object.__setattr__(shrunk, "aligned", aligned)
    as_is, larger = (assess(one, [], reference).courses for one in (example, shrunk))
    assert all(b.centile <= a.centile for a, b in zip(as_is, larger, strict=True))
    assert any(b.centile < a.centile for a, b in zip(as_is, larger, strict=True))
    assert np.allclose(larger[0].curves_mm3, as_is[0].curves_mm3 / 0.97**3)


def test_refuses_what_the_scan_does_not_show_or_has_crossed(example, reference):
    with pytest.raises(InputError, match="does not show"):
        assess(example, ["cerebellum < -5%"], reference)  # the small head ends above it
    with pytest.raises(InputError, match="crossed already"):
        assess(example, ["left_hippocampus < 1 %"], reference)


def test_files_say_how_it_was_made(example, reference, tmp_path):
    assessment = assess(example, ["left_hippocampus < -5%"], reference)
    files = write_assessment(assessment, tmp_path / "out", {"seed": example.seed})
    assert set(files) == {path.name for path in (tmp_path / "out").iterdir()}
    made = json.loads((tmp_path / "out" / "risk.json").read_text(encoding="utf-8"))
    assert made["made"]["seed"] == example.seed and "not advice" in made["notice"]
    assert {plan["region"] for plan in made["next_scan"]} >= {"left_hippocampus"}
