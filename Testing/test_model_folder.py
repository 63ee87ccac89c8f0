"""The shipped model folder: small enough to be carried by the package, and made with the settings that are published."""

import json
from pathlib import Path

from neuro4d_lib.checkpoint import CARD_FILE, SHIPPED
from neuro4d_lib.config import read_settings, to_dict
from neuro4d_lib.training.config import RunConfig

SETTINGS = Path(__file__).parent.parent / "docs" / "benchmark" / "shipped_model_settings.json"
MOST_BYTES = 12_000_000


def test_card_holds_the_published_settings():
    card = json.loads((SHIPPED / CARD_FILE).read_text(encoding="utf-8"))
    published = json.loads(SETTINGS.read_text(encoding="utf-8"))
    assert {name: card[name] for name in ("training", "model")} == {
        name: published[name] for name in ("training", "model")
    }


def test_train_reads_the_published_settings_whole():
    """Nothing is left to a default that could change later."""
    assert to_dict(read_settings(SETTINGS, RunConfig)) == json.loads(SETTINGS.read_text(encoding="utf-8"))


def test_model_folder_is_small():
    assert 0 < sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) <= MOST_BYTES
