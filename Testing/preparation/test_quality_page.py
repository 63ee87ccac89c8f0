import json
import math
import re

import pytest

from neuro4d_lib.data.png import png
from neuro4d_lib.data.prepared import write_about
from neuro4d_lib.files import write_whole
from neuro4d_lib.preparation import jobs
from neuro4d_lib.preparation.quality_page import remarks_on, robust_distances, write_quality_page

GOOD = {
    "agreement_before": 0.9, "agreement": 0.95, "difference_before": 0.2, "difference": 0.1,
    "largest_log_jacobian": 0.2, "folds": 0,
}  # fmt: skip


@pytest.fixture
def output(tmp_path):
    """Six people; the fourth is the worst, the fifth is excluded."""
    import numpy as np

    states = {}
    for number in range(1, 7):
        name = f"sub-{number:02d}"
        states[name] = {"state": "used", "reason": ""}
        if number == 5:
            states[name] = {"state": "excluded", "reason": "The scan <x> is of a knee."}
            record = {"id": name, "state": "excluded", "reason": states[name]["reason"]}
        else:
            worse = {"agreement": 0.5, "largest_log_jacobian": 1.2} if number == 4 else {}
            visits = [
                {**GOOD, **worse, "session": f"ses-{n}", "years": 2.0 * n, "picture": f"{name}_ses-{n}.png",
                 "log_whole_brain": -0.01 * n * (1 + number / 20)}
                for n in (0, 1)
            ]  # fmt: skip
            record = {"id": name, "state": "used", "reason": "", "left_out": [], "warnings": [], "visits": visits}
            for visit in visits:
                write_whole(tmp_path / jobs.PICTURES / visit["picture"], png(np.full((4, 4, 3), 0.5)))
        write_whole(tmp_path / jobs.RECORDS / f"{name}.json", json.dumps(record))
    about = {"study": "cohort", "settings": {}, "versions": {"neuro4d_lib": "1"}, "complete": True, "subjects": states}
    write_about(tmp_path, about)
    return tmp_path


class TestQualityPage:
    def test_shows_the_worst_first_with_what_to_look_at(self, output):
        page = write_quality_page(output).read_text(encoding="utf-8")
        order = re.findall(r"<h3>(sub-\d\d)", page)
        assert order[:2] == ["sub-04", "sub-04"] and len(order) == 10
        assert "Agrees with the other visits by 0.50 only." in page
        assert "2 visits should be\nlooked at" in page

    def test_says_who_is_excluded_and_why(self, output):
        page = write_quality_page(output).read_text(encoding="utf-8")
        assert "<dt>sub-05</dt><dd>The scan &lt;x&gt; is of a knee.</dd>" in page

    def test_needs_nothing_but_itself(self, output):
        page = write_quality_page(output).read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") == 10
        assert not re.search(r"(src|href)=[\"'](?!data:)", page)
        assert "$" not in page

    def test_gives_the_change_per_year(self, output):
        assert "brain volume -0.53 % a year" in write_quality_page(output).read_text(encoding="utf-8")


class TestRemarks:
    def test_a_good_visit_has_none(self):
        assert remarks_on(GOOD, -0.5, 1.0) == []

    @pytest.mark.parametrize(
        "change, remark",
        [
            ({"agreement": 0.7, "agreement_before": 0.7}, "0.70 only"),
            ({"agreement": 0.88}, "less after bending"),
            ({"largest_log_jacobian": math.log(3)}, "a factor of 3.0"),
            ({"folds": 12}, "12 voxels"),
        ],
    )
    def test_a_bad_one_has_its_own(self, change, remark):
        (found,) = remarks_on({**GOOD, **change}, -0.5, 0.0)
        assert remark in found

    def test_a_brain_that_changes_unlike_the_others_is_named(self):
        (found,) = remarks_on(GOOD, -6.0, -8.0)
        assert "-6.00 % a year" in found


class TestRobustDistances:
    def test_one_wild_value_does_not_hide_itself(self):
        distances = robust_distances([-0.4, -0.5, -0.6, -0.45, -0.55, -20.0])
        assert distances[-1] < -50 and max(map(abs, distances[:-1])) < 2

    def test_few_people_are_not_compared(self):
        assert robust_distances([1.0, 2.0, 50.0]) == [0.0, 0.0, 0.0] and robust_distances([]) == []
