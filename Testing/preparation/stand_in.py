"""A preparation that takes a moment and leaves files of the right kind, for tests of what happens around it.

python stand_in.py STUDY OUTPUT SECONDS
"""

import sys
import time
from pathlib import Path

import nibabel
import torch

from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.data.prepared import PreparedSubject
from neuro4d_lib.data.study import read_study
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.spaces import LATTICE
from neuro4d_lib.preparation import jobs
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.person import PreparedPerson
from neuro4d_lib.preparation.quality_page import write_quality_page
from neuro4d_lib.preparation.study import prepare_study

BROKEN, BUG = 1001, 1002
QUALITY = {
    "agreement_alone": 0.7, "likeness": 0.9, "agreement_before": 0.9, "agreement": 0.95, "difference_before": 0.2,
    "difference": 0.1, "largest_log_jacobian": 0.2, "folds": 0, "log_whole_brain": 0.0, "log_cortex": 0.0,
    "log_hippocampus": 0.0, "log_lateral_ventricle": 0.0,
}  # fmt: skip


def person_in(seconds):
    """In place of `prepare_person`: the first voxel of the scans decides what comes out."""

    def prepare(person, reference, volumes, config, progress):
        numbers = [int(nibabel.load(visit.scan).dataobj[0, 0, 0]) for visit in person.visits]
        if BROKEN in numbers:
            raise InputError(f"The scan {person.visits[numbers.index(BROKEN)].scan} is broken.")
        if BUG in numbers:
            raise ZeroDivisionError("division by zero")
        for part in range(5):
            progress(part / 5, "Working")
            time.sleep(seconds / 5)
        generator = torch.Generator().manual_seed(sum(numbers))
        motion = torch.randn(len(numbers), 3, *LATTICE.shape, generator=generator)
        quality = tuple({**QUALITY, "log_whole_brain": -0.01 * visit.years} for visit in person.visits)
        subject = PreparedSubject(
            id=person.id,
            sessions=tuple(visit.session for visit in person.visits),
            years=tuple(visit.years for visit in person.visits),
            covariates=tuple(visit.covariates for visit in person.visits),
            motion=motion,
            anatomy=motion[:, 0],
            quality=quality,
        )
        return PreparedPerson(subject, tuple(b"picture of %d" % number for number in numbers), (), ())

    return prepare


def prepare_all(study, output, seconds=0.0, **options):
    jobs.prepare_person, jobs._anatomy = person_in(seconds), lambda folder: (None, None)
    about = prepare_study(read_study(study), study, output, SHIPPED, PreparationConfig(), **options)
    write_quality_page(output)
    return about


if __name__ == "__main__":
    prepare_all(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
