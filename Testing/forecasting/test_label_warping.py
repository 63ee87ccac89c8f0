import numpy as np
import pytest
import torch

from neuro4d_lib.data.records import Image
from neuro4d_lib.forecasting.label_warping import WarpedLabels

CPU = torch.device("cpu")


def warped(labels):
    return WarpedLabels(Image(labels, np.eye(4), labels.dtype), CPU)


def still(shape):
    return torch.zeros(1, 3, *shape)


def shells():
    """Shells, three voxels thick, with as much background between them: [40, 41, 42]."""
    away = np.indices((40, 41, 42)) - np.reshape([19.37, 20.11, 20.73], (3, 1, 1, 1))
    number, odd = np.divmod(np.linalg.norm(away, axis=0) // 3, 2)
    return np.where((odd == 1) & (number < 3), number + 1, 0).astype(np.uint8)


def growth(shape, rate):
    """Pull map [1, 3, D, H, W] and later volume [D, H, W] of a flow from a point: all grows by exp(rate)."""
    away = torch.as_tensor(np.indices(shape) - np.reshape([18.3, 21.1, 19.7], (3, 1, 1, 1))).float()[None]
    return (np.exp(-rate / 3) - 1) * away, torch.full(shape, np.exp(rate))


class TestWarpedLabels:
    def test_a_map_that_moves_nothing_gives_the_labels_back(self, aligned):
        labels = aligned.labels.astype(np.int32) * 1000 - 7
        pulled = warped(labels).pulled(still(labels.shape), torch.ones(labels.shape))
        assert pulled.dtype == labels.dtype
        np.testing.assert_array_equal(pulled, labels)

    def test_a_shift_by_whole_voxels_moves_the_labels(self, aligned):
        shift = still(aligned.labels.shape)
        shift[:, 1] = 3
        pulled = warped(aligned.labels).pulled(shift, torch.ones(aligned.labels.shape))
        np.testing.assert_array_equal(pulled[:, :-3], aligned.labels[:, 3:])

    @pytest.mark.parametrize("rate", [-0.3, -0.05, 0.05, 0.2])
    def test_thin_shells_change_as_much_as_the_map_says(self, rate):
        """Borders that move by less than half a voxel, which a mere greatest share hardly sees.

        The innermost shell's move by less than a tenth of a voxel: too little for any voxel to change its label.
        """
        pull_vox, ratio = growth((40, 41, 42), rate)
        pulled = warped(shells()).pulled(pull_vox, ratio)
        change = np.bincount(pulled.ravel())[1:] / np.bincount(shells().ravel())[1:]
        np.testing.assert_allclose(change[1:], np.exp(rate), rtol=0.02)

    def test_a_voxel_gets_a_label_of_the_voxels_around_the_place_that_is_read(self):
        labels = shells()
        pull_vox, ratio = growth(labels.shape, 0.08)
        pulled = warped(labels).pulled(pull_vox, ratio)
        below = np.floor(np.indices(labels.shape) + pull_vox[0].numpy()).astype(int)
        around = [
            labels[tuple(np.clip(below[a] + corner[a], 0, labels.shape[a] - 1) for a in range(3))]
            for corner in np.ndindex(2, 2, 2)
        ]
        assert (np.stack(around) == pulled).any(axis=0).all()

    def test_a_single_slice_can_be_carried(self):
        labels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
        np.testing.assert_array_equal(warped(labels).pulled(still((1, 3, 4)), torch.ones(1, 3, 4)), labels)
