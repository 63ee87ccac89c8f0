"""People whose courses are known in closed form: an image that is a formula, moved by a constant velocity."""

import pytest
import torch

from neuro4d_lib.data.image_courses import IMAGE_SHAPE, MEASURED, Courses, Given
from neuro4d_lib.geometry.grids import identity

SPACING_MM = 2.625
PSI_SCALE = 1.1


def image(places_vox):
    """A smooth bright ball with stripes, at places [1, 3, D, H, W]: [1, 1, D, H, W]."""
    center = torch.tensor([31.0, 39.0, 31.0]).view(1, 3, 1, 1, 1)
    away = places_vox - center
    ball = torch.sigmoid((22 - away.square().sum(dim=1, keepdim=True).sqrt()) / 2)
    return ball * (0.7 + 0.2 * torch.sin(away[:, :1] / 3) * torch.cos(away[:, 1:2] / 4))


@pytest.fixture(scope="session")
def fields():
    """Three velocity fields: 1 mm per year along each axis, everywhere."""
    return torch.eye(3).view(3, 3, 1, 1, 1).expand(3, 3, 32, 40, 32).contiguous()


@pytest.fixture(scope="session")
def make_courses():
    """(rates [N, T, 3] in mm per year, years [N, T], dark spot) -> courses.

    psi enlarges by 1.1, so that the motion in the person's space is smaller by that.
    """

    def make(rates, years, spot=0.0):
        here = identity(IMAGE_SHAPE)
        center = torch.tensor([31.0, 39.0, 31.0]).view(1, 3, 1, 1, 1)
        frames = []
        for person in range(len(years)):
            of_person = []
            for rate, year in zip(rates[person], years[person], strict=True):
                moved_vox = (rate * year / SPACING_MM / PSI_SCALE).view(1, 3, 1, 1, 1)
                frame = image(here - moved_vox)
                frame[..., 30:33, 45:48, 30:33] -= spot * float(year)
                of_person.append(frame[0])
            frames.append(torch.stack(of_person))
        count, visits = years.shape
        shape_vox = ((PSI_SCALE - 1) * (here - center)).expand(count, -1, -1, -1, -1)
        covariates = torch.tensor([[70.0, 1, 15, 0, 0]]).repeat(count, 1)
        given = Given(image(here).expand(count, -1, -1, -1, -1), shape_vox, covariates, years)
        empty = torch.zeros(count, 1 + visits, *IMAGE_SHAPE)
        shares = torch.zeros(count, len(MEASURED), *IMAGE_SHAPE)
        return Courses(given, torch.stack(frames), rates, empty, shares, torch.zeros(count, 1 + visits, len(MEASURED)))

    return make


@pytest.fixture(scope="session")
def courses(make_courses):
    generator = torch.Generator().manual_seed(0)
    return make_courses(torch.randn(4, 2, 3, generator=generator), torch.tensor([[1.0, 3.0]]).repeat(4, 1), spot=0.05)
