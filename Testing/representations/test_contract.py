"""What every representation promises, and what each adds."""

import pytest
import torch

from neuro4d_lib.representations.base import channels_to_space, space_to_channels
from neuro4d_lib.representations.course_model import REPRESENTATIONS
from neuro4d_lib.representations.deformed_scan import warp_sharply

# The share of the change that decode(encode()) may lose, as a root mean square: deformation reads the scan at 2.6 mm
# between voxels, and makes up no dark spot.
TOLERANCE = {"deformation": 0.12, "intensity": 1e-5, "deformation_residual": 1e-5}


@pytest.fixture(params=sorted(REPRESENTATIONS))
def name(request):
    return request.param


@pytest.fixture
def representation(name, fields, courses):
    return REPRESENTATIONS[name](fields, courses)


def lost(decoded, courses):
    """Root mean square error of frames, as a share of that of copying the scan."""
    change = courses.frames - courses.given.scan[:, None]
    return float(((decoded.images - courses.frames).square().sum() / change.square().sum()).sqrt())


class TestEveryRepresentation:
    def test_decode_undoes_encode(self, name, representation, make_courses):
        """Of people it has not seen; the frames are a formula, moved."""
        rates = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(1))
        others = make_courses(rates, torch.tensor([[0.5, 4.0]]))
        assert lost(representation.decode(representation.encode(others), others.given), others) < TOLERANCE[name]

    def test_zero_is_the_scan(self, representation, courses):
        numbers = torch.zeros_like(representation.encode(courses))
        decoded = representation.decode(numbers, courses.given)
        assert torch.allclose(decoded.images, courses.given.scan[:, None].expand_as(courses.frames), atol=1e-5)

    def test_noise_of_size_one_is_a_field_of_size_one(self, representation):
        count = len(representation.weights())
        noise = torch.randn(2, 3, count, generator=torch.Generator().manual_seed(0))
        field = representation.as_field(noise)
        assert field.shape == (2, 3, representation.channels, 32, 40, 32)
        assert float(field.std()) == pytest.approx(1, abs=0.15)

    def test_the_field_holds_all_numbers(self, representation):
        """Read back, each part by one factor: what the network predicts is of size one, the numbers may be smaller."""
        noise = torch.randn(1, 1, len(representation.weights()), generator=torch.Generator().manual_seed(0))
        back = representation.from_field(representation.as_field(noise))
        factor = back / noise
        for value in (factor[..., 0], factor[..., -1]):
            same = torch.isclose(factor, value[..., None], rtol=1e-2)
            assert bool(same[..., 0] | same[..., -1])
        assert torch.unique((factor * 1e3).round()).numel() <= 2


class TestDeformation:
    def test_moves_by_rate_and_years_and_shape_of_the_person(self, fields, courses):
        """psi enlarges by 1.1: the motion in the person's space is smaller by that."""
        deformation = REPRESENTATIONS["deformation"](fields, courses)
        decoded = deformation.decode(deformation.encode(courses), courses.given)
        expected = courses.rates * courses.given.years[..., None] / 2.625 / 1.1
        middle = decoded.displacement_vox[..., 20:43, 25:53, 20:43].mean(dim=(-3, -2, -1))
        assert torch.allclose(-middle, expected, atol=0.02)

    def test_reading_between_voxels_does_not_blur(self, courses):
        """There and back by half a voxel: a cubic spline loses less than half of what linear interpolation does."""
        from neuro4d_lib.geometry.grids import warp

        scan = courses.given.scan[:1]
        half = torch.full((1, 3, *scan.shape[2:]), 0.5)

        def error(pull):
            return float((pull(pull(scan, half), -half) - scan)[..., 3:-3, 3:-3, 3:-3].square().mean().sqrt())

        assert error(warp_sharply) < 0.5 * error(warp)


class TestIntensity:
    def test_numbers_are_of_the_stated_size_inside_the_brain_and_weighted_up_to_one(self, fields, courses):
        intensity = REPRESENTATIONS["intensity"](fields, courses)
        inside = (courses.given.scan > 0.05).flatten(1)[:, None].expand(-1, 2, -1)
        numbers = intensity.encode(courses)
        assert float(numbers[inside].square().mean().sqrt()) == pytest.approx(intensity.size, rel=0.02)
        assert float((numbers.square() * intensity.weights())[inside].mean()) == pytest.approx(1, rel=0.04)


class TestResidual:
    def test_is_what_motion_cannot_make(self, fields, courses):
        """The dark spot is missing in the deformation, and in the residual."""
        one = courses.chosen([0])
        both = REPRESENTATIONS["deformation_residual"](fields, one)
        full = both.decode(both.encode(one), one.given)
        moved = both.motion.decode(both.motion.encode(one), one.given)
        spot = (..., slice(30, 33), slice(45, 48), slice(30, 33))
        dark = (full.images - moved.images)[:, 1][spot].mean()
        assert float(dark) == pytest.approx(-0.05 * 3, abs=0.02)
        assert torch.equal(full.displacement_vox, moved.displacement_vox)

    def test_motion_and_residual_count_the_same_however_many_numbers_they_are(self, fields, courses):
        both = REPRESENTATIONS["deformation_residual"](fields, courses.chosen([0]))
        weights = both.weights()
        shares = (weights[:3].sum() / len(weights), weights[3:].sum() / len(weights))
        alone = (both.motion.weights().mean(), both.residual.weights().mean())
        assert torch.allclose(torch.stack(shares), torch.stack(alone) / 2, rtol=1e-3)


class TestSpaceToChannels:
    def test_gathers_the_eight_neighbors_of_each_point_of_the_lattice(self):
        images = torch.randn(2, 1, 63, 79, 63)
        channels = space_to_channels(images)
        assert channels.shape == (2, 8, 32, 40, 32)
        assert torch.equal(channels[:, 0], images[:, 0, ::2, ::2, ::2])
        assert torch.equal(channels[:, 4, :31], images[:, 0, 1::2, ::2, ::2])
        assert torch.equal(channels[:, 1, ..., :31], images[:, 0, ::2, ::2, 1::2])

    def test_is_undone(self):
        images = torch.randn(2, 3, 1, 63, 79, 63)
        assert torch.equal(channels_to_space(space_to_channels(images)), images)
