import numpy as np
import pytest
import torch

from neuro4d_lib.geometry import bspline, grids, jacobian
from neuro4d_lib.geometry.deformation import exponentiate


def random_field(size_vox, shape=(23, 29, 26), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, *shape, generator=generator) * size_vox


class TestJacobianDeterminant:
    def test_a_linear_map_has_the_determinant_of_its_matrix(self):
        matrix = torch.tensor([[1.1, 0.2, -0.1], [0.05, 0.9, 0.3], [-0.2, 0.1, 1.3]])
        field = torch.einsum("ij,bjdhw->bidhw", matrix - torch.eye(3), grids.identity((6, 7, 8)))
        determinant = jacobian.jacobian_determinant(field)
        assert determinant.shape == (1, 1, 6, 7, 8)
        assert torch.allclose(determinant, torch.linalg.det(matrix), atol=1e-5)


class TestCountFoldFailures:
    @pytest.mark.parametrize("size_vox", [0.05, 0.12, 0.3, 1.0])
    def test_agrees_with_the_package_of_the_papers_authors(self, size_vox):
        theirs = pytest.importorskip("digital_diffeomorphism.jacobian_calculator_torch")
        field = random_field(size_vox)
        map_vox = (grids.identity(field.shape[2:]) + field)[0].movedim(0, -1)
        determinants = theirs.calc_jacdets_3d(map_vox.numpy(), torch.device("cpu"))
        failed = np.any([value <= 0 for name, value in determinants.items() if name != "000"], axis=0)
        count = jacobian.count_fold_failures(field)
        assert (count.failed, count.voxels, count.determinants_per_voxel) == (failed.sum(), failed.size, 10)
        assert (count.failed > 0) == (size_vox > 0.1)

    def test_a_gentle_flow_does_not_fold(self):
        control = random_field(0.5, (9, 9, 9))
        assert jacobian.count_fold_failures(exponentiate(bspline.refine(control, 4))).failed == 0

    def test_finds_the_fold_that_central_differences_miss(self):
        # Every second plane is swapped with the next: central differences see planes two apart, in order.
        field = torch.zeros(1, 3, 12, 12, 12)
        field[:, 0, ::2], field[:, 0, 1::2] = 0.6, -0.6
        assert jacobian.jacobian_determinant(field)[:, :, 1:-1].min() > 0.9
        assert jacobian.count_fold_failures(field).failed == 12**3

    def test_blocks_change_nothing(self, monkeypatch):
        field = random_field(0.2)
        whole = jacobian.count_fold_failures(field)
        monkeypatch.setattr(jacobian, "BLOCK_VOXELS", 500)
        monkeypatch.setattr(jacobian, "BLOCK_PLANES", 3)
        assert jacobian.count_fold_failures(field[0]) == whole

    def test_what_is_no_number_fails(self):
        field = torch.zeros(1, 3, 6, 6, 6)
        field[0, 1, 3, 3, 3] = torch.nan
        assert jacobian.count_fold_failures(field).failed > 0

    def test_refuses_several_fields(self):
        with pytest.raises(ValueError, match="one displacement field"):
            jacobian.count_fold_failures(torch.zeros(2, 3, 4, 4, 4))
