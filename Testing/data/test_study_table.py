"""A study as a table: own names of columns, those of ADNI and OASIS-3 (made-up people), and mappings."""

import json
import sys
from pathlib import Path

import pytest

from neuro4d_lib.data.study import read_study
from neuro4d_lib.data.study_columns import columns_of
from neuro4d_lib.errors import InputError


@pytest.fixture
def table(tmp_path, write_scan):
    """Writes a table and a scan for every path that ends in .nii.gz."""

    def write(text, name="scans.csv"):
        path = tmp_path / "study" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        for word in text.replace("\t", ",").replace(";", ",").replace("\n", ",").split(","):
            if word.endswith(".nii.gz") and not word.startswith("missing"):
                write_scan(path.parent / word)
        return path

    return write


def years(study, subject=0):
    return [visit.years for visit in study.subjects[subject].visits]


class TestPlainTable:
    def test_subject_file_time_and_covariates(self, table):
        study = read_study(
            table(
                "subject,file,years,age,sex,diagnosis,FLAIR\nP1,a.nii.gz,0,70,F,MCI,f.nii.gz\nP1,b.nii.gz,1.5,71.5,F,AD,\n"
            )
        )
        (subject,) = study.subjects
        assert subject.id == "P1" and years(study) == [0, 1.5]
        assert [visit.session for visit in subject.visits] == ["visit-01", "visit-02"]
        assert subject.visits[1].covariates.as_dict() == {
            "age": 71.5, "sex": "F", "education_years": None, "apoe4": None, "diagnosis": "AD",
        }  # fmt: skip
        assert list(subject.visits[0].modalities) == ["FLAIR"] and subject.visits[1].line == 3

    @pytest.mark.parametrize(
        ("column", "first", "second"),
        [("date", "2020-01-31", "2022-01-31"), ("Scan Date", "31.01.2020", "31.01.2022"), ("age", "70.5", "72.5"),
         ("Years", "3", "5"), ("months", "0", "24"), ("days_since_first", "0", "730.5"), ("acq_time", "1/31/2020", "1/31/2022")],
    )  # fmt: skip
    def test_any_of_these_times(self, table, column, first, second):
        study = read_study(table(f"subject,file,{column}\nP1,a.nii.gz,{first}\nP1,b.nii.gz,{second}\n"))
        assert years(study) == pytest.approx([0, 2], abs=0.002)

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_separators_and_decimal_commas(self, table, separator):
        decimal = "1.5" if separator == "," else "1,5"
        lines = [["subject", "file", "years"], ["P1", "a.nii.gz", "0"], ["P1", "b.nii.gz", decimal]]
        path = table(
            "".join(separator.join(line) + "\n" for line in lines), "scans.tsv" if separator == "\t" else "scans.csv"
        )
        assert years(read_study(path)) == [0, 1.5]

    def test_several_scans_of_one_visit(self, table):
        lines = "P1,v1,a.nii.gz,2020-01-01\nP1,v1,b.nii.gz,2020-01-01\nP1,v2,c.nii.gz,2021-01-01\n"
        study = read_study(table(f"subject,session,file,date\n{lines}"))
        assert study.subjects[0].visits[0].other_scans[0].name == "b.nii.gz"
        assert study.counts["T1-weighted scans beside the chosen one"] == 1

    def test_one_age_is_that_at_the_first_visit(self, table):
        study = read_study(table("subject,file,years,age\nP1,a.nii.gz,0,70\nP1,b.nii.gz,4,70\n"))
        assert [visit.covariates.age for visit in study.subjects[0].visits] == [70, 74]

    def test_names_that_files_cannot_have(self, table):
        study = read_study(
            table("subject,file,years\n../x,a.nii.gz,0\n../x,b.nii.gz,1\n-x,c.nii.gz,0\n-x,d.nii.gz,2\n")
        )
        assert sorted(subject.id for subject in study.subjects) == ["x", "x-2"]

    def test_only_those_who_are_wanted(self, table):
        path = table("subject,file,years\nP1,a.nii.gz,0\nP1,b.nii.gz,1\nP2,c.nii.gz,0\nP2,d.nii.gz,1\n")
        assert [subject.id for subject in read_study(path, ["P2"]).subjects] == ["P2"]
        with pytest.raises(InputError, match=r"holds no subject P3\. It holds 2, such as P1"):
            read_study(path, ["P3"])


