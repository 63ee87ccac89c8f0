"""Studies broken in every way that people break them: told with file and line, and everything else still used."""

import gzip
import json
import pickle
import shutil

import numpy as np
import pytest

from neuro4d_lib.data.study import read_study
from neuro4d_lib.data.study_summary import as_json, as_text
from neuro4d_lib.errors import InputError


@pytest.fixture
def three(bids):
    """sub-01 and sub-02 with three visits a year apart, sub-03 with two."""
    return bids.add("sub-01", [0, 365, 731]).add("sub-02", [0, 365, 731]).add("sub-03", [0, 365])


def scan_of(bids, name="sub-01", session="ses-02"):
    return bids.folder / name / session / "anat" / f"{name}_{session}_T1w.nii.gz"


def sessions_of(study):
    return {subject.id: [visit.session for visit in subject.visits] for subject in study.subjects}


def told(study, kind):
    """The one problem of a kind."""
    (problem,) = [problem for problem in study.problems if problem.kind == kind]
    return problem


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def unpacked(path, keep=None):
    content = gzip.decompress(path.read_bytes())
    path.unlink()
    path.with_suffix("").write_bytes(content[:keep])


FAULTS = {
    "cut short while packed": (lambda path: cut(path, 0.7), "cut short"),
    "all but the last bytes": (lambda path: cut(path, 0.95), "cut short"),
    "cut short": (lambda path: unpacked(path, 380), "is cut short: 380 bytes, its header asks for 400"),
    "empty": (lambda path: path.write_bytes(b""), "is an empty file"),
    "a web page": (lambda path: path.write_text("<html>Not found</html>"), "is no gzip file"),
    "a packed text": (lambda path: path.write_bytes(gzip.compress(b"hello" * 200)), "is no NIfTI image"),
    "a broken link": (
        lambda path: (path.unlink(), path.symlink_to("/nowhere/at/all.nii.gz")),
        "does not exist (a broken link)",
    ),
    "a link to itself": (lambda path: (path.unlink(), path.symlink_to(path.name)), "cannot be read"),
}


class TestScans:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_damaged_one_is_left_out_and_the_other_visits_are_used(self, three, fault):
        breaking, sentence = FAULTS[fault]
        breaking(scan_of(three))
        study = three.study()
        assert sessions_of(study)["sub-01"] == ["ses-01", "ses-03"]
        problem = told(study, "visits left out")
        assert sentence in problem.sentence
        assert problem.place(study.folder) == "sub-01/sub-01_sessions.tsv:3"

    def test_a_whole_scan_of_the_same_visit_takes_its_place(self, three):
        cut(scan_of(three))
        other = three.scan("sub-01", "ses-02", "run-2_T1w")
        visit = three.study().subjects[0].visits[1]
        assert visit.scan == other and visit.other_scans == (scan_of(three),)

    def test_one_slice(self, three):
        three.scan("sub-01", "ses-02", values=np.arange(24), shape=(4, 6, 1))
        assert "is no 3D image (4 x 6 x 1 voxels)" in told(three.study(), "visits left out").sentence

    def test_mixed_resolutions_are_counted(self, three):
        three.scan("sub-01", "ses-02", spacing_mm=2.0)
        study = three.study()
        assert study.counts["people whose scans differ in resolution"] == 1
        assert study.subjects[0].visits[1].voxel_mm == (2.0, 2.0, 2.0)

    def test_a_file_of_several_packed_parts_is_whole(self, three):
        path = scan_of(three)
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:]))
        assert sessions_of(three.study())["sub-01"] == ["ses-01", "ses-02", "ses-03"]


