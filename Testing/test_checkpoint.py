"""A model card that says something else than what it must: one sentence."""

import json
import shutil

import pytest

from neuro4d_lib import checkpoint
from neuro4d_lib.errors import InputError


def other_sampler(card):
    card["model"]["sampler"] = "euler"


def other_schedule(card):
    card["model"]["schedule"] = "square"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(format_version=99), "has format 99"),
        (lambda card: card.update(sha256="0" * 64), "sha256 is"),
        (lambda card: card.update(ranges={}), "ranges.years is None"),
        (lambda card: card.update(ranges={"years": ["a", 2]}), "ranges.years is"),
        (other_sampler, "expected one of ddim, ddpm, heun, found 'euler'"),
        (other_schedule, "expected one of cosine, linear, found 'square'"),
    ],
    ids=["newer format", "hashes", "no years", "years", "sampler", "schedule"],
)
def test_a_card_that_cannot_be_used_is_refused(tmp_path, change, message):
    folder = shutil.copytree(checkpoint.SHIPPED, tmp_path / "model")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    change(card)
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        checkpoint.load_network(folder)
    assert message in str(refused.value)