class TestFaults:
    LINES = "P1,a.nii.gz,0\nP1,b.nii.gz,1\n"

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("P1,missing.nii.gz,2", "missing.nii.gz does not exist"),
            ("P1,,2", "this line names no file"),
            (",c.nii.gz,2", "this line names no subject"),
            ("P1,c.nii.gz,2,what,is,this", "more cells than the header"),
            ("P1,c.nii.gz,soon", "the column 'years' holds 'soon'"),
            ("P1,c.nii.gz,", "the column 'years', which the other visits have, is empty"),
            ("P1,b.nii.gz,1", "is the same as line 3"),
            ("P1,b.nii.gz,3", "is the same image as that of"),
        ],
    )
    def test_a_bad_line_is_told_and_the_others_are_used(self, table, line, said):
        study = read_study(table(f"subject,file,years\n{self.LINES}P0,e.nii.gz,0\nP0,f.nii.gz,4\n{line}\n"))
        assert years(study) == [0, 4]
        assert len(study.subjects) == (1 if "same image" in said else 2)
        problems = [problem for problem in study.problems if said in problem.sentence]
        assert problems and problems[0].line in (3, 6)

    def test_lines_are_counted_through_blank_ones_and_cells_of_several_lines(self, table):
        text = 'subject,file,years,diagnosis\n\nP1,a.nii.gz,0,"odd\none"\n\nP1,b.nii.gz,1,LBD\n'
        (first, second) = read_study(table(text)).problems
        assert (first.line, second.line) == (3, 6) and "'LBD'" in second.sentence

    def test_a_quotation_mark_that_is_not_closed(self, table):
        study = read_study(table('subject,file,years,note\nP1,a.nii.gz,0,"tall\nP1,b.nii.gz,1,x\nP1,c.nii.gz,2,x\n'))
        assert years(study) == [0, 1, 2] and "quotation mark is not closed" in study.problems[0].sentence

    def test_a_template_by_columns_that_are_not_there(self, table):
        with pytest.raises(InputError, match="names a column 'PTID' that"):
            read_study(table("subject,years\nP1,0\n"), files="{PTID}/T1.nii.gz")

    def test_a_template_that_finds_nothing(self, table):
        with pytest.raises(InputError, match=r"the first looked for .*P1/T1\.nii"):
            read_study(table("subject,years\nP1,0\n"), files="{subject}/T1.nii.gz")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is empty"),
            ("\n\n\n", "is empty"),
            ("subject,file,years\n", "has no lines below its header"),
            ("a,b\n1,2\n", "has no column for the subject; it has a, b"),
            ("subject,years\nP1,0\n", "has no column for the file of a scan"),
        ],
    )
    def test_no_study(self, table, text, said):
        with pytest.raises(InputError, match=said):
            read_study(table(text))

    def test_a_spreadsheet(self, table):
        with pytest.raises(InputError, match="Save it as CSV"):
            read_study(table("x", "scans.xlsx"))


ADNI = """RID,PTID,VISCODE,EXAMDATE,DX_bl,AGE,PTGENDER,PTEDUCAT,APOE4,FLDSTRENG,DX,Years_bl,Month_bl
901,900_S_0901,bl,2006-01-10,CN,70.0,Female,16,1,1.5 Tesla MRI,CN,0,0
901,900_S_0901,m06,2006-07-12,CN,70.0,Female,16,1,1.5 Tesla MRI,,0.501,6.0
901,900_S_0901,m24,2008-01-10,CN,70.0,Female,16,1,3 Tesla MRI,Dementia,2.0,23.95
902,900_S_0902,bl,2006-01-10,LMCI,80.0,Male,12,,,MCI,0,0
"""


