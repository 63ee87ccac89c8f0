"""The configuration file: what it may say, and how a mistake in it is named."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from neuro4d_lib.config import key_lines, read_settings, to_dict
from neuro4d_lib.errors import InputError
from neuro4d_lib.model import ModelConfig
from neuro4d_lib.training.config import RunConfig, TrainingConfig


def read(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, RunConfig)


class TestWhatItSays:
    def test_takes_the_place_of_the_defaults(self, tmp_path):
        run = read(
            tmp_path, '{"training": {"steps": 12, "learning_rate": 1, "future_frames": [1], "earlier_visits": [3]}}'
        )
        assert run.training == TrainingConfig(steps=12, learning_rate=1.0, future_frames=(1,), earlier_visits=(3,))
        assert run.model == ModelConfig()

    def test_what_was_written_is_read_back(self, tmp_path):
        run = RunConfig(TrainingConfig(seed=4, all_known=0.25), ModelConfig(widths=(8, 16)))
        assert read(tmp_path, json.dumps(to_dict(run), indent=1)) == run


class TestAMistake:
    @pytest.mark.parametrize(
        ("text", "line", "says"),
        [
            ('{\n "training": {\n  "seed": 1,\n  "step": 5\n }\n}', 4, r"training\.step: unknown setting.*steps"),
            (
                '{"training": {},\n "modle": {}}',
                2,
                "modle: unknown setting. Known settings: model, population, training",
            ),
            ('{"training": {\n"steps":\n "many"}}', 2, r"training\.steps: expected int, found 'many'"),
            ('{"training": {"steps": 5.5}}', 1, r"training\.steps: expected int, found 5\.5"),
            ('{"training": {\n "steps": true}}', 2, r"training\.steps: expected int, found True"),
            ('{\n"model": {"widths":\n [24,\n "48",\n 72]}}', 4, r"model\.widths\[1\]: expected int, found '48'"),
            ('{"model": {\n\n"lattice": [8, 8]}}', 3, r"model\.lattice: expected 3 values, found 2"),
            ('{\n "training": [1]}', 2, r"training: expected a table of settings, found \[1\]"),
            ('{"training": {\n "steps": -1}}', 2, r"training\.steps: expected 0 or more, found -1"),
            ('{"training": {\n "people": 10,\n "parts": 4}}', 3, r"training\.parts: 10 people cannot be drawn in 4"),
            (
                '{"training": {\n "earlier_visits": [0, 9]}}',
                2,
                r"training\.earlier_visits: expected numbers from 0 to 7",
            ),
            ('{"training": {\n "precision": "half"}}', 2, r"training\.precision: expected one of auto, float32"),
            ('{"training": {\n "steps": 5,\n "steps": 6}}', 3, r"training\.steps stands there a second time.*line 2"),
            ('{"training": {\n "steps": 5,\n}}', 3, "no valid JSON"),
            ("", 1, "no valid JSON"),
        ],
    )
    def test_is_named_with_its_line(self, tmp_path, text, line, says):
        with pytest.raises(InputError, match=f"settings.json, line {line}: .*{says}"):
            read(tmp_path, text)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\xff\xfe\x00", "no text file"),
            (b'{"training": {"learning_rate": NaN}}', "NaN is no value"),
            (b"[]", "table"),
        ],
    )
    def test_in_the_whole_file_is_said(self, tmp_path, content, says):
        path = tmp_path / "settings.json"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"settings.json.*{says}"):
            read_settings(path, RunConfig)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no configuration file"):
            read_settings(tmp_path / "none.json", RunConfig)


def test_lines_are_found_in_any_layout_and_with_any_text():
    text = '{"a": {"b{": "x,\\"]:{",\n\n"c": [1, [2,\n{"d": null}], -3.5e2]\n}, "e": true,\n "ä\\u0041": {}, "f": []}'
    json.loads(text)
    expected = {
        "a": 1, "a.b{": 1, "a.c": 3, "a.c[0]": 3, "a.c[1]": 3, "a.c[1][0]": 3, "a.c[1][1]": 4, "a.c[1][1].d": 4,
        "a.c[2]": 4, "e": 5, "äA": 6, "f": 6,
    }  # fmt: skip
    assert {place: lines[0] for place, lines in key_lines(text).items()} == expected


def test_the_manual_states_every_setting_with_its_default():
    manual = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S.*?) \| ", manual, re.MULTILINE))
    for field in dataclasses.fields(TrainingConfig):
        stated = rows[field.name] if field.name == "precision" else json.loads(rows[field.name])
        assert stated == json.loads(json.dumps(field.default)), field.name
        assert f"| {field.metadata['help']} |" in manual
