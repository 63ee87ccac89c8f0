"""compare-representations: what it hands on, what it refuses."""

import pytest

from neuro4d_lib import cli
from neuro4d_lib.applications import representation_comparison


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def compare(config, output, device, progress):
        calls.append((config, output, device.type))
        return "| method |"

    monkeypatch.setattr(representation_comparison, "compare", compare)
    return calls


def run(*arguments):
    return cli.main(["compare-representations", *map(str, arguments)])


def test_hands_everything_on_and_prints_the_table(asked, tmp_path, capsys):
    options = ["--steps", 7, "--people", 9, "--test-people", 3, "--batch", 2, "--draws", 5, "--seed", 11]
    assert run("--output", tmp_path, *options, "--device", "cpu") == 0
    config, output, device = asked[0]
    assert (config.training.steps, config.people, config.test_people, config.training.people) == (7, 9, 3, 2)
    assert (config.draws, config.seed, output, device) == (5, 11, tmp_path, "cpu")
    assert config.training.regression and config.training.held_out == 1 and config.training.scanned > 0
    out = capsys.readouterr().out
    assert out.startswith("| method |") and "no evidence about real ones" in out


def test_plain_leaves_out_all_that_helps_the_networks(asked, tmp_path):
    assert run("--output", tmp_path, "--plain", "--device", "cpu") == 0
    training = asked[0][0].training
    assert not training.regression and (training.held_out, training.scanned, training.years_jitter) == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 0], "--steps is 0; expected 1 or more"),
        (["--test-people", 1], "--test-people is 1; expected 2 or more"),
        (["--people", 4, "--batch", 5], "--batch is 5, more than the 4 people"),
        (["--device", "tpu"], "expected auto, cpu or cuda"),
    ],
)
def test_refuses_what_cannot_be_done_in_one_sentence(asked, tmp_path, capsys, options, message):
    assert run("--output", tmp_path / "new", *options) == 2
    assert message in capsys.readouterr().err and not asked and not (tmp_path / "new").exists()


def test_overwrites_no_earlier_comparison(asked, tmp_path, capsys):
    (tmp_path / "representations.csv").write_text("mine")
    assert run("--output", tmp_path) == 2
    assert "nothing is overwritten" in capsys.readouterr().err and not asked
    (tmp_path / "file").write_text("mine")
    assert run("--output", tmp_path / "file") == 2


def test_interrupted_says_what_is_kept(tmp_path, capsys, monkeypatch):
    def ended(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(representation_comparison, "compare", ended)
    assert run("--output", tmp_path, "--device", "cpu") == 130
    assert "keeps the velocity fields" in capsys.readouterr().err
