"""A model on disk: a folder with weights (safetensors), card (JSON), reference image and region map (NIfTI)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from neuro4d_lib.config import from_dict, to_dict
from neuro4d_lib.data.reference import IMAGE_FILE, REGIONS_FILE, TABLE_FILE, Reference
from neuro4d_lib.data.region_pooling import region_pooling
from neuro4d_lib.errors import InputError
from neuro4d_lib.files import write_whole
from neuro4d_lib.model import ForecastModel, ModelConfig, TrajectoryModel

FORMAT_VERSION = 1
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
SHIPPED = Path(__file__).parent / "models" / "simulated-ageing"
_NEEDED = (WEIGHTS_FILE, IMAGE_FILE, REGIONS_FILE, TABLE_FILE)
_PICKLES = (".pt", ".pth", ".pkl", ".ckpt", ".bin")


def load_model(folder: Path | None, device: torch.device) -> ForecastModel:
    """Read a model folder and check that it is whole and unaltered; the shipped model where no folder is named."""
    folder = SHIPPED if folder is None else folder
    network, card = load_network(folder)
    reference = Reference.load(folder)
    network.deformation.pooling.copy_(region_pooling(reference))
    return ForecastModel(network.to(device), reference, card, card["sha256"][WEIGHTS_FILE], device)


def load_network(folder: Path) -> tuple[TrajectoryModel, dict[str, Any]]:
    """The network of a model folder and its card, on the CPU; `deformation.pooling` is still to be filled in."""
    if folder.suffix in _PICKLES:
        raise InputError(
            f"The model {folder} is a pickle, which could run any code. Expected a model folder with {WEIGHTS_FILE}."
        )
    if not folder.is_dir():
        raise InputError(f"There is no model folder {folder}. Name a folder that holds {CARD_FILE} and {WEIGHTS_FILE}.")
    card = _card(folder)
    for name in _NEEDED:
        if not (folder / name).is_file():
            pickles = [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
            why = f" It holds {pickles[0]}, but pickles are never loaded." if pickles else ""
            raise InputError(
                f"The model folder {folder} is incomplete: {name} is missing.{why} Copy or train it again."
            )
        if file_hash(folder / name) != card["sha256"].get(name):
            raise InputError(
                f"{folder / name} is not the file that {CARD_FILE} describes (its SHA-256 differs). Copy or train the model again."
            )
    network = TrajectoryModel(from_dict(ModelConfig, card["model"], f"{folder / CARD_FILE}: model"))
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
        network.load_state_dict(tensors, strict=True)
    except (SafetensorError, RuntimeError) as problem:
        raise InputError(f"The weights of {folder} do not fit its card: {str(problem).splitlines()[0]}") from None
    return network.requires_grad_(False).eval(), card


def write_card(folder: Path, config: ModelConfig, about: dict[str, Any]) -> dict[str, Any]:
    """Describe the files of a model folder; `about` says the rest: name, training data, ranges, limits, scores."""
    card = {
        "format_version": FORMAT_VERSION,
        **about,
        "model": to_dict(config),
        "sha256": {name: file_hash(folder / name) for name in _NEEDED},
    }
    write_whole(folder / CARD_FILE, json.dumps(card, indent=1) + "\n")
    return card


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILE
    if not path.is_file():
        raise InputError(f"The model folder {folder} is incomplete: {CARD_FILE} is missing. Copy or train it again.")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise InputError(f"{path} cannot be read as JSON: {problem}. Copy or train the model again.") from None
    version = card.get("format_version") if isinstance(card, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"{folder} has format {version}; this version of neuro4d_lib reads up to {FORMAT_VERSION}. Update neuro4d_lib."
        )
    missing = {"name", "ranges", "model", "sha256"} - set(card if isinstance(card, dict) else ())
    if version != FORMAT_VERSION or missing:
        raise InputError(
            f"{path} is no model card: expected format_version {FORMAT_VERSION} and {', '.join(sorted(missing)) or 'its keys'}."
        )
    if not isinstance(card["sha256"], dict):
        raise InputError(
            f"{path}: sha256 is {card['sha256']!r}; expected a table of files. Copy or train the model again."
        )
    ranges = card["ranges"]
    years = ranges.get("years") if isinstance(ranges, dict) else None
    if not (isinstance(years, list) and len(years) == 2 and all(type(year) in (int, float) for year in years)):
        raise InputError(
            f"{path}: ranges.years is {years!r}; expected the first and last year that can be forecast, such as [0.25, 10]."
        )
    return card
