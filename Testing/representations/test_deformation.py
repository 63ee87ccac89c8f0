"""decode(encode(x)) gives x back, and the coordinates are white."""

import torch

from neuro4d_lib.representations.deformation import Deformation


def made():
    generator = torch.Generator().manual_seed(0)
    fields = torch.randn(5, 3, 4, 5, 4, generator=generator)
    half = torch.randn(5, 5, generator=generator).double()
    covariance = half @ half.T + 0.1 * torch.eye(5)
    deformation = Deformation.of(fields, covariance, torch.rand(5, 4, 5, 4, generator=generator))
    deformation.measure = torch.linalg.pinv(fields.flatten(1)).T  # reads the rates off these fields exactly
    return deformation, covariance


def test_encode_undoes_decode():
    deformation, _ = made()
    coordinates = torch.randn(2, 3, 5)
    assert torch.allclose(deformation.encode(deformation.decode(coordinates)), coordinates, atol=1e-3)


def test_coordinates_of_the_population_are_white():
    deformation, covariance = made()
    rates = torch.randn(50_000, 5, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    assert torch.cov(deformation.from_rates(rates).T).sub(torch.eye(5)).abs().max() < 0.05


def test_images_are_orthogonal_of_one_size_and_span_the_same_fields():
    deformation, _ = made()
    images = deformation.images
    gram = images @ images.T
    assert torch.allclose(gram, torch.eye(5) * images.shape[1] / 5, rtol=1e-3, atol=1e-2 * float(gram.max()))
    coordinates = torch.randn(2, 5)
    assert torch.allclose(
        deformation.from_field(deformation.as_field(coordinates, images), images), coordinates, atol=1e-3
    )
    velocity = deformation.decode(coordinates).flatten(1)
    left = velocity - velocity @ torch.linalg.pinv(images) @ images
    assert left.norm() < 1e-3 * velocity.norm()
