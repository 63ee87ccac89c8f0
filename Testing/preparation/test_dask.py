"""The same work handed to Dask, whose workers are processes of this machine here."""

import nibabel
import numpy as np
import pytest

from neuro4d_lib.checkpoint import SHIPPED
from neuro4d_lib.data.study import read_study
from neuro4d_lib.errors import InputError
from neuro4d_lib.preparation.config import PreparationConfig
from neuro4d_lib.preparation.jobs import RECORDS, Job
from neuro4d_lib.preparation.workers import over_dask

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'neuro4d-lib[cluster]'")


@pytest.fixture
def jobs(tmp_path):
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
    people = read_study(tmp_path / "study").subjects
    return [Job(person, tmp_path / "out", SHIPPED, PreparationConfig()) for person in people]


@pytest.mark.filterwarnings("ignore")
def test_workers_of_a_cluster_do_everybody_and_tell_what_is_wrong(jobs):
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        records = list(over_dask(jobs, lambda *_: None, cluster.scheduler_address))
    assert sorted(record["id"] for record in records) == ["sub-01", "sub-02"]
    assert all("no usable visit" in record["reason"] for record in records)
    assert all((job.output / RECORDS / f"{job.person.id}.json").is_file() for job in jobs)


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_does_not_answer_is_named(jobs):
    with pytest.raises(InputError, match="No Dask scheduler answers at nowhere"):
        list(over_dask(jobs, lambda *_: None, "nowhere"))
