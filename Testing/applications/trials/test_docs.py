"""The page on trials shows the settings there are, and an example that can be simulated."""

from pathlib import Path

from neuro4d_lib.applications.trials.design_file import read_design
from neuro4d_lib.applications.trials.design_table import render_settings

ROOT = Path(__file__).parents[3]


def test_every_setting_stands_in_the_page_as_printed():
    page = (ROOT / "docs" / "trials.md").read_text(encoding="utf-8")
    assert render_settings() in page


def test_the_example_is_a_design():
    design, _ = read_design(ROOT / "docs" / "examples" / "trial_ad.toml")
    assert len(design.arms) == 2 and design.optimization is not None