class TestAdni:
    @pytest.fixture
    def adni(self, table, write_scan):
        path = table(ADNI, "ADNIMERGE.csv")
        for name in ("900_S_0901/bl", "900_S_0901/m24", "900_S_0902/bl"):
            write_scan(path.parent / "scans" / name / "T1.nii.gz")
        return path

    def test_columns_of_adnimerge_with_a_template(self, adni):
        study = read_study(adni, columns="adnimerge", files="scans/{PTID}/{VISCODE}/*.nii.gz")
        (subject,) = study.subjects
        assert (subject.id, [visit.session for visit in subject.visits]) == ("900_S_0901", ["bl", "m24"])
        assert [visit.covariates.as_dict() for visit in subject.visits] == [
            {"age": 70, "sex": "F", "education_years": 16, "apoe4": 1, "diagnosis": "CN"},
            {"age": 72, "sex": "F", "education_years": 16, "apoe4": 1, "diagnosis": "AD"},
        ]
        assert subject.changes_scanner and study.counts["lines without a scan"] == 1
        assert study.unusable[0].subject == "900_S_0902"

    def test_a_list_of_scans_joined_with_it(self, adni, table, tmp_path):
        scans = table("ID,visit,path\n900_S_0901,bl,x.nii.gz\n900_S_0901,m24,y.nii.gz\n", "list.csv")
        mapping = tmp_path / "mapping.json"
        joined = {"preset": "adnimerge", "table": "study/ADNIMERGE.csv"}
        mapping.write_text(json.dumps({"columns": {"subject": "ID", "file": "path"}, "join": [joined]}))
        study = read_study(scans, columns=mapping)
        assert [visit.covariates.diagnosis for visit in study.subjects[0].visits] == ["CN", "AD"]
        assert years(study) == [0, 2]

    def test_the_template_in_the_mapping(self, adni, tmp_path):
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps({"preset": "adnimerge", "files": "scans/{PTID}/{VISCODE}/T1.nii.gz"}))
        assert years(read_study(adni, columns=mapping)) == [0, 2]

    def test_without_saying_where_the_scans_are(self, adni):
        with pytest.raises(InputError, match="say where the scans are with --files"):
            read_study(adni, columns="adnimerge")


class TestOasis3:
    @pytest.fixture
    def oasis(self, table, write_scan):
        days = (129, 757, 2430)
        lines = [f"OAS39999,OAS39999_MR_d{day:04d},{kind},Siemens,3" for day in days for kind in ("T1w", "T2w")]
        path = table(
            "subject_id,label,scan category,Manufacturer,MagneticFieldStrength\n" + "\n".join(lines),
            "OASIS3_MR_json.csv",
        )
        for day in days:
            write_scan(
                path.parent / "sub-OAS39999" / f"ses-d{day:04d}" / "anat" / f"sub-OAS39999_ses-d{day:04d}_T1w.nii.gz"
            )
        table("OASISID,AgeatEntry,GENDER,EDUC,APOE\nOAS39999,65.5,2,12,34\n", "OASIS3_demographics.csv")
        table(
            "OASISID,days_to_visit,age at visit,dx1\nOAS39999,0,65.5,Cognitively normal\nOAS39999,700,67.4,uncertain dementia\n"
            "OAS39999,2300,71.8,AD Dementia\n",
            "OASIS3_UDSb4_cdr.csv",
        )
        return path

    def test_scans_people_and_the_nearest_diagnosis(self, oasis):
        study = read_study(oasis, columns="oasis3", files="sub-{subject}/ses-{session}/anat/*_T1w.nii.gz")
        (subject,) = study.subjects
        assert [visit.session for visit in subject.visits] == ["d0129", "d0757", "d2430"]
        assert years(study) == pytest.approx([0, 628 / 365.25, 2301 / 365.25])
        assert [visit.covariates.age for visit in subject.visits] == pytest.approx(
            [65.5 + d / 365.25 for d in (129, 757, 2430)]
        )
        assert [visit.covariates.diagnosis for visit in subject.visits] == ["CN", None, "AD"]
        first = subject.visits[0].covariates
        assert (first.sex, first.education_years, first.apoe4) == ("F", 12, 1)
        assert str(subject.visits[0].scanner) == "Siemens 3 T"
        assert any("'uncertain dementia'" in problem.sentence for problem in study.problems)

    def test_without_the_other_tables(self, oasis):
        (oasis.parent / "OASIS3_demographics.csv").unlink()
        (oasis.parent / "OASIS3_UDSb4_cdr.csv").unlink()
        study = read_study(oasis, columns="oasis3", files="sub-{subject}/ses-{session}/anat/*_T1w.nii.gz")
        assert len(study.subjects[0].visits) == 3 and study.subjects[0].visits[0].covariates.age is None


