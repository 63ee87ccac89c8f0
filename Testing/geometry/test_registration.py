import numpy as np
import pytest
import torch

from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry import bspline, grids, jacobian
from neuro4d_lib.geometry.deformation import exponentiate
from neuro4d_lib.geometry.registration import register, register_group
from neuro4d_lib.geometry.spaces import Grid

SPACING_MM, FACTOR = 4.0, 2
LATTICE = Grid((13, 14, 12), np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1]))
FINE = LATTICE.refined(FACTOR)
INNER = (slice(None), slice(None), slice(5, -5), slice(5, -5), slice(5, -5))


def random_control(size_mm, seed=0):
    """A smooth flow that dies out at the border: control points [3, d, h, w], mm."""
    generator = torch.Generator().manual_seed(seed)
    control = torch.zeros(1, 3, 7, 7, 6)
    control[:, :, 2:-2, 2:-2, 2:-2] = torch.randn(1, 3, 3, 3, 2, generator=generator)
    control = bspline.refine(control, 2)
    control = torch.nn.functional.pad(control, (0, 1, 0, 1))[0]
    return control * (size_mm / control.abs().max())


def flow_mm(control):
    """Displacement of exp(v) on the fine grid: [1, 3, D, H, W], mm."""
    voxel_mm = SPACING_MM / FACTOR
    return exponentiate(bspline.refine(control[None], FACTOR) / voxel_mm) * voxel_mm


