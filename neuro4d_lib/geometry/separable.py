"""Linear maps of a volume that are one matrix per axis."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one matrix to each of the three last axes.

    Args:
        x: [B, C, d, h, w].
        matrices: [D, d], [H, h], [W, w].

    Returns:
        [B, C, D, H, W].
    """
    depth, height, width = matrices
    x = (depth @ x.flatten(3)).unflatten(3, x.shape[3:])
    return (height @ x) @ width.T
