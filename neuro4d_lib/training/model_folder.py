"""A finished run as a model folder that forecasts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from neuro4d_lib.checkpoint import WEIGHTS_FILE, write_card
from neuro4d_lib.data.reference import Reference, build_reference
from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig, TrajectoryModel
from neuro4d_lib.training.gate import gate_record


def make_model_folder(
    weights: Path, folder: Path, config: ModelConfig, about: dict[str, Any], reference: Reference | None = None
) -> Path:
    """Weights, reference image, region map, notice and card in one folder. The card says how the network was recalibrated."""
    network = TrajectoryModel(config)
    try:
        network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(
            f"{weights} holds no weights of a model with these settings ({reason}). Give the --config of its run."
        ) from None
    (reference or build_reference()).save(folder)
    shutil.copyfile(weights, folder / WEIGHTS_FILE)
    if not bool((network.gate == 1).all()):
        about = {
            **about,
            "recalibration": gate_record(network.gate, "simulated" if reference is None else "of the study"),
        }
    write_card(folder, config, about)
    return folder
