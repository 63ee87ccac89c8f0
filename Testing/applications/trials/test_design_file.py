import pytest

from neuro4d_lib.applications.trials.design import TrialDesign
from neuro4d_lib.applications.trials.design_file import key_lines, read_design
from neuro4d_lib.applications.trials.law import law_of
from neuro4d_lib.errors import InputError


def refusal(path):
    with pytest.raises(InputError) as refused:
        read_design(path)
    return str(refused.value)


class TestDesign:
    def test_what_stands_in_the_file_is_what_is_simulated(self, design_file):
        design, config = read_design(design_file(more="[biomarkers.sum]\nregions = ['caudate', 'putamen']\n"))
        assert isinstance(design, TrialDesign)
        assert design.visits_years == (0, 0.5, 1) and design.people() == (30, 30)
        assert design.arms[1].slowing == {"whole_brain": 0.5}
        assert design.biomarkers["sum"].combined("sum")[0][1] == (
            "left_caudate", "right_caudate", "left_putamen", "right_putamen"
        )  # fmt: skip
        assert config.scan_noise["hippocampus"] == 1.7

    def test_noise_of_the_design_replaces_the_populations(self, design_file):
        path = design_file(change={"seed = 3": "noise_factor = 2\nnoise_percent = { hippocampus = 0.5 }"})
        config = law_of(*read_design(path)).config
        assert config.scan_noise["hippocampus"] == 0.5 and config.scan_noise["caudate"] == 3.2
        assert config.shared_noise == 0.3

    def test_another_population_lies_beside_the_design(self, design_file, tmp_path):
        (tmp_path / "people.json").write_text('{"missed_visit": 0.25}', encoding="utf-8")
        _, config = read_design(design_file(change={"seed = 3": 'population = "people.json"'}))
        assert config.missed_visit == 0.25


class TestRefusals:
    """Each names the file, the line and the setting, what was found and what was expected."""

    @pytest.mark.parametrize(
        ("change", "line", "parts"),
        [
            ({"seed = 3": "sede = 3"}, 2, ["sede: unknown setting", "seed"]),
            ({"trials = 60": 'trials = "many"'}, 3, ["trials: expected int, found 'many'"]),
            ({"trials = 60": "noise_percent = { brain = 1 }"}, 3, ["noise_percent.brain: there is no such region"]),
            ({"trials = 60": "power = 1.0"}, 3, ["power: found 1; expected a share between 0 and 1"]),
            ({"trials = 60": "power = 80"}, 3, ["power: found 80", "0.8 for 80 %"]),
            ({"trials = 60": "alpha = 0"}, 3, ["alpha: found 0"]),
            ({"trials = 60": "power = nan"}, 3, ["power: found nan"]),
            ({"people_per_arm = 30": "people_per_arm = 1"}, 4, ["people_per_arm: found 1; expected 4 to"]),
            ({"[0, 0.5, 1]": "[0, 6, 12]"}, 6, ["visits_years: found 12 years", "ends at 10 years"]),
            ({"[0, 0.5, 1]": "[0, 6, 36]"}, 6, ["18 months are 1.5"]),
            ({"[0, 0.5, 1]": '[0, "6 months"]'}, 6, ["visits_years[1]: expected float, found '6 months'"]),
            ({"[0, 0.5, 1]": "[0.5, 1]"}, 6, ["the first at 0"]),
            ({"[0, 0.5, 1]": "[0, 1, 0.5]"}, 6, ["expected ascending years"]),
            ({"[0, 0.5, 1]": "[0, 1]"}, 1, ["the mixed model needs 3 visits"]),
            ({'["AD"]': '["ALS"]'}, 9, ["criteria.diagnoses: found 'ALS'; expected one of CN, MCI, AD, PD, MS"]),
            ({'["AD"]': '["AD"]\nage_years = { min = 80, max = 60 }'}, 10, ["lies above the largest"]),
            ({'["AD"]': '["AD"]\napoe4 = [3]'}, 10, ["criteria.apoe4: found 3; expected one of 0, 1, 2"]),
            ({'["AD"]': '["AD"]\nvolume_ml.brain = { max = 3 }'}, 10, ["'brain'; there is no such region"]),
            ({"whole_brain = 0.5": "whole_brain = 25"}, 16, ["slowing.whole_brain: found 25", "0.25 is 25 % slower"]),
            ({"whole_brain = 0.5": "hipocampus = 0.5"}, 16, ["arms[1].slowing.hipocampus: there is no such region"]),
            ({'name = "drug"': 'name = "placebo"'}, 15, ["a second arm is named 'placebo'"]),
            ({'name = "drug"': 'name = "drug"\nonset_years = 1'}, 16, ["nothing of it would be seen"]),
            ({'name = "drug"': 'name = "drug"\neffect = "big"'}, 16, ["expected proportional or shift"]),
            ({"hippocampus = {}": "hippocampus = { weights = { moon = 1 } }"}, 19, ["'moon'"]),
            ({"hippocampus = {}": "mine = {}"}, 19, ["biomarkers.mine: found 'mine'; there is no such region"]),
            ({"hippocampus = {}": "mine = { sd_percent_per_year = 1 }"}, 19, ["need mean_percent_per_year"]),
        ],
    )  # fmt: skip
    def test_say_what_is_wrong_with_its_line(self, design_file, change, line, parts):
        message = refusal(design_file(change=change))
        assert f"design.toml, line {line}:" in message, message
        for part in parts:
            assert part in message

    def test_a_single_arm_is_no_trial(self, tmp_path):
        (tmp_path / "design.toml").write_text("seed = 1\n", encoding="utf-8")
        assert "two or more, the first of them the control" in refusal(tmp_path / "design.toml")

    def test_what_is_no_toml_is_said_with_its_line(self, design_file):
        assert ", line 2: no valid TOML" in refusal(design_file(change={"seed = 3": "seed = = 3"}))
        assert ", line 4: no valid TOML" in refusal(design_file(change={"trials = 60": "trials = 60\nseed = 4"}))
        assert "no valid TOML" in refusal(design_file(more="\nx = [1,\n"))

    def test_a_missing_file_names_an_example(self, tmp_path):
        assert "docs/examples/trial_ad.toml" in refusal(tmp_path / "nothing.toml")

    def test_plans_that_cannot_be_compared(self, design_file):
        more = "[optimization]\nbiomarker = 'cortex'\n"
        assert "line 21: optimization.biomarker: found 'cortex'; expected one of hippocampus" in refusal(
            design_file(more=more)
        )
        more = "[optimization]\nbiomarker = 'hippocampus'\ndurations_years = [1]\nvisits_every_years = [0.3]\n"
        assert "no duration is a whole number of intervals" in refusal(design_file(more=more))


def test_lines_of_keys_in_all_forms_of_toml():
    text = '''a = """
[no.table]
b = 1
"""
[x."y z"]  # b = 2
k = [
  1, # ]
  { m = "]" },
]
p.q = 3

[[list]]
n = 1
[[list]]
[list.inner]
o = '=' '''
    lines = key_lines(text)
    assert lines == {
        "a": 1, "x.y z": 5, "x.y z.k": 6, "x.y z.p": 10, "x.y z.p.q": 10,
        "list[0]": 12, "list[0].n": 13, "list[1]": 14, "list[1].inner": 15, "list[1].inner.o": 16,
    }  # fmt: skip
