"""The comparison from end to end, on people who take no time to make: all that changes them is their motion."""

import csv
from types import SimpleNamespace

import pytest
import torch

from neuro4d_lib.applications import representation_comparison as comparison
from neuro4d_lib.data.image_courses import IMAGE_SHAPE, MEASURED, Courses, Given
from neuro4d_lib.data.population import Population
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.representations.course_model import CourseModelConfig, load_course_model
from neuro4d_lib.representations.deformation import Deformation
from neuro4d_lib.representations.deformed_scan import DeformedScan
from neuro4d_lib.training.image_training import ImageTrainingConfig

pytestmark = pytest.mark.slow
MODEL = CourseModelConfig(widths=(8,), condition=16, steps=1)
CONFIG = comparison.ComparisonConfig(
    people=2,
    test_people=2,
    horizons=(3.0,),
    draws=1,
    model=MODEL,
    training=ImageTrainingConfig(steps=1, people=2),
)
FIELDS = 2 * torch.randn(len(DRIVEN), 3, 32, 40, 32, generator=torch.Generator().manual_seed(0))


class MovedOnly:
    """Stands for CourseSimulator: stripes, moved by the rates of the population."""

    def __init__(self, *_):
        rates = torch.eye(len(DRIVEN), dtype=torch.float64)
        self.moving = DeformedScan(Deformation.of(FIELDS, rates, torch.zeros(len(DRIVEN), 32, 40, 32)))

    def simulate(self, years, generator, progress):
        count, frames = years.shape
        people = Population().draw(count, generator)
        scan = torch.zeros(count, 1, *IMAGE_SHAPE)
        scan[:, :, 20:40, 20:40, 20:40] = 0.5 + 0.3 * torch.sin(torch.arange(20.0))
        given = Given(scan, torch.zeros(count, 3, *IMAGE_SHAPE), people.covariates, years)
        rates = people.rate[:, None].expand(-1, frames, -1)
        images = self.moving.decode(rates.float(), given).images
        shares = torch.zeros(count, len(MEASURED), *IMAGE_SHAPE)
        shares[:, :, 22:38, 22:38, 22:38] = 1
        volumes_mm3 = torch.ones(count, 1 + frames, len(MEASURED))
        return Courses(given, images, rates, torch.zeros(count, 1 + frames, *IMAGE_SHAPE), shares, volumes_mm3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "build_reference", lambda: None)
        patch.setattr(comparison, "_fields", lambda *_: SimpleNamespace(control=FIELDS))
        patch.setattr(comparison, "CourseSimulator", MovedOnly)
        text = comparison.compare(CONFIG, folder, torch.device("cpu"))
    with (folder / "representations.csv").open(encoding="utf-8") as file:
        return folder, text, list(csv.DictReader(file))


def skill(rows, method):
    (row,) = [
        row
        for row in rows
        if (row["metric"], row["method"], row["horizon_years"]) == ("change_skill_score", method, "all")
    ]
    return float(row["value"])


def test_the_true_motion_explains_what_only_moves_and_copying_nothing(run):
    assert skill(run[2], "true_motion") == pytest.approx(1, abs=1e-4)
    assert skill(run[2], "copy_last") == 0
    assert skill(run[2], "group_rate") < 0.9


def test_every_representation_is_in_every_table(run):
    text = run[1]
    for method in ("deformation", "intensity", "deformation_residual", *comparison.SIMPLE):
        assert text.count(f"| {method} |") == 3 + (method not in comparison.SIMPLE)
    assert "2 to learn from, 2 others to forecast 3 years from one scan" in text
    assert not list(run[0].glob("*.part"))


def test_the_weights_can_be_loaded(run):
    for name in ("deformation", "intensity", "deformation_residual"):
        assert load_course_model(run[0] / f"{name}.safetensors", name, MODEL).representation.channels > 0
