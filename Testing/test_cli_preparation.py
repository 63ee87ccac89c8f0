"""The command `prepare`: what it says, refuses and leaves behind. What it finds is tested in Testing/preparation."""

import json

import nibabel
import numpy as np
import pytest

from neuro4d_lib.cli import main
from neuro4d_lib.data.study import read_study
from neuro4d_lib.errors import InputError
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.estimate import Estimate, estimate


@pytest.fixture
def study(tmp_path):
    """Two people whose scans hold no brain."""
    for number in (1, 2):
        name = f"sub-{number:02d}"
        for session in ("ses-01", "ses-02"):
            anat = tmp_path / "study" / name / session / "anat"
            anat.mkdir(parents=True)
            array = np.arange(64, dtype=np.int16).reshape(4, 4, 4) + 10 * number + int(session[-1])
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), anat / f"{name}_{session}_T1w.nii.gz")
        (tmp_path / "study" / name / f"{name}_sessions.tsv").write_text(
            "session_id\tdays_since_first\nses-01\t0\nses-02\t365\n", encoding="utf-8"
        )
    return tmp_path / "study"


class TestPrepareCommand:
    def test_tells_who_is_excluded_and_why_and_writes_the_page(self, study, tmp_path, capsys):
        out = tmp_path / "out"
        assert main(["prepare", str(study), "--output", str(out), "--workers", "1", "--progress", "json"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert events[-1]["event"] == "done" and events[-1]["used"] == 0
        assert "no usable visit" in events[-1]["excluded"]["sub-02"]
        fractions = [event["fraction"] for event in events if event["event"] == "progress"]
        assert fractions == sorted(fractions) and fractions[-1] == 1
        assert "sub-02" in (out / "qc" / "index.html").read_text(encoding="utf-8")

    def test_an_estimate_writes_nothing(self, study, tmp_path, capsys):
        assert main(["prepare", str(study), "--output", str(tmp_path / "out"), "--estimate"]) == 0
        assert "2 people with 4 visits" in capsys.readouterr().out
        assert not (tmp_path / "out").exists()

    def test_refuses_to_write_into_the_study(self, study, capsys):
        assert main(["prepare", str(study), "--output", str(study / "derivatives")]) == 2
        assert "never written to" in capsys.readouterr().err

    def test_names_an_unknown_setting(self, study, tmp_path, capsys):
        (tmp_path / "settings.json").write_text('{\n "smoothnes": 1\n}', encoding="utf-8")
        arguments = [
            "prepare",
            str(study),
            "--output",
            str(tmp_path / "out"),
            "--settings",
            str(tmp_path / "settings.json"),
        ]
        assert main(arguments) == 2
        assert "line 2" in capsys.readouterr().err

    @pytest.mark.parametrize("workers", ["0", "5000"])
    def test_refuses_a_number_of_workers_that_no_machine_has(self, study, tmp_path, workers, capsys):
        assert main(["prepare", str(study), "--output", str(tmp_path / "out"), "--workers", workers]) == 2
        assert "expected 1 to 1024" in capsys.readouterr().err


class TestEstimate:
    def test_more_workers_take_less_time_and_more_memory(self, study, tmp_path):
        one, two = (estimate(read_study(study), PreparationConfig(), tmp_path / "out", n) for n in (1, 2))
        assert two.seconds < one.seconds and two.memory_bytes == 2 * one.memory_bytes
        assert one.disk_bytes == two.disk_bytes > 4 * 600_000

    def test_the_finest_resolution_costs_time(self, study, tmp_path):
        whole, quick = PreparationConfig(), PreparationConfig().coarser()
        seconds = [estimate(read_study(study), config, tmp_path, 1).seconds for config in (quick, whole)]
        assert seconds[0] < seconds[1]

    def test_a_disk_that_is_too_small_is_refused_before_the_start(self):
        with pytest.raises(InputError, match=r"needs about 5\.00 GB of disk; 1\.00 GB"):
            Estimate(5, 0, 10, 1, 60.0, 10**9, 5 * 10**9, 10**9).check_disk()
