import dataclasses
import json
import re

import nibabel
import numpy as np
import pytest
from safetensors.torch import load_file

from neuro4d_lib.data.cohort import TRUTH, write_cohort
from neuro4d_lib.data.lesions import Lesion, subjects_with_lesions
from neuro4d_lib.data.population_config import LesionConfig, PopulationConfig, ScannerSettings
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.data.regions import DRIVEN, REGIONS
from neuro4d_lib.data.simulation import Subject
from neuro4d_lib.errors import InputError

pytestmark = pytest.mark.slow
COARSE = PopulationConfig(scanner=ScannerSettings(spacing_mm=(4.0, 4.0, 4.0)))
ZERO = np.zeros(len(DRIVEN))
HEALTHY = Subject("C1", Covariates(), ZERO, ZERO - 0.005)
PATIENT = Subject(
    "M2",
    Covariates(age=40.5, sex="F", diagnosis="MS"),
    ZERO,
    ZERO - 0.01,
    visit_years=(0.5, 1.5),
    lesions=(Lesion((29, -8, 33), 5, appears_years=1),),
    head_size=1.05,
)


@pytest.fixture(scope="module")
def cohort(simulator, tmp_path_factory):
    told = []
    folder = tmp_path_factory.mktemp("cohort") / "bids"
    write_cohort(simulator, [HEALTHY, PATIENT], folder, COARSE, seed=1, progress=lambda f, m: told.append((f, m)))
    assert [fraction for fraction, _ in told] == [0, 0.5, 1]
    return folder


class TestFiles:
    def test_have_valid_bids_names(self, cohort):
        names = {
            r"dataset_description\.json|README|(participants|sessions)\.(tsv|json)",
            r"sub-(\w+)/sub-\1_sessions\.tsv",
            r"sub-(\w+)/ses-(\d+)/anat/sub-\1_ses-\2_T1w\.(nii\.gz|json)",
            r"derivatives/truth/(dataset_description\.json|dseg\.tsv)",
            r"derivatives/truth/sub-(\w+)/sub-\1_(truth\.json|motion\.safetensors)",
            r"derivatives/truth/sub-(\w+)/ses-(\d+)/anat/sub-\1_ses-\2_(dseg|label-lesion_mask)\.nii\.gz",
        }
        files = [str(path.relative_to(cohort).as_posix()) for path in cohort.rglob("*") if path.is_file()]
        assert len(files) == 24
        for file in files:
            assert any(re.fullmatch(name, file) for name in names), file

    def test_tables_state_age_and_days_and_what_is_unknown(self, cohort):
        people = (cohort / "participants.tsv").read_text(encoding="utf-8").splitlines()
        assert people[0].split("\t") == ["participant_id", "age", "sex", "education_years", "apoe4", "diagnosis"]
        assert people[1].split("\t") == ["sub-C1", *["n/a"] * 5]
        assert people[2].split("\t") == ["sub-M2", "41", "F", "n/a", "n/a", "MS"]
        visits = (cohort / "sub-M2" / "sub-M2_sessions.tsv").read_text(encoding="utf-8").splitlines()
        assert visits == ["session_id\tdays_since_first\tage", "ses-01\t0\t41", "ses-02\t365\t42"]

    def test_scans_are_whole_numbers_on_the_voxels_asked_for(self, cohort):
        scan = nibabel.load(cohort / "sub-M2/ses-02/anat/sub-M2_ses-02_T1w.nii.gz")
        labels = nibabel.load(cohort / TRUTH / "sub-M2/ses-02/anat/sub-M2_ses-02_dseg.nii.gz")
        assert scan.get_data_dtype() == np.int16 and scan.header.get_zooms() == (4, 4, 4)
        np.testing.assert_allclose(scan.affine, labels.affine)
        assert set(np.unique(labels.dataobj)) <= set(range(len(REGIONS) + 1))

    def test_a_lesion_is_there_when_it_should(self, cohort):
        masks = sorted((cohort / TRUTH / "sub-M2").rglob("*_label-lesion_mask.nii.gz"))
        sizes = [np.asarray(nibabel.load(mask).dataobj).sum() for mask in masks]
        assert sizes[0] == 0 and sizes[1] > 2