class TestMappings:
    TEXT = "ID,nifti,when,SEX,stage\nP1,a.nii.gz,05/02/2020,2,stable\nP1,b.nii.gz,05/02/2021,2,prodromal\n"
    MAPPING = {  # noqa: RUF012
        "columns": {"subject": "ID", "file": "nifti", "date": "when", "diagnosis": ["stage", "dx"]},
        "values": {"sex": {"1": "M", "2": "F"}, "diagnosis": {"stable": "CN", "prod*": "MCI"}},
        "date_format": "%m/%d/%Y",
    }

    def check(self, study):
        assert [visit.covariates.diagnosis for visit in study.subjects[0].visits] == ["CN", "MCI"]
        assert study.subjects[0].visits[0].covariates.sex == "F" and years(study)[1] == pytest.approx(1, abs=0.01)
        assert not study.problems

    def test_as_json(self, table, tmp_path):
        (tmp_path / "mapping.json").write_text(json.dumps(self.MAPPING))
        self.check(read_study(table(self.TEXT), columns=tmp_path / "mapping.json"))

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
    def test_as_toml(self, table, tmp_path):
        (tmp_path / "mapping.toml").write_text(
            'date_format = "%m/%d/%Y"\n[columns]\nsubject = "ID"\nfile = "nifti"\ndate = "when"\ndiagnosis = "stage"\n'
            '[values.sex]\n1 = "M"\n2 = "F"\n[values.diagnosis]\nstable = "CN"\n"prod*" = "MCI"\n'
        )
        self.check(read_study(table(self.TEXT), columns=tmp_path / "mapping.toml"))

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ({"column": {}}, "'column' is not known"),
            ({"columns": {"subjct": "ID"}}, "'subjct' is not known. Known: .*subject"),
            ({"columns": {"subject": 3}}, "columns.subject is 3; expected a text"),
            ({"columns": []}, "columns is \\[\\]; expected an object"),
            ({"preset": "adni"}, "the preset is 'adni'; expected one of adnimerge, oasis3"),
            ({"patterns": {"days": "d("}}, "patterns.days"),
            ({"patterns": {"days": "d"}}, "no group in parentheses"),
            ({"join": [{"columns": {}}]}, "a table to join has no name"),
            ({"join": [{"table": "none.csv"}]}, "There is no table"),
            ({"within_days": "soon"}, "expected a number of days"),
            ([], "expected an object"),
        ],
    )
    def test_a_mapping_that_cannot_be_used(self, table, tmp_path, said, told):
        (tmp_path / "mapping.json").write_text(json.dumps(said))
        with pytest.raises(InputError, match=told):
            read_study(table("subject,file,years\nP1,a.nii.gz,0\nP1,b.nii.gz,1\n"), columns=tmp_path / "mapping.json")

    def test_the_one_in_the_documentation(self, tmp_path):
        page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
        (tmp_path / "mapping.json").write_text(page.partition("```json")[2].partition("```")[0])
        columns, folder = columns_of(tmp_path / "mapping.json")
        assert columns.columns["date"] == ("scan_day", "visit_day") and columns.join[0].table == "people.csv"
        assert folder == tmp_path

    def test_no_such_mapping(self, table):
        with pytest.raises(InputError, match=r"Name one \(JSON or TOML\), or one of adnimerge, oasis3"):
            read_study(table(self.TEXT), columns="adni")

    def test_a_mapping_with_a_line_that_is_no_json(self, table, tmp_path):
        (tmp_path / "mapping.json").write_text('{"columns":\n oops}')
        with pytest.raises(InputError, match=r"mapping\.json, line 2: no valid JSON"):
            read_study(table(self.TEXT), columns=tmp_path / "mapping.json")

    def test_names_of_columns_are_for_tables(self, bids):
        bids.add("sub-01", [0, 365])
        with pytest.raises(InputError, match="names of columns are for tables"):
            read_study(bids.folder, columns="adnimerge")
