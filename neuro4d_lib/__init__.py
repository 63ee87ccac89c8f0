"""Neuro4D: forecast a brain scan through the coming years. Research use only.

`neuro4d_lib.forecast(...)` is the call; see its help. Importing this package does not import torch.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Covariates", "__version__", "forecast"]


def __getattr__(name: str) -> Any:
    # Late, so that a Slicer module can ask for the version before torch is installed.
    if name == "forecast":
        from neuro4d_lib.forecasting.forecaster import forecast

        return forecast
    if name == "Covariates":
        from neuro4d_lib.data.records import Covariates

        return Covariates
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
