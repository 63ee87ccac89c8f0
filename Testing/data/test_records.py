"""What is known of a person."""

import json

import numpy as np
import pytest

from neuro4d_lib.data.records import Covariates
from neuro4d_lib.errors import InputError


def test_numbers_of_numpy_become_plain_ones():
    person = Covariates(age=np.int64(70), education_years=np.float32(12.5), apoe4=np.int64(1))
    assert json.loads(json.dumps(person.as_dict()))["age"] == 70
    assert (person.education_years, person.apoe4) == (12.5, 1)


@pytest.mark.parametrize("wrong", [{"age": np.float32("nan")}, {"age": np.int64(7)}, {"education_years": True}])
def test_numbers_that_nobody_has_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        Covariates(**wrong)