class TestTruth:
    def test_rates_and_volumes_agree(self, cohort):
        truth = json.loads((cohort / TRUTH / "sub-M2/sub-M2_truth.json").read_text(encoding="utf-8"))
        before, after = (truth["visits"][session]["volumes_mm3"] for session in ("ses-01", "ses-02"))
        for region in DRIVEN:
            change = np.log(after[region.name] / before[region.name])
            assert change == pytest.approx(truth["rate_per_year"][region.name], abs=0.003)

    def test_motions_are_control_points_of_the_lattice(self, cohort):
        tensors = load_file(cohort / TRUTH / "sub-M2/sub-M2_motion.safetensors")
        assert {name: tuple(value.shape) for name, value in tensors.items()} == dict.fromkeys(
            ("psi", "ses-01", "ses-02"), (3, 32, 40, 32)
        )


class TestWriting:
    def test_a_subject_does_not_depend_on_the_others(self, simulator, cohort, tmp_path):
        write_cohort(simulator, [HEALTHY], tmp_path / "one", COARSE, seed=1)
        name = "sub-C1/ses-01/anat/sub-C1_ses-01_T1w.nii.gz"
        assert (tmp_path / "one" / name).read_bytes() == (cohort / name).read_bytes()

    def test_refuses_a_folder_with_something_in_it(self, simulator, tmp_path):
        (tmp_path / "note.txt").write_text("mine")
        with pytest.raises(InputError, match="not empty"):
            write_cohort(simulator, [HEALTHY], tmp_path, COARSE)
        assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]

    def test_leaves_nothing_behind_when_it_fails(self, simulator, tmp_path):
        def stop(fraction, message):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_cohort(simulator, [HEALTHY], tmp_path / "bids", COARSE, progress=stop)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["a_b", "", "Zoë"])
    def test_names_an_id_that_bids_does_not_allow(self, simulator, tmp_path, name):
        with pytest.raises(InputError, match="letters and digits"):
            write_cohort(simulator, [Subject(name, Covariates(), ZERO, ZERO)], tmp_path / "bids", COARSE)

    def test_refuses_two_of_a_name_and_visits_out_of_order(self, simulator, tmp_path):
        with pytest.raises(InputError, match="same id"):
            write_cohort(simulator, [HEALTHY, HEALTHY], tmp_path / "bids", COARSE)
        with pytest.raises(InputError, match="ascending"):
            mixed_up = Subject("X", Covariates(), ZERO, ZERO, visit_years=(1, 0))
            write_cohort(simulator, [mixed_up], tmp_path / "bids", COARSE)


class TestLesions:
    def test_people_with_ms_get_them_by_the_law_that_the_data_set_states(self, simulator, tmp_path):
        ill = Subject("M1", Covariates(age=40, diagnosis="MS"), ZERO, ZERO, visit_years=(0.0, 3.0))
        law = LesionConfig(new_per_year=6.0, rate_shape=1000.0)
        write_cohort(simulator, [ill], tmp_path / "bids", dataclasses.replace(COARSE, lesions=law), seed=2)
        truth = json.loads((tmp_path / "bids" / TRUTH / "sub-M1/sub-M1_truth.json").read_text(encoding="utf-8"))
        drawn = subjects_with_lesions([ill], simulator.reference, law, seed=2)[0].lesions
        assert [lesion["appears_years"] for lesion in truth["lesions"]] == [lesion.appears_years for lesion in drawn]
        before, after = (truth["visits"][session]["lesions_mm3"] for session in ("ses-01", "ses-02"))
        masks = sorted((tmp_path / "bids" / TRUTH / "sub-M1").rglob("*_label-lesion_mask.nii.gz"))
        sizes = [np.asarray(nibabel.load(mask).dataobj).sum() * 64 for mask in masks]
        assert 0 < before < after and sizes == [before, after]
        stated = json.loads((tmp_path / "bids/dataset_description.json").read_text(encoding="utf-8"))["Population"][
            "lesions"
        ]
        assert (stated["new_per_year"], stated["radius_mm"]) == (6.0, law.radius_mm)
