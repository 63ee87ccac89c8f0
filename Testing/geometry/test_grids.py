import numpy as np
import pytest
import torch

from neuro4d_lib.geometry import grids
from neuro4d_lib.geometry.spaces import Grid, canonical


def linear_image(shape):
    """1 + 2 i + 3 j - k: linear interpolation is exact on it."""
    i, j, k = grids.identity(shape)[0]
    return (1 + 2 * i + 3 * j - k)[None, None]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


class TestSample:
    def test_linear_interpolation_knows_its_axes(self):
        image = linear_image((5, 6, 7))
        place = torch.tensor([1.5, 2.25, 3.0]).view(1, 3, 1, 1, 1)
        assert grids.sample(image, place).item() == pytest.approx(1 + 3 + 6.75 - 3, abs=1e-5)

    def test_nearest_takes_labels_as_they_are(self):
        image = linear_image((5, 6, 7))
        place = torch.tensor([1.4, 2.4, 2.6]).view(1, 3, 1, 1, 1)
        assert grids.sample(image, place, "nearest").item() == image[0, 0, 1, 2, 3]

    def test_outside_is_border_or_zero(self):
        image = linear_image((5, 6, 7))
        place = torch.tensor([-9.0, 0, 0]).view(1, 3, 1, 1, 1)
        assert grids.sample(image, place).item() == image[0, 0, 0, 0, 0]
        assert grids.sample(image, place, padding="zeros").item() == 0

    @pytest.mark.parametrize("images, maps", [(1, 1), (1, 2), (2, 1), (2, 2)])
    @pytest.mark.parametrize("depth", [4, 5])
    def test_either_batch_may_be_one(self, images, maps, depth, generator):
        image = torch.rand(images, 2, 5, 6, 7, generator=generator)
        places = torch.rand(maps, 3, depth, 2, 3, generator=generator) * 5
        values = grids.sample(image, places)
        for b in range(2):
            alone = grids.sample(image[b % images, None], places[b % maps, None])
            assert torch.allclose(values[b % max(images, maps)], alone[0], atol=1e-6)


class TestWarp:
    def test_pulls(self):
        image = torch.zeros(1, 1, 5, 5, 5)
        image[0, 0, 3, 2, 2] = 1
        shift = torch.zeros(1, 3, 5, 5, 5)
        shift[:, 0] = 1
        assert grids.warp(image, shift)[0, 0, 2, 2, 2].item() == pytest.approx(1, abs=1e-5)

    def test_slabs_change_nothing(self, monkeypatch, generator):
        image, field = torch.rand(1, 1, 9, 8, 7, generator=generator), torch.randn(1, 3, 9, 8, 7, generator=generator)
        whole = grids.warp(image, field)
        monkeypatch.setattr(grids, "SLAB_VOXELS", 120)
        assert torch.equal(grids.warp(image, field), whole)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float16, torch.float64])
    def test_keeps_the_type(self, dtype):
        image = (linear_image((5, 6, 7)) + 10).to(dtype)
        warped = grids.warp(image, torch.zeros(1, 3, 5, 6, 7), "nearest")
        assert warped.dtype == dtype and torch.equal(warped, image)

    def test_is_differentiable(self, generator):
        image = torch.rand(1, 1, 5, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        field = torch.rand(1, 3, 5, 4, 4, generator=generator, dtype=torch.float64) * 0.8 + 0.1
        assert torch.autograd.gradcheck(grids.warp, (image, field.requires_grad_()))


class TestResample:
    def test_keeps_places(self):
        from_grid = Grid((8, 9, 10), np.diag([2.0, 2, 2, 1]))
        affine = np.diag([1.0, 3, 1.5, 1])
        affine[:3, 3] = 2, 1, 3
        to_grid = Grid((5, 4, 6), affine)
        image = linear_image(from_grid.shape)
        i, j, k = grids.identity(to_grid.shape)[0]
        expected = 1 + (i + 2) + 1.5 * (3 * j + 1) - (1.5 * k + 3) / 2
        assert torch.allclose(grids.resample(image, from_grid, to_grid)[0, 0], expected, atol=1e-4)

    def test_agrees_with_reordering_the_axes(self, generator):
        stored = torch.rand(4, 5, 6, generator=generator).numpy()
        affine = np.array([[0, 0, -1, 5], [1, 0, 0, -3], [0, -1, 0, 2], [0, 0, 0, 1.0]])
        array, array_affine, _ = canonical(stored, affine)
        image = torch.from_numpy(stored.copy())[None, None]
        resampled = grids.resample(image, Grid(stored.shape, affine), Grid(array.shape, array_affine))
        assert np.allclose(resampled[0, 0].numpy(), array, atol=1e-5)
