"""Model folders and their cards: what a model was made from, what it can do and what it cannot."""

import html
import json
from dataclasses import dataclass
from pathlib import Path

from Neuro4DForecastLib import Library
from Neuro4DForecastLib.Problem import Problem

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Model:
    """A model folder that has been looked at."""

    folder: Path
    card: dict

    @property
    def name(self) -> str:
        return str(self.card.get("name") or self.folder.name)

    def problemsWithYears(self, years: tuple[float, ...]) -> dict[str, str]:
        """{"years": sentence} where the model has not learned to look so near or so far ahead."""
        try:
            low, high = (float(year) for year in self.card["ranges"]["years"])
        except (KeyError, TypeError, ValueError):
            return {}  # the command line knows more about its models than this panel
        outside = [year for year in years if not low <= year <= high]
        if not outside:
            return {}
        return {"years": f"The model has learned {low:g} to {high:g} years ahead; {outside[0]:g} was asked for."}

    def summary(self) -> str:
        """The card as rich text."""
        titles = {"training_data": "Training data", "limits": "Limits", "scores": "Scores", "license": "License"}
        lines = [f"<b>{html.escape(self.name)}</b>"]
        for key, title in titles.items():
            lines.append(f"<b>{title}:</b> {_asText(self.card.get(key) or 'not stated')}")
        return "<br>".join(lines)


def _asText(value) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{html.escape(str(key).replace('_', ' '))} {_asText(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_asText(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else html.escape(str(value))


def shipped() -> list[Model]:
    """Models inside the library, the default one first."""
    found = []
    for card in sorted((Library.libraryParent() / "neuro4d_lib" / "models").glob("*/card.json")):
        try:
            found.append(load(card.parent))
        except Problem:
            continue  # a half-copied folder is not offered
    return sorted(found, key=lambda model: not model.card.get("default", False))


def load(folder: Path | str) -> Model:
    """The model in a folder; a Problem that says what the folder lacks."""
    folder = Path(folder)
    if not folder.is_dir():
        raise Problem(f"The model folder {folder} does not exist.", "model")
    path = folder / "card.json"
    if not path.is_file():
        raise Problem(
            f"The folder {folder} has no card.json, so it is not a Neuro4D model. Choose a model folder.", "model"
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise Problem(f"The card of the model in {folder} cannot be read: {error}.", "model") from error
    if not isinstance(card, dict):
        raise Problem(f"The card of the model in {folder} is not a table of values.", "model")
    if not (folder / WEIGHTS).is_file():
        raise Problem(f"The model folder {folder} has no {WEIGHTS}. Copy the whole folder again.", "model")
    return Model(folder, card)
