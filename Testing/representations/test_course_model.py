"""One small model for every representation: it predicts nothing untrained, learns a known change, and is repeatable."""

import pytest
import torch
from safetensors.torch import save_file

from neuro4d_lib.errors import InputError
from neuro4d_lib.representations.course_model import (
    REPRESENTATIONS,
    CourseModel,
    CourseModelConfig,
    load_course_model,
)
from neuro4d_lib.representations.deformation_residual import DeformationResidual
from neuro4d_lib.representations.deformed_scan import DeformedScan
from neuro4d_lib.representations.intensity import Intensity
from neuro4d_lib.training.image_training import ImageTrainingConfig, train_courses

SMALL = CourseModelConfig(widths=(8,), condition=16, steps=2)
CPU = torch.device("cpu")
KINDS = {"deformation": DeformedScan, "intensity": Intensity, "deformation_residual": DeformationResidual}


@pytest.fixture(scope="module")
def alike(make_courses):
    """Everybody changes in the same way, at the same rate; two to learn from, one to forecast."""
    rates = torch.tensor([[[0.5, 1.0, -0.5]]]).repeat(3, 1, 1)
    return make_courses(rates, torch.tensor([[2.0], [3.0], [4.0]]), spot=0.05)


@pytest.fixture(params=sorted(REPRESENTATIONS))
def representation(request, fields, alike):
    torch.manual_seed(0)
    return REPRESENTATIONS[request.param](fields, alike.chosen([0, 1]))


def skill(decoded, courses):
    change = courses.frames - courses.given.scan[:, None]
    return 1 - float((decoded.images - courses.frames).square().sum() / change.square().sum())


class TestCourseModel:
    def test_untrained_it_forecasts_no_change(self, representation, alike):
        model = CourseModel(representation, SMALL)
        numbers = model.forecast(alike.chosen([2]).given, 1, torch.Generator().manual_seed(0))
        assert not numbers.any()

    def test_learns_what_everybody_does(self, representation, alike):
        """At years it has not seen: half or more of the change, where copying the scan has 0."""
        model = CourseModel(representation, SMALL)
        config = ImageTrainingConfig(steps=60, people=2, learning_rate=5e-3, decay=0.8)
        trained = train_courses(model, alike.chosen([0, 1]), config, CPU)
        other = alike.chosen([2])
        numbers = trained.model.forecast(other.given, 2, torch.Generator().manual_seed(0)).mean(dim=0)
        assert skill(representation.decode(numbers, other.given), other) > 0.5
        assert sum(trained.losses[-5:]) < 0.5 * sum(trained.losses[:5])

    def test_stored_and_loaded_it_forecasts_the_same(self, representation, alike, tmp_path):
        model = CourseModel(representation, SMALL)
        with torch.no_grad():
            for parameter in model.unet.head.parameters():
                parameter.normal_(std=0.1)
        name = next(key for key, kind in KINDS.items() if type(representation) is kind)
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "weights")
        loaded = load_course_model(tmp_path / "weights", name, SMALL, modes=3)
        given = alike.chosen([2]).given
        first, second = (m.forecast(given, 1, torch.Generator().manual_seed(0)) for m in (model, loaded))
        assert first.any() and torch.equal(first, second)
        frames = (model.representation.decode(first[0], given), loaded.representation.decode(second[0], given))
        assert torch.equal(frames[0].images, frames[1].images)

    def test_weights_of_another_model_are_named(self, tmp_path):
        save_file({"a": torch.zeros(1)}, tmp_path / "weights")
        with pytest.raises(InputError, match="does not hold the weights of a model of intensity"):
            load_course_model(tmp_path / "weights", "intensity", SMALL)
        with pytest.raises(InputError, match="There is no file"):
            load_course_model(tmp_path / "none", "intensity", SMALL)


class TestTraining:
    def trained(self, fields, alike, seed=0):
        torch.manual_seed(seed)
        model = CourseModel(REPRESENTATIONS["deformation"](fields, alike), SMALL)
        return train_courses(model, alike, ImageTrainingConfig(steps=3, people=2, seed=seed), CPU)

    def test_the_same_seed_gives_the_same_losses_and_weights(self, fields, alike):
        first, again, other = (self.trained(fields, alike, seed) for seed in (1, 1, 2))
        assert first.losses == again.losses != other.losses
        for one, two in zip(first.model.parameters(), again.model.parameters(), strict=True):
            assert torch.equal(one, two)

    def test_a_loss_that_is_no_number_names_the_people(self, fields, make_courses):
        courses = make_courses(torch.full((1, 1, 3), 0.5), torch.tensor([[2.0]]))
        courses.frames[0, 0, 0, 30, 30, 30] = float("nan")
        representation = REPRESENTATIONS["intensity"](fields, courses)
        with pytest.raises(FloatingPointError, match=r"step 0 is not finite \(people \[0\], seed 0\)"):
            train_courses(CourseModel(representation, SMALL), courses, ImageTrainingConfig(steps=2, people=1), CPU)


class TestLoss:
    def test_counts_each_number_by_its_weight(self):
        """Against a network that always says 0: the loss is the weighted mean square of the clean numbers."""
        from neuro4d_lib.diffusion.denoiser import Denoiser
        from neuro4d_lib.diffusion.schedules import cosine

        denoiser = Denoiser(lambda x, t, condition: torch.zeros_like(x), cosine, prediction="sample")
        clean, weights = torch.randn(3, 2, 4), torch.tensor([1.0, 0.0, 10.0, 0.5])
        expected = (clean.square() * weights).flatten(1).mean(1)
        assert torch.allclose(denoiser.loss(clean, None, weights=weights), expected)
        assert torch.allclose(denoiser.loss(clean, None), clean.square().flatten(1).mean(1))
