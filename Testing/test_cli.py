"""The command line: what it understands, what it refuses, how it fails. The forecast itself is a stand-in."""

import gzip
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from neuro4d_lib import cli
from neuro4d_lib.errors import InputError
from neuro4d_lib.forecasting import forecaster

OBLIQUE = np.array([[2, 0.2, 0, -64], [-0.2, 2, 0, -80], [0, 0, 2, -60], [0, 0, 0, 1.0]])


def head():
    """Whole numbers in no large patches: anything that may pass for a scan."""
    places = np.indices((64, 80, 60)) - np.reshape([32, 40, 30], (3, 1, 1, 1))
    inside = np.square(places / np.reshape([28, 36, 26], (3, 1, 1, 1))).sum(axis=0) < 1
    return np.where(inside, np.random.default_rng(0).integers(300, 900, inside.shape), 0).astype(np.int16)


def write(path, array, affine=OBLIQUE):
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return str(path)


@pytest.fixture
def scan(tmp_path):
    return write(tmp_path / "scan.nii.gz", head())


@pytest.fixture
def asked(monkeypatch):
    """What the forecaster was asked for; it answers with a result that writes one file."""
    seen = SimpleNamespace(calls=[])

    def forecast(scan, covariates, years, **options):
        seen.calls.append(SimpleNamespace(scan=scan, covariates=covariates, years=years, **options))
        return SimpleNamespace(save=save, warnings=("Look twice.",))

    def save(folder, **options):
        seen.saved = SimpleNamespace(folder=folder, **options)
        return {"report.html": "everything on one page", "volumes.csv": "volumes"}

    monkeypatch.setattr(forecaster, "forecast", forecast)
    return seen


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