def texture(displacement_mm=0.0, seed=0):
    """Sixty waves of 12 to 40 mm around a mean of 4, seen through a map without any interpolation: [1, 1, D, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    place_mm = grids.identity(FINE.shape) * (SPACING_MM / FACTOR) + displacement_mm
    image = torch.full((1, 1, *FINE.shape), 4.0)
    for _ in range(60):
        direction = torch.randn(3, generator=generator)
        wavelength_mm = 12 + 28 * torch.rand(1, generator=generator)
        wave = direction / direction.norm() * (2 * torch.pi / wavelength_mm)
        phase = 2 * torch.pi * torch.rand(1, generator=generator)
        image += 0.2 * torch.cos(torch.einsum("c,bcdhw->bdhw", wave, place_mm) + phase)[:, None]
    return image


def noisy(image, part, seed):
    return image + part * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def brighter_to_one_side(image, part):
    ramp = torch.linspace(-1, 1, image.shape[3]).view(1, 1, 1, -1, 1)
    return image * (1 + part * torch.sin(1.5 * ramp))


def box_changes(control):
    """Mean change of volume by the flow, as a part, in 18 boxes of 1 cm: [1, 1, 3, 3, 2]."""
    change = jacobian.jacobian_determinant(flow_mm(control) / (SPACING_MM / FACTOR)) - 1
    return torch.nn.functional.avg_pool3d(change[INNER], 5)


def error_mm(found, true, region=INNER):
    return (flow_mm(found) - flow_mm(true))[region].square().sum(1).sqrt().mean().item()


class TestRegister:
    @pytest.mark.parametrize("similarity", ["lncc", "ssd"])
    def test_finds_a_known_flow(self, similarity):
        true = random_control(5.0)
        fixed = texture(flow_mm(true))
        assert flow_mm(true)[INNER].square().sum(1).sqrt().mean() > 1.2
        found = register(fixed, texture(), lattice=LATTICE, similarity=similarity, regularization=1e-4)
        assert error_mm(found, true) < 0.2

    def test_lncc_does_not_mind_another_contrast(self):
        true = random_control(4.0)
        fixed = 200 + 100 * brighter_to_one_side(texture(flow_mm(true)), 0.1)
        lncc, ssd = (
            register(fixed, texture(), lattice=LATTICE, similarity=kind, regularization=1e-4)
            for kind in ("lncc", "ssd")
        )
        assert error_mm(lncc, true) < 0.35
        assert error_mm(ssd, true) > 2 * error_mm(lncc, true)

    def test_ssd_measures_a_small_change_of_volume_under_noise_and_another_coil(self):
        true = random_control(0.6, seed=3)
        fixed = brighter_to_one_side(noisy(texture(flow_mm(true)), 0.02, seed=1), 0.03)
        found = register(fixed, noisy(texture(), 0.02, seed=2), lattice=LATTICE, similarity="ssd")
        change, found_change = (box_changes(control) for control in (true, found))
        assert change.abs().max() > 0.03
        assert (found_change - change).square().mean().sqrt() < 0.01
        assert 0.85 < (change * found_change).sum() / change.square().sum() < 1.05

    def test_ssd_is_the_better_one_for_small_changes(self):
        true = random_control(0.6, seed=3)
        fixed, moving = noisy(texture(flow_mm(true)), 0.05, seed=1), noisy(texture(), 0.05, seed=2)
        lncc, ssd = (register(fixed, moving, lattice=LATTICE, similarity=kind) for kind in ("lncc", "ssd"))
        assert error_mm(ssd, true) < error_mm(lncc, true)

    @pytest.mark.parametrize("similarity", ["lncc", "ssd"])
    def test_exchanging_the_images_turns_the_motion_round(self, similarity):
        first, second = texture(flow_mm(random_control(3.0))), texture()
        there = register(first, second, lattice=LATTICE, similarity=similarity)
        back = register(second, first, lattice=LATTICE, similarity=similarity)
        assert (there + back).abs().max() < 1e-3 * there.abs().max()

    @pytest.mark.parametrize("similarity", ["lncc", "ssd"])
    def test_an_image_does_not_move_onto_itself(self, similarity):
        assert register(texture(), texture(), lattice=LATTICE, similarity=similarity).abs().max() == 0

    def test_what_lies_outside_the_mask_does_not_count(self):
        true = random_control(3.0)
        fixed = texture(flow_mm(true))
        mask = torch.ones_like(fixed)
        mask[:, :, :9] = 0
        spoiled = torch.where(mask > 0, fixed, texture(seed=7))
        region = (slice(None), slice(None), slice(12, -5), slice(5, -5), slice(5, -5))
        masked, unmasked = (
            register(spoiled, texture(), m, lattice=LATTICE, similarity="ssd", regularization=1e-4)
            for m in (mask, None)
        )
        assert error_mm(masked, true, region) < 0.6 * error_mm(unmasked, true, region)

    def test_never_folds_even_between_images_that_have_nothing_in_common(self):
        found = register(texture(seed=1), texture(seed=2), lattice=LATTICE, similarity="ssd", regularization=1e-7)
        assert found.abs().max() > 1
        assert jacobian.count_fold_failures(flow_mm(found) / (SPACING_MM / FACTOR)).failed == 0

    def test_starts_where_it_is_told_to(self):
        start = random_control(2.0)
        assert torch.equal(register(texture(), texture(), lattice=LATTICE, initial=start, iterations=(0,)), start)

    def test_more_regularization_is_smoother(self):
        fixed, moving = texture(flow_mm(random_control(4.0))), texture()
        rough, smooth = (register(fixed, moving, lattice=LATTICE, regularization=r) for r in (1e-3, 1.0))
        assert smooth.diff(n=2, dim=1).square().sum() < 0.5 * rough.diff(n=2, dim=1).square().sum()

    def test_reports_progress_to_the_end(self):
        fractions = []
        register(texture(), texture(seed=1), lattice=LATTICE, progress=lambda fraction, _: fractions.append(fraction))
        assert fractions == sorted(fractions) and fractions[-1] == 1

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"moving": torch.zeros(1, 1, 9, 9, 9)}, "shapes"),
            ({"moving": torch.ones(1, 1, *FINE.shape)}, "same everywhere"),
            ({"mask": torch.zeros(1, 1, *FINE.shape)}, "mask"),
            ({"iterations": (1, 1, 1)}, "3 resolutions"),
        ],
    )
    def test_says_what_is_wrong(self, change, message):
        images = {"fixed": texture(), "moving": texture(), "lattice": LATTICE}
        with pytest.raises(InputError, match=message):
            register(**(images | change))


@pytest.fixture(scope="module")
def motions():
    """Three motions that sum to zero: [3, 3, d, h, w], mm."""
    drawn = torch.stack([random_control(2.5, seed) for seed in range(3)])
    return drawn - drawn.mean(dim=0)


@pytest.fixture(scope="module")
def moved(motions):
    return [texture(flow_mm(-motion)) for motion in motions]


@pytest.fixture(scope="module")
def found(moved):
    return register_group(moved, lattice=LATTICE, iterations=(12, 8), regularization=1e-4).motion_mm


class TestRegisterGroup:
    def test_finds_known_motions_of_three_images(self, motions, found):
        for true, control in zip(motions, found, strict=True):
            assert flow_mm(true)[INNER].square().sum(1).sqrt().mean() > 0.4
            assert error_mm(control, true) < 0.1

    def test_the_motions_sum_to_zero(self, found):
        assert found.sum(dim=0).abs().max() < 1e-4 * found.abs().max()

    def test_no_order_is_favored(self, moved, found):
        order = [2, 0, 1]
        again = register_group([moved[n] for n in order], lattice=LATTICE, iterations=(12, 8), regularization=1e-4)
        assert (again.motion_mm - found[order]).abs().max() < 1e-3 * found.abs().max()

    @pytest.mark.parametrize("similarity", ["lncc", "ssd"])
    def test_equal_images_do_not_move(self, similarity):
        images = [texture()] * 3
        motion_mm, log_gain = register_group(images, lattice=LATTICE, similarity=similarity, iterations=(4, 4))
        assert not motion_mm.any() and not log_gain.any()

    def test_two_images_are_registered_as_a_pair_is(self, moved):
        settings = {"lattice": LATTICE, "similarity": "ssd", "iterations": (12, 8), "regularization": 1e-4}
        first, second = register_group(moved[:2], **settings).motion_mm
        pair = register(moved[0], moved[1], **settings)
        assert (second - first - pair).abs().max() < 1e-4 * pair.abs().max()
