"""A finished run as a model folder that forecasts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from neuro4d_lib.checkpoint import WEIGHTS_FILE, write_card
from neuro4d_lib.data.reference import build_reference
from neuro4d_lib.model import ModelConfig
from neuro4d_lib.training.gate import gate_record


def make_model_folder(weights: Path, folder: Path, config: ModelConfig, about: dict[str, Any]) -> Path:
    """Weights, reference image, region map, notice and card in one folder. The card says how the network was recalibrated."""
    build_reference().save(folder)
    shutil.copyfile(weights, folder / WEIGHTS_FILE)
    with safe_open(weights, "pt") as file:
        if "gate" in file.keys():  # noqa: SIM118 - it is no mapping
            about = {**about, "recalibration": gate_record(file.get_tensor("gate"))}
    write_card(folder, config, about)
    return folder
