"""Consecutive anomalous beats become one episode."""

import numpy as np
import pytest

from warehouse.pseudonyms import age_band, load_key, pseudonym
from warehouse.store.ingest_queries import _neediest_split
from warehouse.store.summary_queries import group_episodes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("gap", "expected"), [(0, [10, 10, 13, 17]), (1, [10, 10, 10, 17]), (3, [10, 10, 10, 10])])
def test_gap_beats_decide_what_belongs_together(gap, expected):
    window_id = np.arange(10, 20)
    verdict = np.isin(window_id, [10, 11, 13, 17])
    episode, n = group_episodes(window_id, verdict, gap)
    assert episode.tolist() == expected
    assert n == len(set(expected))


def test_a_rejected_beat_counts_as_a_gap():
    episode, n = group_episodes(np.array([1, 2, 6]), np.array([True, True, True]), 1)
    assert (episode.tolist(), n) == ([1, 1, 6], 2)


def test_no_anomaly_no_episode():
    assert group_episodes(np.arange(5), np.zeros(5, bool), 1)[1] == 0


def test_splits_fill_towards_their_shares_and_few_patients_are_spread():
    shares = {"train": 0.5, "calibration": 0.2, "test": 0.3}
    counts: dict[str, int] = {}
    order = []
    for _ in range(40):
        split = _neediest_split(counts, shares)
        counts[split] = counts.get(split, 0) + 1
        order.append(split)
    assert set(order[:3]) == {"train", "calibration", "test"}
    assert counts == {"train": 20, "calibration": 8, "test": 12}


def test_pseudonyms_need_the_key_and_age_becomes_a_band(tmp_path):
    key = load_key(tmp_path)
    assert load_key(tmp_path) == key
    assert (tmp_path / "pseudonym.key").stat().st_mode & 0o077 == 0
    assert pseudonym(key, "Maria") == pseudonym(key, "Maria") != pseudonym(b"other", "Maria")
    assert [age_band(age) for age in (None, 0, 17, 18, 64, 65, 80, 101)] == [
        "unknown", "0-17", "0-17", "18-39", "40-64", "65-79", "80+", "80+",
    ]  # fmt: skip
