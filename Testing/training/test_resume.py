"""A run that is killed, and one whose disk is full, against one that nothing disturbs."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig
from neuro4d_lib.training.config import TrainingConfig
from neuro4d_lib.training.run_state import RunLog, write_whole
from neuro4d_lib.training.trainer import train

SCRIPT = Path(__file__).with_name("tiny_run.py")
SETTINGS = {"steps": 24, "save_every": 3, "validate_every": 5, "patience": 40, "parts": 2}
SMALL = {"people": 8, "prior_steps": 2, "validation_people": 9, "gate_people": 8}  # as in tiny_run.py
MODEL = ModelConfig(lattice=(8, 8, 8), widths=(8, 16), condition=16)
CPU = torch.device("cpu")


def command(fields, output, settings):
    return [sys.executable, str(SCRIPT), str(fields), str(output), json.dumps(settings)]


def log_of(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def what_was_computed(output):
    return [{k: v for k, v in entry.items() if not k.startswith("seconds")} for entry in log_of(output)]


def state(output):
    """Tensors and header of the state: steps, best validation, settings."""
    path = output / "training_state.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), json.loads(file.metadata()["state"])


def run_here(fields, output, settings):
    """What tiny_run.py does, without the seconds that a new process needs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(fields, output, MODEL, TrainingConfig(**{**SMALL, **settings}), CPU)
    finally:
        torch.set_num_threads(threads)


def kill_at(step, fields, output):
    """Start the run, and kill it as soon as its log shows `step`; 0: as soon as there is its folder."""
    process = subprocess.Popen(command(fields, output, SETTINGS))
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            log = output / "log.jsonl"
            if (log.exists() and len(log.read_bytes().splitlines()) >= step) or (step == 0 and output.exists()):
                break
            time.sleep(0.002)
    finally:
        process.kill()
    assert process.wait() not in (0, 1), "it ended before it was killed"


@pytest.fixture(scope="module")
def undisturbed(fields, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    run_here(fields, output, SETTINGS)
    return output


class TestAKilledRun:
    @pytest.mark.parametrize("step", [0, 2, 14])  # in the closed form, before the first checkpoint, between two others
    def test_resumed_it_ends_as_an_undisturbed_one_bit_by_bit(self, fields, undisturbed, tmp_path, step):
        killed = tmp_path / "killed"
        kill_at(step, fields, killed)
        if step:
            assert step <= len(log_of(killed)) < SETTINGS["steps"]
        else:
            assert not (killed / "training_state.safetensors").exists()
        run_here(fields, killed, SETTINGS)
        assert (killed / "weights.safetensors").read_bytes() == (undisturbed / "weights.safetensors").read_bytes()
        assert what_was_computed(killed) == what_was_computed(undisturbed)
        (tensors, header), (expected, expected_header) = state(killed), state(undisturbed)
        assert header == expected_header and tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
        # The comparison would be empty if training had changed nothing.
        head = "unet.head.weight"
        assert expected[f"model.{head}"].abs().max() > 0
        assert not torch.equal(expected[f"model.{head}"], expected[f"average.{head}"])

    def test_a_line_that_was_cut_off_is_made_again(self, tmp_path):
        path = tmp_path / "log.jsonl"
        path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo', encoding="utf-8")
        with RunLog(path, 1) as log:
            log.write({"step": 2, "loss": 1.5})
        assert log_of(tmp_path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}]


class TestAResumedRun:
    @pytest.fixture
    def run(self, fields, model_config, tmp_path):
        def start(model=model_config, anatomy=fields, **settings):
            small = {"steps": 3, "people": 4, "prior_steps": 1, "validate_every": 0, "gate_people": 0}
            return train(anatomy, tmp_path / "run", model, TrainingConfig(**{**small, **settings}), CPU)

        start()
        return start

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"people": 8}, r"training\.people = 4, now it is 8"),
            ({"learning_rate": 1e-3}, r"training\.learning_rate = 0\.0004, now it is 0\.001"),
            ({"earlier_visits": (0,), "future_frames": (2,)}, r"training\.earlier_visits = \[0, 0, 1"),
        ],
    )
    def test_with_another_setting_is_refused_by_its_name(self, run, tmp_path, changed, named):
        before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        with pytest.raises(InputError, match=named):
            run(**changed)
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before

    def test_with_another_network_or_anatomy_is_refused(self, run, model_config, fields, tmp_path):
        import dataclasses

        with pytest.raises(InputError, match=r"model\.condition = 16, now it is 32"):
            run(model=dataclasses.replace(model_config, condition=32))
        tensors = load_file(fields)
        tensors["fields"][0] += 1
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match="started with fields = "):
            run(anatomy=tmp_path / "other.safetensors")

    def test_may_pause_at_another_time_and_measure_its_gate_later(self, run):
        assert bool((run().gate == 1).all())
        assert not bool((run(seconds=100.0, save_every=7, gate_people=8).gate == 1).all())

    def test_with_a_broken_state_is_refused(self, run, tmp_path):
        path = tmp_path / "run" / "training_state.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(InputError, match="cannot be read as the state of a run"):
            run()

    def test_a_folder_with_other_weights_is_left_alone(self, run, tmp_path):
        (tmp_path / "run" / "training_state.safetensors").unlink()
        before = (tmp_path / "run" / "weights.safetensors").read_bytes()
        with pytest.raises(InputError, match="no run to go on with"):
            run()
        assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[4])
import tiny_run, json
from pathlib import Path
size = (Path(sys.argv[2]) / "training_state.safetensors").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))  # a write beyond it fails, as on a full disk
tiny_run.main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file size there")
def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_from_it(fields, tmp_path):
    settings = {"steps": 12, "save_every": 4, "validate_every": 0, "gate_people": 0}
    run = tmp_path / "run"
    run_here(fields, tmp_path / "whole", settings)
    run_here(fields, run, {**settings, "seconds": 1e-9})  # ends after one step
    before = (run / "training_state.safetensors").read_bytes()
    started = [sys.executable, "-c", FULL_DISK, *command(fields, run, settings)[2:], str(SCRIPT.parent)]
    full = subprocess.run(started, capture_output=True, text=True)
    assert full.returncode == 1 and "could not be written" in full.stderr and "Traceback" not in full.stderr
    assert (run / "training_state.safetensors").read_bytes() == before
    assert not list(run.glob("*.part"))
    run_here(fields, run, settings)
    assert (run / "weights.safetensors").read_bytes() == (tmp_path / "whole" / "weights.safetensors").read_bytes()


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"first")
    (tmp_path / "file.part").mkdir()  # so that it cannot be written
    with pytest.raises(InputError, match="What was there before is unchanged"):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