class TestHelp:
    @pytest.mark.parametrize("arguments", [[], ["forecast"]])
    def test_answers_at_once_without_torch(self, arguments):
        code = "import sys; from neuro4d_lib.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", code, *arguments, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "forecast" in done.stdout and "Research use only" in done.stdout

    def test_teaches_by_examples(self, capsys):
        with pytest.raises(SystemExit) as ended:
            run("forecast", "--help")
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert "earlier.nii.gz:-1.5" in text and "--diagnosis MCI" in text

    def test_the_module_can_be_run(self):
        done = subprocess.run([sys.executable, "-m", "neuro4d_lib", "--version"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith("Neuro4D ")


class TestForecast:
    def test_hands_everything_on(self, scan, asked, tmp_path):
        past = write(tmp_path / "past.nii.gz", head() + 1)
        flair = write(tmp_path / "flair.nii.gz", head()[::2, ::2, ::2] + 5, OBLIQUE @ np.diag([2, 2, 2, 1]))
        labels = write(tmp_path / "seg.nii.gz", (head() > 0).astype(np.uint8))
        person = ["--age", 74, "--sex", "f", "--education", 16, "--apoe4", 1, "--diagnosis", "mci"]
        options = ["--futures", 3, "--seed", 9, "--steps", 12, "--device", "cpu", "--progress", "none"]
        files = ["--past", f"{past}:-1.5", "--also", flair, "--segmentation", labels, "--model", tmp_path / "model"]
        written = ["--each-future", "--displacement", "--output", tmp_path / "out"]
        assert run("forecast", scan, "--years", 1, 2.5, *person, *files, *options, *written) == 0
        call = asked.calls[0]
        assert call.years == [1, 2.5]
        assert list(call.covariates.as_dict().values()) == [74, "F", 16, 1, "MCI"]
        assert [(image.path, years) for image, years in call.past] == [(past, -1.5)]
        assert call.also[0].array.shape == (32, 40, 30) and call.segmentation.path == labels
        assert (call.futures, call.seed, call.steps, call.device) == (3, 9, 12, "cpu")
        assert call.model == tmp_path / "model"
        assert asked.saved.each_future and asked.saved.displacement and not asked.saved.overwrite

    def test_asks_for_no_more_than_a_scan_and_a_folder(self, scan, asked, tmp_path):
        assert run("forecast", scan, "--output", tmp_path / "out", "--progress", "none") == 0
        call = asked.calls[0]
        assert set(call.covariates.as_dict().values()) == {None}
        assert (call.years, call.futures, call.seed, call.steps, call.model) == ([1, 2, 3, 5], 8, 0, None, None)

    def test_ends_by_naming_the_files_to_open_and_what_to_note(self, scan, asked, tmp_path, capsys):
        run("forecast", scan, "--output", tmp_path / "out", "--progress", "none")
        out, err = capsys.readouterr()
        assert str(tmp_path / "out" / "report.html") in out and "forecast.seq.nrrd" not in out
        assert err == "Note: Look twice.\n"

    def test_reports_json_lines_on_request(self, scan, asked, tmp_path, capsys):
        assert run("forecast", scan, "--output", tmp_path / "out", "--progress", "json") == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [event["event"] for event in events] == ["progress", "done"]
        assert events[-1]["files"]["volumes.csv"] == "volumes" and events[-1]["warnings"] == ["Look twice."]

    def test_takes_a_number_of_threads(self, scan, asked, tmp_path):
        before = torch.get_num_threads()
        try:
            assert run("forecast", scan, "--output", tmp_path / "out", "--threads", 1, "--progress", "none") == 0
            assert torch.get_num_threads() == 1
        finally:
            torch.set_num_threads(before)


def nothing(path):
    return path / "nothing.nii.gz"


def truncated(path):
    content = gzip.compress(nibabel.Nifti1Image(head(), OBLIQUE).to_bytes())
    (path / "short.nii.gz").write_bytes(content[: len(content) // 2])
    return path / "short.nii.gz"


def text(path):
    (path / "notes.nii.gz").write_text("not an image")
    return path / "notes.nii.gz"


def many(path):
    return write(path / "many.nii.gz", np.stack([head(), head()], axis=-1))


def flat(path):
    return write(path / "flat.nii.gz", head()[:, :, 30])


def not_finite(path):
    array = head().astype(np.float32)
    array[30, 40, 30] = np.nan
    return write(path / "nan.nii.gz", array)


def constant(path):
    return write(path / "constant.nii.gz", np.full((64, 80, 60), 7, np.int16))


def label_map(path):
    return write(path / "labels.nii.gz", (head() > 0).astype(np.int16))


def singular(path):
    content = bytearray(nibabel.Nifti1Image(head(), OBLIQUE).to_bytes())
    content[252:254] = bytes(2)  # qform_code
    content[280:296] = bytes(16)  # srow_x
    (path / "singular.nii").write_bytes(content)
    return path / "singular.nii"


def huge_voxels(path):
    return write(path / "huge.nii.gz", head(), OBLIQUE @ np.diag([100, 100, 100, 1]))


class TestBadInput:
    """Each gets one clear message and exit code 2; nothing is written or overwritten."""

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (nothing, "does not exist"),
            (truncated, "short.nii.gz"),
            (text, "notes.nii.gz"),
            (many, "::"),  # how to choose one
            (flat, "flat.nii.gz"),
            (not_finite, "nan.nii.gz"),
            (constant, "every voxel is 7"),
            (label_map, "label map"),
            (singular, "affine"),
            (huge_voxels, "voxels of"),
        ],
        ids=lambda value: getattr(value, "__name__", None),
    )
    def test_scan(self, asked, tmp_path, capsys, make, message):
        self.check(["forecast", make(tmp_path), "--output", tmp_path / "out"], message, asked, tmp_path, capsys)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--age", "7"], "age is 7"),
            (["--age", "old"], "--age: invalid float value: 'old'"),
            (["--sex", "x"], "sex is 'X'"),
            (["--education", "99"], "education is 99"),
            (["--apoe4", "3"], "APOE e4 count is 3"),
            (["--diagnosis", "flu"], "diagnosis is 'FLU'"),
            (["--past", "{scan}:2"], "placed at 2 years"),
            (["--past", "{scan}"], "has no time"),
            (["--past", "{scan}:-1"], "same image as the scan"),
            (["--past", "gone.nii.gz:-1"], "gone.nii.gz does not exist"),
            (["--segmentation", "{shifted}"], "beside the scan"),
            (["--segmentation", "{half}"], "32 x 40 x 30 voxels, the scan has 64 x 80 x 60"),
            (["--also", "gone.nii.gz"], "gone.nii.gz does not exist"),
            (["--device", "gpu"], "device is 'gpu'"),
            (["--threads", "0"], "threads is 0"),
            (["--futures", "many"], "--futures: invalid int value"),
            (["--nonsense"], "--nonsense"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_request(self, scan, asked, tmp_path, capsys, arguments, message):
        shifted = OBLIQUE.copy()
        shifted[2, 3] += 1
        labels = (head() > 0).astype(np.uint8)
        names = {
            "scan": scan,
            "shifted": write(tmp_path / "shifted.nii.gz", labels, shifted),
            "half": write(tmp_path / "half.nii.gz", labels[::2, ::2, ::2], OBLIQUE @ np.diag([2, 2, 2, 1])),
        }
        given = [argument.format(**names) for argument in arguments]
        self.check(["forecast", scan, "--output", tmp_path / "out", *given], message, asked, tmp_path, capsys)

    def test_cuda_that_is_missing(self, scan, asked, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        arguments = ["forecast", scan, "--output", tmp_path / "out", "--device", "cuda"]
        self.check(arguments, "no CUDA GPU", asked, tmp_path, capsys)

    def test_output_folder_that_is_not_empty(self, scan, asked, tmp_path, capsys):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.docx").write_text("years of work")
        for overwrite in ([], ["--overwrite"]):
            arguments = ["forecast", scan, "--output", tmp_path / "out", *overwrite]
            self.check(arguments, "thesis.docx", asked, tmp_path, capsys)
        assert (tmp_path / "out" / "thesis.docx").read_text() == "years of work"

    def test_no_disk_space(self, scan, asked, tmp_path, capsys, monkeypatch):
        usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        self.check(["forecast", scan, "--output", tmp_path / "out"], "0.00 GB left", asked, tmp_path, capsys)

    def test_no_command_and_unknown_command(self, asked, tmp_path, capsys):
        self.check([], "COMMAND", asked, tmp_path, capsys)
        self.check(["forcast"], "invalid choice: 'forcast'", asked, tmp_path, capsys)

    def check(self, arguments, message, asked, tmp_path, capsys):
        before = sorted(tmp_path.rglob("*"))
        assert run(*arguments, "--progress", "none") == 2 if arguments[:1] == ["forecast"] else run(*arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("Error: ") and err.count("\n") == 1
        assert message in err and "Traceback" not in err
        assert asked.calls == [] and sorted(tmp_path.rglob("*")) == before


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (InputError("Found this. Do that."), 2, "Error: Found this. Do that."),
            (KeyboardInterrupt(), 130, "Interrupted. Nothing was written."),
            (MemoryError(), 2, "memory is full"),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2, "memory is full"),
            (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 2, "memory of the GPU is full"),
            (PermissionError(13, "Permission denied", "/out"), 2, "Permission denied (/out)."),
        ],
        ids=["input", "interrupt", "memory", "allocator", "gpu", "system"],
    )
    @pytest.mark.parametrize("progress", ["none", "json"])
    def test_are_said_in_a_sentence(self, scan, tmp_path, capsys, monkeypatch, error, code, message, progress):
        def failing(*_, **__):
            raise error

        monkeypatch.setattr(forecaster, "forecast", failing)
        assert run("forecast", scan, "--output", tmp_path / "out", "--progress", progress) == code
        out, err = capsys.readouterr()
        assert message in err and "Traceback" not in err
        if progress == "json":
            event = json.loads(out.splitlines()[-1])
            assert event["event"] == "error" and message.removeprefix("Error: ") in event["message"]
        assert not (tmp_path / "out").exists()

    def test_a_fault_of_the_program_is_not_hidden(self, scan, tmp_path, monkeypatch):
        def faulty(*_, **__):
            raise RuntimeError("shapes do not match")

        monkeypatch.setattr(forecaster, "forecast", faulty)
        with pytest.raises(RuntimeError, match="shapes"):
            run("forecast", scan, "--output", tmp_path / "out", "--progress", "none")

    @pytest.mark.parametrize("progress", [["--progress=json"], ["--progress", "json"]])
    def test_an_unreadable_request_is_said_as_json_too(self, capsys, progress):
        assert run("forecast", "scan.nii.gz", *progress) == 2
        assert "--output" in json.loads(capsys.readouterr().out)["message"]