class TestDuplicates:
    def test_one_image_under_two_people_belongs_to_nobody(self, three):
        shutil.copy(scan_of(three, "sub-01"), scan_of(three, "sub-02"))
        study = three.study()
        assert sessions_of(study) == {"sub-01": ["ses-01", "ses-03"], "sub-02": ["ses-01", "ses-03"], "sub-03": ["ses-01", "ses-02"]}  # fmt: skip
        sentences = [problem.sentence for problem in study.problems]
        assert "is the same image as that of ses-02 of sub-02; one of them is misplaced" in sentences[0]
        assert "is the same image as that of ses-02 of sub-01; one of them is misplaced" in sentences[1]

    def test_one_image_packed_twice(self, three):
        content = gzip.decompress(scan_of(three, "sub-01").read_bytes())
        scan_of(three, "sub-02").write_bytes(gzip.compress(content, compresslevel=1))
        assert len(three.study().problems) == 2

    def test_one_image_at_two_visits(self, three):
        shutil.copy(scan_of(three, session="ses-01"), scan_of(three, session="ses-02"))
        study = three.study()
        reason = {one.subject: one.reason for one in study.unusable}["sub-01"]
        assert "only one usable visit" in reason and "is the same image as that of ses-02" in reason

    def test_a_visit_that_is_a_link_to_another(self, three):
        folder = three.folder / "sub-01" / "ses-02"
        shutil.rmtree(folder)
        folder.symlink_to("ses-01")
        assert sessions_of(three.study())["sub-01"] == ["ses-01", "ses-03"]

    def test_a_damaged_copy(self, three):
        values = np.random.default_rng(0).integers(0, 999, 20**3)
        three.scan("sub-01", "ses-02", values=values, shape=(20, 20, 20))
        content = bytearray(scan_of(three, "sub-01").read_bytes())
        content[len(content) // 2] ^= 255  # length and checksum at the end stay as they are
        scan_of(three, "sub-02").write_bytes(content)
        study = three.study()
        assert sessions_of(study)["sub-01"] == ["ses-01", "ses-02", "ses-03"]
        assert "is damaged: it cannot be unpacked" in told(study, "visits left out").sentence

    def test_one_image_that_is_not_packed(self, three):
        for path in three.folder.rglob("*T1w.nii.gz"):
            unpacked(path)
        assert not three.study().problems
        shutil.copy(scan_of(three, "sub-01").with_suffix(""), scan_of(three, "sub-02").with_suffix(""))
        assert len(three.study().problems) == 2

    def test_equal_size_alone_is_no_duplicate(self, three):
        assert not three.study().problems

    def test_a_person_listed_twice_alike_is_used(self, three):
        three.people.append(three.people[1])
        study = three.study()
        assert len(study.subjects) == 3
        assert told(study, "duplicates").place(study.folder) == "participants.tsv:5"

    def test_a_session_listed_twice_differently(self, three):
        table = three.folder / "sub-01" / "sub-01_sessions.tsv"
        table.write_text(table.read_text() + "ses-02\t500\n")
        study = three.study()
        assert sessions_of(study)["sub-01"] == ["ses-01", "ses-03"]
        assert told(study, "visits left out").place(study.folder) == "sub-01/sub-01_sessions.tsv:5"


class TestSwapped:
    def test_sex_that_changes_is_unknown(self, bids):
        study = bids.add("sub-01", [0, 365], extra="sex=F,M").study()
        assert [visit.covariates.sex for visit in study.subjects[0].visits] == [None, None]
        problem = told(study, "contradictions")
        assert "the sex of sub-01 is F in one line and M in this one" in problem.sentence
        assert problem.place(study.folder) == "sub-01/sub-01_sessions.tsv:3"

    def test_alleles_that_change(self, bids):
        study = bids.add("sub-01", [0, 365], extra="apoe4=0,2").study()
        assert study.subjects[0].visits[0].covariates.apoe4 is None and told(study, "contradictions").line == 3

    def test_age_that_goes_down(self, bids):
        assert "the age says -3 years since ses-01" in bids.add("sub-01", [0, 365], extra="age=70,67").reason()

    def test_a_follow_up_before_the_baseline(self, bids):
        bids.add("sub-01", [365, 0])
        for old, new in (("ses-01", "ses-baseline"), ("ses-02", "ses-later")):
            for path in (bids.folder / "sub-01" / old / "anat").iterdir():
                path.rename(path.with_name(path.name.replace(old, new)))
            (bids.folder / "sub-01" / old).rename(bids.folder / "sub-01" / new)
            table = bids.folder / "sub-01" / "sub-01_sessions.tsv"
            table.write_text(table.read_text().replace(old, new))
        assert "ses-later lies 1.00 years before ses-baseline" in bids.reason()

    def test_visits_in_another_order_than_their_numbers(self, bids):
        reason = bids.add("sub-01", [365, 0]).reason()
        assert "ses-02 lies 1.00 years before ses-01" in reason and "swapped" in reason

    def test_ten_visits_are_ordered_by_number(self, bids):
        bids.add("sub-01", [0, 100, 200, 300, 400, 500, 600, 700, 800, 900], width=1)
        assert sessions_of(bids.study())["sub-01"][-1] == "ses-10"

    def test_one_age_at_all_visits_is_that_at_the_first(self, bids):
        study = bids.add("sub-01", [0, 365.25, 1461], extra="age=70,70,70").study()
        assert [visit.covariates.age for visit in study.subjects[0].visits] == pytest.approx([70, 71, 74])


class TestTimes:
    def test_months_that_are_called_days(self, bids):
        study = bids.add("sub-01", [0, 6, 24]).study()
        assert "multiples of 6" in told(study, "doubtful units").sentence

    def test_months_that_contradict_dates(self, bids):
        bids.add("sub-01", ["2020-01-01", "2022-01-01"], "acq_time", extra="months=0,2")
        assert "the columns 'months' and 'acq_time' say times of ses-02 that lie 1.8 years apart" in bids.reason()

    def test_days_in_months(self, bids):
        assert bids.add("sub-01", [0, 600], "months").reason().endswith("are these days?")

    def test_dates_of_several_kinds(self, bids):
        times = ["2020-03-01", "01.03.2021", "1-Mar-2022", "2023/03/01", "20240301"]
        (subject,) = bids.add("sub-01", times, "acq_time").study().subjects
        assert [visit.years for visit in subject.visits] == pytest.approx([0, 1, 2, 3, 4], abs=0.01)

    def test_day_and_month_are_told_by_the_whole_study(self, bids):
        bids.add("sub-01", ["03/04/2020", "03/04/2021"], "acq_time").add(
            "sub-02", ["03/25/2020", "04/26/2021"], "acq_time"
        )
        study = bids.study()
        assert len(study.subjects) == 2 and not study.problems

    def test_day_and_month_that_cannot_be_told_are_never_guessed(self, bids):
        study = bids.add("sub-01", ["03/04/2020", "05/04/2021"], "acq_time").study()
        assert "whether day or month comes first" in told(study, "dates").sentence
        assert "no time" in study.unusable[0].reason

    @pytest.mark.parametrize("text", ["soon", "2020-13-45", "0021-03-01", "inf"])
    def test_what_is_no_date(self, bids, text):
        study = bids.add("sub-01", ["2020-03-01", "2021-03-01", text], "acq_time").study()
        assert sessions_of(study)["sub-01"] == ["ses-01", "ses-02"]
        assert any(problem.line == 4 and text in problem.sentence for problem in study.problems)

    def test_a_visit_without_time_is_left_out(self, three):
        table = three.folder / "sub-01" / "sub-01_sessions.tsv"
        table.write_text(table.read_text().replace("365", "n/a"))
        study = three.study()
        assert sessions_of(study)["sub-01"] == ["ses-01", "ses-03"]
        assert told(study, "visits left out").line == 3

    def test_the_time_of_scans_tsv(self, bids):
        bids.add("sub-01", ["x", "y"], "mood")
        for session, year in (("ses-01", 2020), ("ses-02", 2022)):
            table = bids.folder / "sub-01" / session / f"sub-01_{session}_scans.tsv"
            table.write_text(f"filename\tacq_time\nanat/sub-01_{session}_T1w.nii.gz\t{year}-05-01T10:00:00\n")
        assert bids.study().subjects[0].visits[1].years == pytest.approx(2, abs=0.01)


class TestCovariates:
    def test_an_unknown_diagnosis_is_told_once_with_its_lines(self, bids):
        bids.add("sub-01", [0, 365], row="70\tF\t16\t1\tLBD").add("sub-02", [0, 365], row="70\tF\t16\t1\tLBD")
        study = bids.study()
        problem = told(study, "unknown diagnoses")
        assert problem.place(study.folder) == "participants.tsv:2"
        assert "'LBD' is not one of CN, MCI, AD, PD, MS; it is treated as unknown" in problem.sentence
        assert problem.sentence.endswith("(also line 3)")
        assert study.subjects[0].visits[0].covariates.diagnosis is None

    @pytest.mark.parametrize(
        ("text", "count"), [("0", 0), ("1.0", 1), ("3/4", 1), ("e4/e4", 2), ("33", 0), ("E3E4", 1), ("24", 1)]
    )
    def test_alleles_as_count_or_genotype(self, bids, text, count):
        (subject,) = bids.add("sub-01", [0, 365], row=f"70\tF\t16\t{text}\tAD").study().subjects
        assert subject.visits[0].covariates.apoe4 == count

    @pytest.mark.parametrize(
        "row",
        ["700\tF\t16\t1\tAD", "70\tfemal\t16\t1\tAD", "70\tF\t99\t1\tAD", "70\tF\t16\t7\tAD", "old\tF\t16\t1\tAD"],
    )
    def test_an_impossible_value_is_unknown(self, bids, row):
        study = bids.add("sub-01", [0, 365], row=row).study()
        known = study.subjects[0].visits[0].covariates.as_dict()
        assert list(known.values()).count(None) == 1
        assert [problem.line for problem in study.problems] == [2]

    def test_codes_are_explained_by_the_dictionary_of_the_table(self, bids):
        levels = {
            "sex": {"Levels": {"1": "male", "2": "female"}},
            "diagnosis": {"Levels": {"7": {"Description": "AD"}}},
        }
        bids.add("sub-01", [0, 365], row="70\t2\t16\t1\t7")
        (bids.folder / "participants.json").write_text(json.dumps(levels))
        study = bids.study()
        known = study.subjects[0].visits[0].covariates
        assert (known.sex, known.diagnosis, study.problems) == ("F", "AD", ())

    def test_age_in_months_by_the_dictionary(self, bids):
        bids.add("sub-01", [0, 365.25], row="840\tF\t16\t1\tCN")
        (bids.folder / "participants.json").write_text('{"age": {"Units": "months"}}')
        assert [visit.covariates.age for visit in bids.study().subjects[0].visits] == pytest.approx([70, 71])

    def test_a_broken_dictionary(self, three):
        (three.folder / "participants.json").write_text('{"sex":\n oops}')
        assert told(three.study(), "sidecars").line == 2

    def test_whoever_is_in_no_table_is_used(self, bids):
        (subject,) = bids.add("sub-01", [0, 365], row=None).study().subjects
        assert set(subject.visits[0].covariates.as_dict().values()) == {None}

    def test_people_without_a_folder_are_told_once(self, three):
        three.people += ["sub-88\t1\tF\t1\t1\tAD", "sub-89\t1\tF\t1\t1\tAD"]
        assert told(three.study(), "people without a folder").line == 5


class TestScanners:
    def test_a_change_is_counted_and_the_scans_are_used(self, three):
        for session, model in (("ses-01", "TrioTim"), ("ses-02", "TrioTim"), ("ses-03", "Prisma")):
            sidecar = {"Manufacturer": "Siemens", "ManufacturersModelName": model, "MagneticFieldStrength": 3}
            scan_of(three, session=session).with_suffix("").with_suffix(".json").write_text(json.dumps(sidecar))
        study = three.study()
        assert study.subjects[0].changes_scanner and not study.subjects[1].changes_scanner
        assert study.counts["people whose scanner changed"] == 1
        assert str(study.subjects[0].visits[2].scanner) == "Siemens Prisma 3 T"

    def test_sidecars_above_are_inherited_and_the_nearest_is_believed(self, three):
        (three.folder / "T1w.json").write_text('{"Manufacturer": "GE", "MagneticFieldStrength": 1.5}')
        scan_of(three).with_suffix("").with_suffix(".json").write_text('{"Manufacturer": "Philips"}')
        visits = three.study().subjects[0].visits
        assert [str(visit.scanner) for visit in visits] == ["GE 1.5 T", "Philips 1.5 T", "GE 1.5 T"]

    def test_a_broken_sidecar(self, three):
        sidecar = scan_of(three).with_suffix("").with_suffix(".json")
        sidecar.write_text('{"Manufacturer": "GE",\n oops}')
        study = three.study()
        problem = told(study, "sidecars")
        assert (problem.file, problem.line) == (sidecar, 2) and study.subjects[0].visits[1].scanner is None


class TestSeveralScans:
    def test_first_run_without_contrast_agent(self, three):
        three.scan("sub-01", "ses-02", "run-2_T1w")
        three.scan("sub-01", "ses-02", "ce-gad_T1w")
        study = three.study()
        visit = study.subjects[0].visits[1]
        assert visit.scan == scan_of(three) and len(visit.other_scans) == 2
        assert study.counts["T1-weighted scans beside the chosen one"] == 2

    def test_the_acquisition_that_most_visits_have(self, three):
        for session in ("ses-01", "ses-02", "ses-03"):
            three.scan("sub-01", session, "acq-zz_T1w")
            if session != "ses-01":
                scan_of(three, session=session).unlink()
        names = [visit.scan.name for visit in three.study().subjects[0].visits]
        assert all("acq-zz" in name for name in names)

    def test_other_modalities_come_along(self, three):
        assert set(three.study().subjects[0].visits[0].modalities) == {"FLAIR"}

    def test_a_visit_with_flair_alone(self, three):
        scan_of(three).unlink()
        study = three.study()
        assert study.counts["visits without a T1-weighted scan"] == 1 and len(study.subjects[0].visits) == 2
        scan_of(three, session="ses-03").unlink()
        assert three.study().unusable[0].reason.endswith("(ses-02 has FLAIR only; ses-03 has FLAIR only)")


class TestNames:
    @pytest.mark.parametrize("name", ["brain.nii.gz", "sub-01_ses-02_T1w-copy.nii.gz", "sub-02_ses-02_T1w.nii.gz", "sub-01_ses-02_T1w (1).nii.gz"])  # fmt: skip
    def test_what_is_no_bids_name_is_told_and_not_used(self, three, name):
        shutil.copy(scan_of(three), scan_of(three).with_name(name))
        study = three.study()
        problem = told(study, "names")
        assert problem.file.name == name and "Expected sub-01_ses-02_T1w.nii.gz" in problem.sentence
        assert not any(visit.other_scans for visit in study.subjects[0].visits)

    def test_a_folder_that_is_not_named_for_a_subject(self, three):
        shutil.copytree(three.folder / "sub-01", three.folder / "patient_01")
        study = three.study()
        assert "not named sub-" in told(study, "names").sentence and len(study.subjects) == 3

    def test_a_session_that_is_not_named_for_it(self, three):
        (three.folder / "sub-01" / "ses-02").rename(three.folder / "sub-01" / "Visit2")
        problem = told(three.study(), "names")
        assert "Visit2 holds images but is not named ses-" in problem.sentence and problem.subject == "sub-01"

    def test_a_scan_outside_of_anat(self, three):
        scan_of(three).rename(scan_of(three).parents[1] / scan_of(three).name)
        assert "lies outside of a folder anat" in told(three.study(), "names").sentence

    @pytest.mark.parametrize("suffix", ["T1", "MPRAGE", "t1w"])
    def test_a_scan_with_another_suffix(self, three, suffix):
        scan_of(three).rename(scan_of(three).with_name(f"sub-01_ses-02_{suffix}.nii.gz"))
        assert f"sub-01_ses-02_{suffix}.nii.gz is not named" in told(three.study(), "names").sentence

    def test_hidden_files_are_nothing(self, three):
        scan_of(three).with_name("._sub-01_ses-02_T1w.nii.gz").write_bytes(b"Mac OS X")
        assert not three.study().problems

    def test_derivatives_are_not_read(self, three):
        shutil.copytree(three.folder / "sub-01", three.folder / "derivatives" / "tool" / "sub-01")
        study = three.study()
        assert len(study.subjects) == 3 and not study.problems


class TestLinks:
    def test_loops_are_told_and_not_followed(self, three):
        (three.folder / "sub-01" / "loop").symlink_to("..")
        (three.folder / "sub-01" / "ses-09").symlink_to("..")
        (three.folder / "sub-77").symlink_to(".")
        (three.folder / "itself").symlink_to("itself")
        study = three.study()
        places = sorted(problem.place(study.folder) for problem in study.problems if problem.kind == "link loops")
        assert places == ["sub-01/loop", "sub-01/ses-09", "sub-77"]
        assert len(study.subjects) == 3

    def test_a_person_may_lie_elsewhere(self, three, tmp_path):
        shutil.move(three.folder / "sub-03", tmp_path / "elsewhere")
        (three.folder / "sub-03").symlink_to(tmp_path / "elsewhere")
        assert len(three.study().subjects) == 3


class TestTables:
    @pytest.mark.parametrize("content", [b"", b"\n\n", b"PK\x03\x04\0\0", b"ses\0sion"])
    def test_a_table_that_cannot_be_read_costs_only_whom_it_concerns(self, three, content):
        (three.folder / "sub-01" / "sub-01_sessions.tsv").write_bytes(content)
        study = three.study()
        assert [subject.id for subject in study.subjects] == ["sub-02", "sub-03"]
        assert told(study, "unreadable tables").place(study.folder) == "sub-01/sub-01_sessions.tsv:1"

    def test_commas_in_a_table_that_should_have_tabs(self, three):
        table = three.folder / "sub-01" / "sub-01_sessions.tsv"
        table.write_text(table.read_text().replace("\t", ","))
        study = three.study()
        assert len(study.subjects) == 3 and told(study, "columns").file == table

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
    def test_encodings_and_line_endings(self, three, encoding, ending):
        three.study()
        path = three.folder / "participants.tsv"
        path.write_bytes(ending.join(three.people).encode(encoding))
        study = read_study(three.folder)
        assert not study.problems and study.subjects[2].visits[0].covariates.diagnosis == "MCI"

    def test_a_line_with_too_many_cells(self, three):
        three.people.append("sub-09\t1\tF\t1\t1\tAD\tmore")
        assert told(three.study(), "broken lines").line == 5

    def test_the_code_page_of_a_spreadsheet(self, three):
        three.study()
        path = three.folder / "participants.tsv"
        path.write_bytes(path.read_text().replace("MCI", "Müller").encode("cp1252"))
        assert "'Müller'" in told(read_study(three.folder), "unknown diagnoses").sentence


class TestSafety:
    def test_a_pickle_in_the_study_is_not_opened(self, three, tmp_path):
        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "sprung"), "w"))

        (three.folder / ".ancpbids-dataset.pickle").write_bytes(pickle.dumps(Trap()))
        assert len(three.study().subjects) == 3 and not (tmp_path / "sprung").exists()

    def test_nothing_is_written_to_a_study(self, three):
        three.study()
        folders = [three.folder, *(path for path in three.folder.rglob("*") if path.is_dir())]

        def listing():
            return sorted(
                (str(path), path.lstat().st_size, path.lstat().st_mtime_ns)
                for path in (*three.folder.rglob("*"), *folders)
            )

        before = listing()
        for path in three.folder.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        three.folder.chmod(0o555)
        try:
            assert len(read_study(three.folder).subjects) == 3
        finally:
            for path in folders:
                path.chmod(0o755)
        assert listing() == before

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(InputError, match="it is empty"):
            read_study(tmp_path)


