"""People that the tests of preparation share: simulated scans of known motion, and the reference that they came from."""

import csv

import numpy as np
import pytest
import torch

from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.data.images import write_like
from neuro4d_lib.data.population_config import ScannerSettings
from neuro4d_lib.data.reference import Reference
from neuro4d_lib.data.simulation import simulate_scan, smooth_random_motion

SETTINGS = ScannerSettings(spacing_mm=(3, 3, 3), contrast=0)


@pytest.fixture(scope="session")
def anatomy():
    return Reference.load(SHIPPED)


@pytest.fixture(scope="session")
def shape_mm(anatomy):
    return 0.7 * smooth_random_motion(anatomy, torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def motion_mm(anatomy):
    return 0.6 * smooth_random_motion(anatomy, torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def scans(anatomy, shape_mm, motion_mm):
    """Two visits, and the motion between them is `motion_mm`."""
    return [
        simulate_scan(anatomy, shape_mm, part * motion_mm, SETTINGS, torch.Generator().manual_seed(seed))
        for part, seed in ((0.0, 3), (1.0, 4))
    ]


@pytest.fixture(scope="session")
def study_folder(scans, tmp_path_factory):
    """One person with two visits, as a BIDS data set."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, {"sub-01": [scan.image for scan in scans]})
    return folder


def write_study(folder, people):
    """A BIDS data set of images, a year apart."""
    for name, images in people.items():
        rows = []
        for number, image in enumerate(images, start=1):
            session = f"ses-{number:02d}"
            anat = folder / name / session / "anat"
            anat.mkdir(parents=True)
            write_like(image, np.asarray(image.array), anat / f"{name}_{session}_T1w.nii.gz")
            rows.append((session, 365 * (number - 1)))
        _write_table(folder / name / f"{name}_sessions.tsv", ("session_id", "days_since_first"), rows)
    _write_table(folder / "participants.tsv", ("participant_id", "age"), [(name, 70) for name in people])


def _write_table(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([header, *rows])
