"""When simulated people are scanned and what is known of them; no scan is made."""

import dataclasses

import numpy as np
import pytest
import torch

from neuro4d_lib.data.cohort import _write_tables
from neuro4d_lib.data.population import Population, covariate_values
from neuro4d_lib.data.population_config import PopulationConfig
from neuro4d_lib.data.records import DIAGNOSES
from neuro4d_lib.data.regions import DRIVEN
from neuro4d_lib.data.simulated_subjects import simulated_subjects, visit_years

CONFIG = PopulationConfig()
VENTRICLES = [i for i, region in enumerate(DRIVEN) if region.group == "lateral_ventricle"]


def changed(**values):
    return dataclasses.replace(CONFIG, **values)


def schedules(config, diagnosis=0, most=8, count=3000):
    g = torch.Generator().manual_seed(0)
    return [visit_years(config, diagnosis, most, g) for _ in range(count)]


@pytest.fixture(scope="module")
def subjects():
    return simulated_subjects(1500, 8, seed=3)


class TestVisits:
    def test_are_irregular_one_to_eight_within_ten_years(self):
        drawn = schedules(CONFIG)
        assert {len(years) for years in drawn} == set(range(1, 9))
        gaps = np.concatenate([np.diff(years) for years in drawn])
        assert all(years[0] == 0 for years in drawn)
        assert 0.249 <= gaps.min() < 0.26 and max(years[-1] for years in drawn) <= 10
        assert gaps.std() > 0.5

    def test_number_and_spacing_are_uniform_where_nobody_is_lost(self):
        drawn = schedules(changed(missed_visit=0.0, dropout_per_year=(1e-9,) * 5, longest_years=99.0), most=4)
        counts = np.bincount([len(years) for years in drawn], minlength=5)[1:] / len(drawn)
        np.testing.assert_allclose(counts, 0.25, atol=4 * (0.25 * 0.75 / 3000) ** 0.5)
        gaps = np.concatenate([np.diff(years) for years in drawn])
        assert gaps.mean() == pytest.approx((0.25 + 2.5) / 2, abs=4 * 2.25 / 12**0.5 / len(gaps) ** 0.5)

    def test_are_missed_as_often_as_configured(self):
        nobody_leaves = changed(dropout_per_year=(1e-9,) * 5, longest_years=99.0)
        all_kept = sum(len(years) - 1 for years in schedules(dataclasses.replace(nobody_leaves, missed_visit=0.0)))
        kept = sum(len(years) - 1 for years in schedules(nobody_leaves))
        assert kept / all_kept == pytest.approx(0.9, abs=4 * (0.09 / all_kept) ** 0.5)

    @pytest.mark.parametrize("diagnosis", [0, 2])
    def test_end_at_the_configured_rate_of_leaving(self, diagnosis):
        """The share of planned visits at about five years that still take place."""
        settings = changed(missed_visit=0.0, visit_gap_years=(5.0, 5.0001))
        drawn = schedules(settings, diagnosis, most=2)
        expected = 0.5 * np.exp(-5 * CONFIG.dropout_per_year[diagnosis])
        assert np.mean([len(years) == 2 for years in drawn]) == pytest.approx(expected, abs=4 * (0.25 / 3000) ** 0.5)


class TestSubjects:
    def test_are_of_the_population(self, subjects):
        d = np.array([DIAGNOSES.index(subject.covariates.diagnosis) for subject in subjects])
        for i, share in enumerate(CONFIG.diagnosis_shares):
            assert np.mean(d == i) == pytest.approx(share, abs=4 * (share / 1500) ** 0.5)
        people = torch.stack([covariate_values(subject.covariates) for subject in subjects])
        sd = Population().rate_sd[people[:, 4].long()].numpy()
        z = (np.stack([subject.rate for subject in subjects]) - Population().rate_given(people).numpy()) / sd
        assert np.abs(z.mean(axis=0)).max() < 4.5 / 1500**0.5
        assert z.std() == pytest.approx(1, abs=0.03)

    def test_have_a_course_as_uneven_as_configured_and_none_at_the_first_scan(self, subjects):
        """Beyond rate and acceleration: that share of the spread of rates, times the years."""
        people = torch.stack([covariate_values(subject.covariates) for subject in subjects])
        sd = Population().rate_sd[people[:, 4].long()].numpy()
        z = []
        for subject, spread in zip(subjects, sd, strict=True):
            assert not subject.log_change(0.0).any()
            for year in subject.visit_years[1:]:
                smooth = subject.rate * year + subject.acceleration * year**2 / 2
                z.append((subject.log_change(year).numpy() - smooth) / (spread * year))
        assert np.std(z) == pytest.approx(CONFIG.unevenness, rel=0.03)

    def test_have_covariates_that_are_unknown_but_true_where_known(self, subjects):
        truth = torch.stack([covariate_values(subject.covariates) for subject in subjects])
        known = torch.stack([covariate_values(subject.known) for subject in subjects])
        missing = known.isnan()
        assert not truth.isnan().any() and torch.equal(known[~missing], truth[~missing])
        expected = 1 - (1 - CONFIG.missing) * (1 - CONFIG.nothing_known)
        assert float(missing.double().mean()) == pytest.approx(expected, abs=0.02)

    def test_leave_room_for_the_brain_at_every_scan(self, subjects):
        largest = max(
            float((subject.log_change(year).numpy() + subject.state)[VENTRICLES].max())
            for subject in subjects
            for year in subject.visit_years
        )
        assert 0.8 * CONFIG.largest_ventricles < largest <= CONFIG.largest_ventricles

    def test_differ_in_head_size_by_sex(self, subjects):
        for sex, mean in zip("FM", CONFIG.head_size, strict=True):
            sizes = np.array([subject.head_size for subject in subjects if subject.covariates.sex == sex])
            assert sizes.mean() == pytest.approx(mean, abs=4 * CONFIG.head_size_sd / len(sizes) ** 0.5)
            assert sizes.std() == pytest.approx(CONFIG.head_size_sd, rel=0.12)

    def test_are_the_same_whoever_else_is_drawn(self, subjects):
        alone, among = simulated_subjects(2, 8, seed=3)[1], subjects[1]
        assert (alone.covariates, alone.known, alone.visit_years) == (among.covariates, among.known, among.visit_years)
        np.testing.assert_array_equal(alone.rate, among.rate)

    def test_stand_in_the_tables_with_what_is_known(self, subjects, tmp_path):
        _write_tables(subjects[:200], tmp_path)
        lines = (tmp_path / "participants.tsv").read_text(encoding="utf-8").splitlines()
        cells = np.array([line.split("\t") for line in lines])
        assert cells[0].tolist() == ["participant_id", "age", "sex", "education_years", "apoe4", "diagnosis"]
        unknown = torch.stack([covariate_values(subject.known) for subject in subjects[:200]]).isnan().numpy()
        np.testing.assert_array_equal(cells[1:, 1:] == "n/a", unknown)
        subject = next(s for s in subjects[:200] if len(s.visit_years) > 2)
        table = tmp_path / f"sub-{subject.id}" / f"sub-{subject.id}_sessions.tsv"
        days = [int(line.split("\t")[1]) for line in table.read_text(encoding="utf-8").splitlines()[1:]]
        assert days == [round(365.25 * year) for year in subject.visit_years]