class TestAnything:
    CELLS = ("", "n/a", "nan", "1e999", "-1", "9" * 30, "soon", "00/00/0000", "0001-01-01", '"', "../../x", "~foo/x", "*", "{x}", "ses-01")  # fmt: skip

    def damage(self, path, rng):
        """Cut it, overwrite it with noise, or change one cell."""
        content = path.read_bytes()
        kind = rng.integers(4)
        if kind == 0:
            path.write_bytes(content[: rng.integers(len(content))])
        elif kind == 1:
            path.write_bytes(rng.bytes(60))
        elif kind == 2 and path.suffix == ".gz":
            image = bytearray(gzip.decompress(content))
            image[rng.integers(348)] = rng.integers(256)
            path.write_bytes(gzip.compress(bytes(image)))
        else:
            separator = b"," if path.suffix == ".csv" else b"\t"
            cells = content.split(separator)
            cells[rng.integers(len(cells))] = str(rng.choice(self.CELLS)).encode()
            path.write_bytes(separator.join(cells))

    @pytest.mark.parametrize("seed", range(20))
    def test_random_damage_is_told_or_refused_and_times_stay_in_order(self, three, seed):
        three.study()
        scans = [path.relative_to(three.folder) for path in sorted(three.folder.rglob("*T1w.nii.gz"))]
        lines = [f"{scan.parts[0]},{scan},{int(scan.parts[1][-2:])},70,F,AD" for scan in scans]
        (three.folder / "scans.csv").write_text("subject,file,years,age,sex,diagnosis\n" + "\n".join(lines) + "\n")
        files = sorted(path for path in three.folder.rglob("*") if path.is_file())
        rng = np.random.default_rng(seed)
        for path in rng.choice(np.array(files, dtype=object), 4, replace=False):
            self.damage(path, rng)
        for source in (three.folder, three.folder / "scans.csv"):
            try:
                study = read_study(source)
            except InputError as problem:
                assert "\n" not in str(problem)
                continue
            assert json.dumps(as_json(study, "study")) and as_text(study, "study")
            assert {one.subject for one in study.unusable}.isdisjoint(one.id for one in study.subjects)
            for subject in study.subjects:
                years = [visit.years for visit in subject.visits]
                assert len(years) > 1 and years[0] == 0 and all(np.diff(years) > 0) and years[-1] <= 40
