"""A run on a study that is killed, and one that two processes share, against one that nothing disturbs."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import SMALL, study_run

from neuro4d_lib.training.config import TrainingConfig

SCRIPT = Path(__file__).with_name("tiny_run.py")
SETTINGS = {
    "steps": 12, "save_every": 3, "validate_every": 4, "parts": 2, "learning_rate": 0.03, "gate_people": 2,
    "earlier_visits": [0, 1], "future_frames": [2, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(fields, tmp_path_factory):
    output = tmp_path_factory.mktemp("study") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        study_run(fields, output, TrainingConfig(**{**SMALL, **SETTINGS}))
    finally:
        torch.set_num_threads(threads)
    return output


def command(fields, output):
    return [str(SCRIPT), str(fields), str(output), json.dumps(SETTINGS), "study"]


def log_of(output):
    lines = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]


def test_killed_and_resumed_it_ends_as_an_undisturbed_one_bit_by_bit(fields, undisturbed, tmp_path):
    output = tmp_path / "run"
    process = subprocess.Popen([sys.executable, *command(fields, output)])
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (output / "log.jsonl").exists() and len((output / "log.jsonl").read_bytes().splitlines()) >= 5:
                break
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() not in (0, 1), "it ended before it was killed"
    assert 5 <= len(log_of(output)) < SETTINGS["steps"]
    subprocess.run([sys.executable, *command(fields, output)], check=True)
    for name in ("weights.safetensors", "law.json", "split.json"):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes()
    assert log_of(output) == log_of(undisturbed)
    # The comparison would be empty if the steps had changed nothing.
    assert load_file(undisturbed / "weights.safetensors")["unet.head.weight"].abs().max() > 0


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a gloo that PyTorch for Windows lacks")
def test_two_processes_have_the_loss_curve_of_one(fields, undisturbed, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run([*torchrun, *command(fields, tmp_path / "two")], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    alone, together = log_of(undisturbed), log_of(tmp_path / "two")
    assert [line["step"] for line in together] == list(range(1, 13))
    for name in ("loss", "floor", "gradient_norm"):
        assert [line[name] for line in together] == pytest.approx([line[name] for line in alone], rel=1e-4)


def test_another_study_is_not_continued(fields, undisturbed, monkeypatch):
    import tiny_run

    from neuro4d_lib.errors import InputError

    whole = tiny_run.simulated_people
    monkeypatch.setattr(
        tiny_run, "simulated_people", lambda *a: [dataclasses.replace(one, place=1.1 * one.place) for one in whole(*a)]
    )
    with pytest.raises(InputError, match="was started with study = "):
        study_run(fields, undisturbed, TrainingConfig(**{**SMALL, **SETTINGS}))
