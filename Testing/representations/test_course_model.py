"""One small model for every representation: it predicts nothing untrained, learns a known change, and is repeatable."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from neuro4d_lib.data.image_courses import Given
from neuro4d_lib.data.population_config import ScannerSettings
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
from neuro4d_lib.training.image_training import ImageTrainingConfig, augmented, train_courses

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

    def test_untrained_it_forecasts_the_mean_of_people_alike(self, representation, alike):
        """Half the people change twice as much, and are ill: ridge regression takes a little of the difference away."""
        given = alike.chosen([0]).given
        numbers = representation.encode(alike.chosen([0]))
        people = torch.cat([numbers, 2 * numbers] * 10)
        covariates = given.covariates.repeat(20, 1)
        covariates[1::2, 4] = 2
        model = CourseModel(representation, SMALL)
        model.fit_mean(people, covariates)
        covariates[1, :4] = float("nan")
        for i, factor in ((0, 1.05), (1, 1.95)):
            one = dataclasses.replace(given, covariates=covariates[i : i + 1])
            found = model.forecast(one, 1, torch.Generator().manual_seed(0))[0]
            torch.testing.assert_close(found, factor * numbers, rtol=0.02, atol=1e-6)

    def test_learns_what_everybody_does(self, representation, alike):
        """At years it has not seen: half or more of the change, where copying the scan has 0."""
        model = CourseModel(representation, SMALL)
        config = ImageTrainingConfig(steps=60, people=2, learning_rate=5e-3, decay=0.8, regression=False)
        trained = train_courses(model, alike.chosen([0, 1]), config, CPU)
        other = alike.chosen([2])
        numbers = trained.model.forecast(other.given, 2, torch.Generator().manual_seed(0)).mean(dim=0)
        assert skill(representation.decode(numbers, other.given), other) > 0.5
        assert sum(trained.losses[-5:]) < 0.5 * sum(trained.losses[:5])
        at_once = train_courses(
            CourseModel(representation, SMALL), alike.chosen([0, 1]), ImageTrainingConfig(steps=1), CPU
        )
        numbers = at_once.model.forecast(other.given, 1, torch.Generator().manual_seed(0))[0]
        assert skill(representation.decode(numbers, other.given), other) > 0.5

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

    def test_keeps_the_weights_that_do_best_on_people_held_out(self, fields, make_courses):
        """Three people who change alike, and a fourth who does the opposite: training can only do harm, so nothing is kept."""
        rates = torch.tensor([[[0.5, 1.0, -0.5]]]).repeat(4, 1, 1)
        rates[3] *= -1
        courses = make_courses(rates, torch.full((4, 1), 3.0))
        config = ImageTrainingConfig(
            steps=60, people=2, learning_rate=5e-3, held_out=1, validate_every=2, patience=3, regression=False
        )
        model = CourseModel(REPRESENTATIONS["deformation"](fields, courses), SMALL)
        trained = train_courses(model, courses, config, CPU)
        assert len(trained.losses) == 6 and min(trained.held_out, key=trained.held_out.get) == 0
        assert not trained.model.unet.head.weight.any()

    def test_a_loss_that_is_no_number_names_the_people(self, fields, make_courses):
        courses = make_courses(torch.full((1, 1, 3), 0.5), torch.tensor([[2.0]]))
        courses.frames[0, 0, 0, 30, 30, 30] = float("nan")
        representation = REPRESENTATIONS["intensity"](fields, courses)
        with pytest.raises(FloatingPointError, match=r"step 0 is not finite \(people \[0\], seed 0\)"):
            train_courses(CourseModel(representation, SMALL), courses, ImageTrainingConfig(steps=2, people=1), CPU)


class TestAugmentation:
    @pytest.fixture
    def given(self, alike):
        return alike.given

    def seen(self, given, **changes):
        nothing = {"hidden": 0.0, "scanned": 0.0, "years_jitter": 0.0}
        return augmented(given, ImageTrainingConfig(**{**nothing, **changes}), torch.Generator().manual_seed(0))

    def test_of_nothing_changes_nothing(self, given):
        seen = self.seen(given)
        assert all(torch.equal(getattr(seen, name), getattr(given, name)) for name in ("scan", "covariates", "years"))

    def test_scans_have_the_noise_of_the_scanner_and_air_stays_black(self, given):
        scanner = ScannerSettings(noise=0.05, shading=0.0, contrast=0.0)
        seen = self.seen(given, scanned=1.0, scanner=scanner)
        bright = given.scan > 0.5
        assert (seen.scan - given.scan)[bright].std() == pytest.approx(0.05, rel=0.1)
        assert seen.scan[given.scan == 0].abs().sum() == 0 and torch.equal(seen.shape_vox, given.shape_vox)

    def test_years_are_stretched_together_and_covariates_hidden(self, given):
        many = Given(
            *(
                getattr(given, name).repeat_interleave(200, dim=0)
                for name in ("scan", "shape_vox", "covariates", "years")
            )
        )
        few = Given(
            many.scan[..., :1, :1, :1], many.shape_vox[..., :1, :1, :1], many.covariates, many.years.repeat(1, 2)
        )
        seen = self.seen(few, hidden=0.3, years_jitter=0.1)
        stretch = (seen.years / few.years).log()
        assert stretch.std() == pytest.approx(0.1, rel=0.15) and torch.allclose(stretch[:, 0], stretch[:, 1], atol=1e-6)
        assert float(torch.isnan(seen.covariates).float().mean()) == pytest.approx(0.3, abs=0.04)


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
