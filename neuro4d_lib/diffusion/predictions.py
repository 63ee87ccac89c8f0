"""What a network may predict (noise, sample or v), and how each becomes the clean sample.

With x_t = alpha * clean + sigma * noise. v = alpha * noise - sigma * clean: Salimans and Ho, 2022, arXiv:2202.00512.
"""

from __future__ import annotations

from torch import Tensor

PREDICTIONS = ("noise", "sample", "v")
# The latest noise time at which a noise prediction is used: where alpha = 0 it says nothing of the clean sample.
LATEST_FOR_NOISE = 0.999


def target(kind: str, clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the network should have predicted."""
    if kind == "noise":
        return noise
    if kind == "sample":
        return clean
    if kind == "v":
        return alpha * noise - sigma * clean
    raise ValueError(f"Unknown prediction {kind!r}; expected one of {', '.join(PREDICTIONS)}.")


def to_clean(kind: str, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean sample that a prediction stands for. Of a noise prediction only where alpha > 0."""
    if kind == "noise":
        return (x_t - sigma * prediction) / alpha
    if kind == "sample":
        return prediction
    if kind == "v":
        return alpha * x_t - sigma * prediction
    raise ValueError(f"Unknown prediction {kind!r}; expected one of {', '.join(PREDICTIONS)}.")
