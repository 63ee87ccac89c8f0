"""The anatomy that the tests of the simulation share, and small studies on disk."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neuro4d_lib.data import rate_fields, reference, regions
from neuro4d_lib.data.simulation import Simulator
from neuro4d_lib.data.study import read_study


@pytest.fixture(scope="session")
def anatomy():
    return reference.build_reference()


@pytest.fixture(scope="session")
def fields(anatomy, request):
    """The rate fields; solving for them takes long, so they are kept until the code that makes them changes."""
    code = b"".join(Path(module.__file__).read_bytes() for module in (rate_fields, reference, regions))
    file = request.config.cache.mkdir("rate_fields") / f"{hashlib.sha256(code).hexdigest()[:16]}.safetensors"
    if not file.exists():
        rate_fields.rate_fields(anatomy).save(part := file.with_suffix(f".{id(anatomy)}"))
        part.replace(file)
    return rate_fields.RateFields.load(file, anatomy)


@pytest.fixture(scope="session")
def simulator(anatomy, fields):
    return Simulator.of(anatomy, fields)


_random = np.random.default_rng(0)


def scan_file(path, values=None, shape=(2, 3, 4), spacing_mm=1.0):
    """A NIfTI file of 24 voxels; of values that no other file has, unless they are given."""
    values = _random.integers(0, 30_000, 24) if values is None else values
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(values, np.int16).reshape(shape), np.diag([spacing_mm] * 3 + [1]))
    nib.save(image, path)
    return path


class BidsOnDisk:
    """Folders, tables and small scans."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.people = ["participant_id\tage\tsex\teducation_years\tapoe4\tdiagnosis"]

    def add(self, name, times, column="days_since_first", scans=None, row="70\tF\t16\t1\tMCI", extra="", width=2):
        """A person with a visit at each of the times; `extra` is a further column of the sessions, as name=value,value."""
        if row is not None:
            self.people.append(f"{name}\t{row}")
        title, _, values = extra.partition("=")
        lines = ["\t".join(["session_id", column, *([title] if title else [])])]
        for i, time in enumerate(times, start=1):
            session = f"ses-{i:0{width}d}"
            lines.append("\t".join([session, str(time), *([values.split(",")[i - 1]] if title else [])]))
            if scans is None or i in scans:
                self.scan(name, session)
                self.scan(name, session, "FLAIR")
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / f"{name}_sessions.tsv").write_text("\n".join(lines) + "\n")
        return self

    def scan(self, name, session, ending="T1w", **options):
        return scan_file(self.folder / name / session / "anat" / f"{name}_{session}_{ending}.nii.gz", **options)

    def study(self, **options):
        (self.folder / "participants.tsv").write_text("\n".join(self.people) + "\n")
        return read_study(self.folder, **options)

    def reason(self):
        study = self.study()
        assert not study.subjects
        return study.unusable[0].reason


@pytest.fixture
def bids(tmp_path):
    return BidsOnDisk(tmp_path / "bids")


@pytest.fixture
def write_scan():
    return scan_file
