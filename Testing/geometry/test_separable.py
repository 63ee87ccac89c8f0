import torch

from neuro4d_lib.geometry.separable import along_axes


def test_applies_one_matrix_to_each_axis():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, 6, generator=generator)
    matrices = [torch.randn(m, n, generator=generator) for m, n in ((7, 4), (3, 5), (8, 6))]
    expected = torch.einsum("bcijk,di,hj,wk->bcdhw", x, *matrices)
    assert torch.allclose(along_axes(x, matrices), expected, atol=1e-4)
