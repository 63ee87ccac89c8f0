"""A finished run as a model folder that forecasts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from neuro4d_lib.checkpoint import WEIGHTS_FILE, write_card
from neuro4d_lib.data.reference import build_reference
from neuro4d_lib.model import ModelConfig


def make_model_folder(weights: Path, folder: Path, config: ModelConfig, about: dict[str, Any]) -> Path:
    """Weights, reference image, region map, notice and card in one folder."""
    build_reference().save(folder)
    shutil.copyfile(weights, folder / WEIGHTS_FILE)
    write_card(folder, config, about)
    return folder
