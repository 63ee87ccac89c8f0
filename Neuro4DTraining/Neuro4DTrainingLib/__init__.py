"""The parts of the training module. What both modules use lies in Neuro4DForecastLib, once.

Installed, the two libraries are neighbors. In a source tree Slicer may load this module before it has put the forecast
module's folder on its path: then that folder, beside this module's own, is added here.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("Neuro4DForecastLib") is None:
    _neighbor = Path(__file__).resolve().parents[2] / "Neuro4DForecast"
    if not (_neighbor / "Neuro4DForecastLib").is_dir():
        raise ImportError(
            "The module Neuro4DTraining needs the module Neuro4DForecast of the same extension. Install the whole "
            "extension, or add both module folders in a source tree."
        )
    sys.path.append(str(_neighbor))
