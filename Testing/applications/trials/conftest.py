"""Designs that are simulated in a second."""

import pytest

from neuro4d_lib.applications.trials.design import Arm, Biomarker, Criteria, TrialDesign
from neuro4d_lib.applications.trials.law import law_of

DESIGN = """\
title = "A small trial"
seed = 3
trials = 60
people_per_arm = 30
most_people_per_arm = 60
visits_years = [0, 0.5, 1]

[criteria]
diagnoses = ["AD"]

[[arms]]
name = "placebo"

[[arms]]
name = "drug"
slowing = { whole_brain = 0.5 }

[biomarkers]
hippocampus = {}
"""


@pytest.fixture
def design_file(tmp_path):
    """Writes a design: the small one, with replacements."""

    def write(**replaced):
        text = DESIGN
        for old, new in replaced.get("change", {}).items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "design.toml"
        path.write_text(text + replaced.get("more", ""), encoding="utf-8")
        return path

    return write


@pytest.fixture
def law():
    """A law of a design of two arms, with settings of `TrialDesign` replaced."""

    def make(treated=None, **settings):
        arms = (Arm(name="control"), treated or Arm(name="treated", slowing={"whole_brain": 0.5}))
        values = {
            "trials": 50,
            "people_per_arm": 30,
            "criteria": Criteria(diagnoses=("AD",)),
            "arms": arms,
            "biomarkers": {"hippocampus": Biomarker(), "lateral_ventricle": Biomarker()},
        }
        return law_of(TrialDesign(**{**values, **settings}))

    return make
