import io

import numpy as np
import pytest

from neuro4d_lib.data.png import png
from neuro4d_lib.forecasting.slices import Slices


@pytest.fixture
def places(scan):
    """R, A, S of every voxel of the scan, mm."""
    corner = scan.affine[:3, 3][:, None, None, None]
    return np.tensordot(scan.affine[:3, :3], np.indices(scan.array.shape), 1) + corner


def shown(scan, aligned, values, plane):
    """A picture of any values, by way of the change map, which is not windowed."""
    slices = Slices(scan, aligned.labels)
    slices.add(1, scan.array, values.astype(np.float32))
    return slices.frames[0][1][plane].change_percent


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_the_persons_right_is_on_the_left(scan, aligned, places, plane):
    picture = shown(scan, aligned, places[0], plane)
    assert (np.diff(picture, axis=1) < 0).all()


def test_front_or_top_is_above(scan, aligned, places):
    assert (np.diff(shown(scan, aligned, places[1], "axial"), axis=0) < 0).all()
    assert (np.diff(shown(scan, aligned, places[2], "coronal"), axis=0) < 0).all()


def test_planes_go_through_the_structures(scan, aligned, places):
    assert shown(scan, aligned, places[2], "axial").mean() == pytest.approx(18, abs=4)
    assert np.median(shown(scan, aligned, places[1], "coronal")) == pytest.approx(-22, abs=6)


def test_all_frames_have_one_scale_of_gray(scan, aligned):
    slices = Slices(scan, aligned.labels)
    slices.add(0, scan.array)
    slices.add(1, (scan.array * 0.5).astype(np.int16))
    first, second = (cut["axial"].gray for _, cut in slices.frames)
    assert second[first > 0.5].mean() < 0.8 * first[first > 0.5].mean()
    assert first.min() >= 0 and first.max() <= 1


def test_png_is_one():
    image = pytest.importorskip("PIL.Image")
    gray = np.linspace(0, 1, 12).reshape(3, 4)
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(png(gray)))), np.rint(255 * gray))
