"""A prepared study: what is written is read again, and what is broken is refused by name."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from neuro4d_lib.data.prepared import (
    PreparedSubject,
    read_prepared,
    read_subject,
    subject_path,
    write_about,
    write_subject,
)
from neuro4d_lib.data.records import Covariates
from neuro4d_lib.errors import InputError
from neuro4d_lib.geometry.deformation import compose, exponentiate
from neuro4d_lib.geometry.spaces import LATTICE


def person(name="sub-01", years=(0.0, 1.25, 3.5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PreparedSubject(
        name,
        tuple(f"ses-{i + 1:02d}" for i in range(len(years))),
        tuple(years),
        tuple(Covariates(age=70 + year, sex="F", diagnosis="MCI" if year < 2 else "AD") for year in years),
        torch.randn(len(years), 3, *LATTICE.shape, generator=generator),
        torch.randn(len(years), *LATTICE.shape, generator=generator),
        tuple({"similarity": 0.9, "folds": 0.0} for _ in years),
    )


def study(folder, *people, excluded=()):
    for one in people:
        write_subject(subject_path(folder, one.id), one)
    states = {one.id: {"state": "used", "reason": ""} for one in people}
    states |= {name: {"state": "excluded", "reason": "only one visit"} for name in excluded}
    write_about(folder, {"study": "A study", "settings": {}, "versions": {}, "subjects": states})


class TestASubject:
    def test_is_read_as_it_was_written(self, tmp_path):
        written = person()
        write_subject(tmp_path / "sub-01.safetensors", written)
        read = read_subject(tmp_path / "sub-01.safetensors")
        for field in dataclasses.fields(PreparedSubject):
            before, after = getattr(written, field.name), getattr(read, field.name)
            assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after, field.name

    def test_velocity_between_visits_carries_one_to_the_other(self):
        # Motions along one field: the flow to the later visit is the flow to the earlier one, followed by that between.
        smooth = torch.zeros(3, *LATTICE.shape)
        smooth[:, 8:24, 10:30, 8:24] = torch.tensor([0.6, -0.4, 0.3])[:, None, None, None]
        moving = dataclasses.replace(person(), motion=torch.stack([year * smooth for year in (-1.0, 0.2, 2.0)]))
        between = moving.velocity(1, 2) * (moving.years[2] - moving.years[1])
        to_mm = LATTICE.spacing_mm[0]
        first, second, third = (
            exponentiate(field[None] / to_mm) for field in (*moving.motion[1:2], between, moving.motion[2])
        )
        assert (compose(second, first) - third).abs().max() < 0.01

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"motion": torch.zeros(3, 3, 8, 8, 8)}, r"motion is \(3, 3, 8, 8, 8\), expected \(3, 3, 32, 40, 32\)"),
            ({"anatomy": torch.full((3, 32, 40, 32), float("nan"))}, "anatomy holds numbers that are not finite"),
            ({"years": (0.0, 2.0, 1.0)}, "expected ascending"),
            ({"sessions": ("ses-01",)}, "1 sessions of 3 visits"),
        ],
    )
    def test_that_cannot_be_is_not_written(self, tmp_path, change, says):
        path = tmp_path / "sub-01.safetensors"
        with pytest.raises(InputError, match=says):
            write_subject(path, dataclasses.replace(person(), **change))
        assert not path.exists()

    def test_with_one_visit_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="holds 1 visits; expected at least 2"):
            write_subject(tmp_path / "sub-01.safetensors", person(years=(0.0,)))

    def test_that_is_broken_is_refused_with_its_file(self, tmp_path):
        path = tmp_path / "sub-01.safetensors"
        with pytest.raises(InputError, match="There is no file"):
            read_subject(path)
        write_subject(path, person())
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(InputError, match=r"sub-01\.safetensors cannot be read as a prepared subject"):
            read_subject(path)
        save_file({"motion": torch.zeros(1)}, path)
        with pytest.raises(InputError, match="cannot be read as a prepared subject"):
            read_subject(path)

    def test_of_another_format_or_with_impossible_covariates_is_refused(self, tmp_path):
        path, good = tmp_path / "sub-01.safetensors", person()
        header = {"format": 1, "id": good.id, "sessions": good.sessions, "years": good.years, "quality": good.quality}
        header["covariates"] = [known.as_dict() for known in good.covariates]
        tensors = {"motion": good.motion, "anatomy": good.anatomy}
        save_file(tensors, path, {"subject": json.dumps({**header, "format": 2})})
        with pytest.raises(InputError, match="has format 2, expected 1"):
            read_subject(path)
        save_file(tensors, path, {"subject": json.dumps({**header, "covariates": [{"age": 700}] * 3})})
        with pytest.raises(InputError, match=r"sub-01\.safetensors: The age is 700"):
            read_subject(path)


class TestAStudy:
    def test_gives_those_who_are_used(self, tmp_path):
        study(tmp_path, person("sub-02", seed=2), person("sub-01"), excluded=["sub-03"])
        prepared = read_prepared(tmp_path)
        assert [one.id for one in prepared.subjects] == ["sub-01", "sub-02"]
        assert prepared.about["subjects"]["sub-03"]["reason"] == "only one visit"
        assert [one.id for one in read_prepared(tmp_path, ["sub-02"]).subjects] == ["sub-02"]
        with pytest.raises(InputError, match=r"holds no sub-03 who can be used\. It holds 2"):
            read_prepared(tmp_path, ["sub-03"])

    def test_that_is_none_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="is no prepared study"):
            read_prepared(tmp_path)
        (tmp_path / "prepared.json").write_text("{", encoding="utf-8")
        with pytest.raises(InputError, match="cannot be read"):
            read_prepared(tmp_path)
        (tmp_path / "prepared.json").write_text('{"format": 7}', encoding="utf-8")
        with pytest.raises(InputError, match="has format 7, expected 1"):
            read_prepared(tmp_path)
        (tmp_path / "prepared.json").write_text('{"format": 1, "subjects": {"sub-01": {}}}', encoding="utf-8")
        with pytest.raises(InputError, match="whether it is used or excluded"):
            read_prepared(tmp_path)

    def test_with_a_missing_person_is_refused(self, tmp_path):
        study(tmp_path, person())
        subject_path(tmp_path, "sub-01").unlink()
        with pytest.raises(InputError, match="There is no file"):
            read_prepared(tmp_path)
