"""What is known of a person, and when a frame is, as the vector that conditions the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuro4d_lib.networks.layers import Embedding

# Center and scale that bring age, sex, education and APOE e4 count to about -1..1.
_CENTER = (65.0, 0.5, 15.0, 0.5)
_SCALE = (15.0, 0.5, 4.0, 0.7)


def standardized(covariates: Tensor) -> tuple[Tensor, Tensor]:
    """The four numbers at mean 0 and scale 1 with 0 where unknown, and which are known: [B, 5] -> [B, 4], [B, 4]."""
    numbers = covariates[:, :4]
    known = ~torch.isnan(numbers)
    values = (numbers - numbers.new_tensor(_CENTER)) / numbers.new_tensor(_SCALE)
    return torch.where(known, values, 0.0), known


def diagnosis_index(covariates: Tensor, diagnoses: int) -> Tensor:
    """Place of the diagnosis, `diagnoses` where it is unknown: [B, 5] -> [B] long."""
    return torch.nan_to_num(covariates[:, 4], nan=float(diagnoses)).long()


class DiseaseConditioner(nn.Module):
    """Age, sex, education, APOE e4 count, diagnosis and years -> one vector per frame. Anything may be unknown (NaN).

    An unknown covariate has a vector of its own, learned because covariates are hidden at random in training.
    """

    def __init__(self, width: int, diagnoses: int = 5) -> None:
        super().__init__()
        self.diagnoses = diagnoses
        self.numbers = nn.Linear(4, width)
        self.unknown = nn.Parameter(torch.zeros(4, width))
        self.diagnosis = nn.Embedding(diagnoses + 1, width)
        self.person = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.years = Embedding(width, longest=40.0)

    def forward(self, covariates: Tensor, years: Tensor) -> Tensor:
        """covariates: [B, 5] (age, sex, education, APOE e4, diagnosis); years: [B, T] from the latest scan. Returns [B, T, width]."""
        values, known = standardized(covariates)
        person = self.numbers(values) + (~known).to(values.dtype) @ self.unknown
        person = person + self.diagnosis(diagnosis_index(covariates, self.diagnoses))
        return self.person(person)[:, None] + self.years(years)
