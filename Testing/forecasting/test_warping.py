import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.data.records import Image
from neuro4d_lib.forecasting.warping import WarpedImage
from neuro4d_lib.geometry.deformation import exponentiate
from neuro4d_lib.geometry.grids import warp

CPU = torch.device("cpu")


def image(array):
    return Image(array, np.eye(4), array.dtype)


def still(shape):
    return torch.zeros(1, 3, *shape)


def bend(shape, size=1.0):
    """A smooth motion and its inverse, [1, 3, D, H, W] voxels."""
    coarse = size * torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    velocity = torch.nn.functional.interpolate(coarse, shape, mode="trilinear", align_corners=True)
    return exponentiate(velocity), exponentiate(-velocity)


class TestWarpedImage:
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
    def test_a_map_that_moves_nothing_gives_the_image_back_bit_for_bit(self, dtype):
        array = (np.random.default_rng(0).random((9, 11, 10)) * 250).astype(dtype)
        pulled = WarpedImage(image(array), CPU).pulled(still(array.shape))
        assert pulled.dtype == array.dtype
        np.testing.assert_array_equal(pulled, array)

    def test_a_shift_by_whole_voxels_moves_the_values(self, scan):
        shift = still(scan.array.shape)
        shift[:, 0], shift[:, 2] = 2, -1
        pulled = WarpedImage(scan, CPU).pulled(shift)
        np.testing.assert_array_equal(pulled[:-2, :, 1:], scan.array[2:, :, :-1])

    def test_makes_no_values_that_are_not_around(self):
        array = np.zeros((16, 16, 16), np.uint8)
        array[6:11, 5:12, 6:10] = 255
        pulled = WarpedImage(image(array), CPU).pulled(bend(array.shape, 0.6)[0])
        assert not pulled[:3].any() and not pulled[14:].any()
        assert pulled.max() == 255  # no overshoot wraps around

    def test_loses_a_third_as_much_on_the_way_there_and_back_as_linear_interpolation(self):
        array = np.sin(np.indices((40, 44, 42)) * np.reshape([1.1, 0.9, 1.0], (3, 1, 1, 1))).prod(axis=0)
        array = array.astype(np.float32)
        there, back = bend(array.shape)
        cubic = WarpedImage(image(WarpedImage(image(array), CPU).pulled(there)), CPU).pulled(back)
        linear = warp(warp(torch.as_tensor(array)[None, None], there), back)[0, 0].numpy()

        def error(values):
            return np.sqrt(np.mean(np.square(values - array)[4:-4, 4:-4, 4:-4]))

        assert error(cubic) < error(linear) / 3

    def test_whole_numbers_at_the_end_of_their_range_do_not_wrap_around(self):
        array = np.full((6, 6, 6), np.iinfo(np.int32).max, np.int32)
        array[:3] = np.iinfo(np.int32).min
        pulled = WarpedImage(image(array), CPU).pulled(still(array.shape) + 0.25)
        assert pulled[0, 2, 2] == np.iinfo(np.int32).min and pulled[5, 2, 2] == np.iinfo(np.int32).max


def test_type_and_scaling_are_the_images_own(scan):
    moved = WarpedImage(dataclasses.replace(scan), CPU).pulled(still(scan.array.shape) + 0.3)
    assert moved.dtype == scan.dtype
    assert scan.array.min() <= moved.min() and moved.max() <= scan.array.max()
