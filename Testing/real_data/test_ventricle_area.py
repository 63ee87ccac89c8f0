"""The measured area against one that is known: two ellipses in a disc."""

import numpy as np
import pytest
from ventricle_area import PIXEL_MM, ventricle_area_mm2


def drawn(width_mm: float, noise: float, seed: int = 0) -> tuple[np.ndarray, float]:
    """A slice with two ventricles of such a half width, and their area in mm2."""
    x, y = np.meshgrid(*(np.arange(n) * PIXEL_MM - n * PIXEL_MM / 2 for n in (207, 256)), indexing="ij")
    slice_ = np.full(x.shape, 17.0)
    slice_[np.hypot(x / 66, y / 82) < 1] = 100
    slice_[np.hypot(x / 55, y / 70) < 1] = 130
    area = 0.0
    for side in (-1, 1):
        slice_[np.hypot((x - 12 * side) / width_mm, y / 24) < 1] = 45
        area += np.pi * width_mm * 24
    blurred = slice_ + noise * np.random.default_rng(seed).standard_normal(slice_.shape)
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8), area


@pytest.mark.parametrize("width_mm", [5, 7, 10])
@pytest.mark.parametrize("noise", [0, 4])
def test_area(width_mm, noise):
    slice_, area = drawn(width_mm, noise)
    assert ventricle_area_mm2(slice_) == pytest.approx(area, rel=0.05)


def test_a_growth_of_ten_percent_is_seen():
    before, after = (ventricle_area_mm2(drawn(width, 4, seed)[0]) for seed, width in enumerate((7, 7.7)))
    assert after / before == pytest.approx(1.1, abs=0.02)


def test_no_ventricle_in_even_tissue():
    slice_, _ = drawn(1e-6, 0)
    assert np.isnan(ventricle_area_mm2(slice_))
