"""A model folder of the weights that a run has at this moment: `python UnfinishedModel.py RUN FOLDER REFERENCE`.

Run as a program of its own, without Slicer; REFERENCE is the model folder whose anatomy the run uses. When a run ends it
writes its own model folder, with gate, scores and full card; this one is for looking at how far the run is.
"""

import json
import sys
from pathlib import Path


def main(run: Path, folder: Path, reference: Path) -> None:
    from neuro4d_lib.config import from_dict
    from neuro4d_lib.data.reference import Reference
    from neuro4d_lib.model import ModelConfig
    from neuro4d_lib.training.model_folder import make_model_folder

    settings = json.loads((run / "config.json").read_text(encoding="utf-8"))
    about = {
        "name": f"{run.name} (unfinished)",
        "training_data": "Those of the run, which has not ended.",
        "ranges": json.loads((reference / "card.json").read_text(encoding="utf-8"))["ranges"],
        "limits": ["An unfinished model, without gate and scores, for looking at the progress of its training."],
    }
    config = from_dict(ModelConfig, settings["model"])
    make_model_folder(run / "weights.safetensors", folder, config, about, Reference.load(reference))


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"Error: no model can be made of the weights of {sys.argv[1]}: {problem}")
