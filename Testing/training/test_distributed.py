"""Two processes that torchrun starts, against one process with the same people in every step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.distributed import Group
from neuro4d_lib.training.trainer import train

SCRIPT = Path(__file__).with_name("tiny_run.py")
MODEL = ModelConfig(lattice=(8, 8, 8), widths=(8, 16), condition=16)
# So fast that a few dozen steps change the loss by far more than rounding does.
SETTINGS = {
    "steps": 40, "people": 8, "parts": 4, "learning_rate": 0.3, "prior_steps": 1, "earlier_visits": (1,),
    "future_frames": (1,), "validate_every": 40, "validation_people": 9, "save_every": 15, "gate_people": 0,
}  # fmt: skip


def one_process(fields, output, settings):
    train(fields, output, MODEL, TrainingConfig(**settings), torch.device("cpu"))


def two_processes(fields, output, settings):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = [str(SCRIPT), str(fields), str(output), json.dumps(settings)]
    return subprocess.run([*torchrun, *arguments], capture_output=True, text=True)


def log_of(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a gloo that PyTorch for Windows lacks")
def test_two_processes_have_the_loss_curve_of_one_and_go_on_where_one_stopped(fields, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one_process(fields, one, SETTINGS)
    # The first of two makes its first step alone, and is resumed by two processes.
    one_process(fields, two, {**SETTINGS, "seconds": 1e-9})
    assert len(log_of(two)) == 1
    finished = two_processes(fields, two, SETTINGS)
    assert finished.returncode == 0 and "FutureWarning" not in finished.stderr, finished.stderr
    alone, together = log_of(one), log_of(two)
    assert [line["step"] for line in together] == list(range(1, 41))  # the second process writes nothing
    for name in ("loss", "floor", "gradient_norm"):
        assert [line[name] for line in together] == pytest.approx([line[name] for line in alone], rel=1e-4)
    assert together[-1]["validation_loss"] == pytest.approx(alone[-1]["validation_loss"], rel=1e-4)
    # Biases before a normalization have gradients of rounding alone, so only the weights as a whole are comparable.
    weights, expected = (
        torch.cat(
            [
                value.float().flatten()
                for name, value in load_file(run / "weights.safetensors").items()
                if "unet" in name
            ]
        )
        for run in (two, one)
    )
    assert (weights - expected).norm() < 1e-2 * expected.norm()
    # The curve says something only if the steps moved the weights.
    assert abs(alone[-1]["validation_loss"] / alone[-1]["validation_without_network"] - 1) > 0.03


class TestGroup:
    def test_shares_every_part_once(self):
        shares = [list(Group(rank, 3).share(12)) for rank in range(3)]
        assert sorted(part for share in shares for part in share) == list(range(12)) and {
            len(share) for share in shares
        } == {4}

    def test_processes_that_cannot_share_the_parts_are_refused(self, fields, tmp_path):
        with pytest.raises(InputError, match=r"2 processes cannot share .* training\.parts = 3 parts"):
            train(
                fields, tmp_path, MODEL, TrainingConfig(people=9, parts=3), torch.device("cpu"),
                group=Group(0, 2),
            )  # fmt: skip
        assert not list(tmp_path.iterdir())
