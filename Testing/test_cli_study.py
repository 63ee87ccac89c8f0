"""The command `study`: what it prints of a small table, as text and as JSON."""

import json

import nibabel as nib
import numpy as np
import pytest

from neuro4d_lib import cli

LINES = """subject,file,years,age,sex,diagnosis
P1,a.nii,0,70,F,MCI
P1,b.nii,1.5,71.5,F,LBD
P2,c.nii,0,60,M,CN
"""


@pytest.fixture
def table(tmp_path):
    for number, name in enumerate("abc"):
        nib.save(nib.Nifti1Image(np.full((4, 4, 4), number, np.int16), np.eye(4)), tmp_path / f"{name}.nii")
    (tmp_path / "scans.csv").write_text(LINES)
    return tmp_path / "scans.csv"


def test_text(table, capsys):
    assert cli.main(["study", str(table)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("scans.csv (table): 1 of 2 people can be used, with 2 visits.")
    assert "age all, sex all, education none, APOE e4 none, diagnosis 1 of 2" in text
    assert "P2: only one visit with a T1w scan; expected at least 2." in text
    assert "scans.csv:3: the diagnosis 'LBD' is not one of CN, MCI, AD, PD, MS" in text


def test_json_is_one_object(table, capsys):
    assert cli.main(["study", str(table), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"]["years_of_follow_up"] == {"least": 1.5, "median": 1.5, "most": 1.5}
    assert [visit["years"] for visit in said["subjects"][0]["visits"]] == [0, 1.5]
    assert said["unusable"] == [{"subject": "P2", "reason": "only one visit with a T1w scan; expected at least 2"}]
    assert (said["problems"][0]["place"], said["problems"][0]["line"]) == ("scans.csv:3", 3)


@pytest.mark.parametrize("arguments", [["nowhere"], ["scans.csv", "--columns", "nowhere.json"], ["empty"]])
def test_what_cannot_be_read_is_one_sentence(table, arguments, capsys, monkeypatch):
    monkeypatch.chdir(table.parent)
    (table.parent / "empty").mkdir()
    assert cli.main(["study", *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("Error: ") and len(said.err.splitlines()) == 1
