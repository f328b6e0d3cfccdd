"""Thresholds that follow a recording, on real PostgreSQL: verdicts, anomalies and episodes decided anew."""

from collections.abc import Callable

import numpy as np
import pytest
from store_world import add_model, add_recording, read, scored, table

from warehouse.signal.alarm_rate import own_thresholds
from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.records import Beat, Opinion
from warehouse.summaries import SummaryRules, apply_own_thresholds, beats_for_threshold, summarise

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stores(new_stores: Callable[[], Stores]) -> Stores:
    return new_stores()


def test_verdicts_by_thresholds_that_follow_the_recording(stores: Stores) -> None:
    run, window_set = add_model(stores, 60), add_recording(stores, "noisy", 1000)
    block, results = read(stores, window_set), stores.results
    score = np.random.default_rng(1).exponential(0.65, 1000)  # 10% reach the model's threshold, of 3.2%
    score[900] = 4.0
    results.write_scores(run, 60, window_set, block, scored(score))
    rules = SummaryRules(gap_beats=1, own_thresholds=True)
    summarise(stores.warehouse, results, 60, window_set, rules)
    expected = np.float32(score) >= own_thresholds(np.float32(score), 10**-1.5)
    rows, anomalies = table(results, t.scores, 60), table(results, t.anomalies, 60)
    assert [row["verdict"] for row in rows] == expected.tolist()
    assert [a["window_id"] for a in anomalies] == block.window_id[expected].tolist()
    assert expected[900]
    assert 20 < expected.sum() < 75 < (score >= 1.5).sum()
    assert all(a["score"] >= a["threshold"] for a in anomalies)
    assert all(a["episode_id"] is not None for a in anomalies)
    summary = results.finished_window_sets(60)
    assert summary == {window_set.window_set_id: 1000}

    summarise(stores.warehouse, results, 60, window_set, rules)  # again: the same
    assert table(results, t.anomalies, 60) == anomalies

    # a reviewer calls normal what was flagged: the recording's threshold rises, what is no anomaly now is none
    rejected = [Beat(a["window_id"], window_set.recording_id, a["score"], True) for a in anomalies[:15]]
    results.add_reviews("main", rejected, Opinion("ana", "reviewer", 60, "reject"))
    changed = apply_own_thresholds(stores.warehouse, results, results.models(60)[0], window_set)
    after = table(results, t.anomalies, 60)
    assert changed > 0
    assert len(after) < len(anomalies)
    assert block.window_id[900] in {a["window_id"] for a in after}


def test_a_quiet_recording_gets_anomalies_that_the_model_did_not_flag(stores: Stores) -> None:
    run, window_set = add_model(stores, 70), add_recording(stores, "quiet", 800)
    block, results = read(stores, window_set), stores.results
    score = np.random.default_rng(2).exponential(0.1, 800)
    score[700:703] = 1.2  # below the model's threshold, far above anything of this recording
    results.write_scores(run, 70, window_set, block, scored(score))
    assert table(results, t.anomalies, 70) == []
    summarise(stores.warehouse, results, 70, window_set, SummaryRules(gap_beats=1, own_thresholds=True))
    anomalies = table(results, t.anomalies, 70)
    found = {a["window_id"]: a for a in anomalies}
    assert set(block.window_id[700:703].tolist()) <= set(found)
    row = found[int(block.window_id[700])]
    assert (row["r_peak_s"], row["label"], row["lead"]) == (block.r_peak_s[700], "N", "MLII")
    assert row["score"] == pytest.approx(1.2)


def test_thresholds_from_the_beats_that_are_worth_a_review(stores: Stores) -> None:
    run, window_set = add_model(stores, 80), add_recording(stores, "very noisy", 1200)
    block, results = read(stores, window_set), stores.results
    model, rate = results.models(80)[0], 10**-1.5
    random = np.random.default_rng(3)
    score, ectopic = random.exponential(1.0, 1200).astype(np.float32), np.arange(1200) % 8 == 3
    score[ectopic] = random.normal(3.5, 0.4, ectopic.sum())
    results.write_scores(run, 80, window_set, block, scored(score))
    rules = SummaryRules(gap_beats=1, own_thresholds=True)
    summarise(stores.warehouse, results, 80, window_set, rules)
    before = np.array([row["verdict"] for row in table(results, t.scores, 80)])
    assert before[~ectopic].mean() > 2 * rate  # what scores beyond other people's normal beats was not learnt from

    (unsure,), n = beats_for_threshold(results, model, window_set, 1)
    assert n == 0
    beat = Beat(unsure, window_set.recording_id, float(score[block.window_id == unsure][0]), False)
    results.add_reviews("main", [beat], Opinion("ana", "reviewer", 80, "unsure"))
    for asked in range(30):
        (chosen,), n = beats_for_threshold(results, model, window_set, 1)
        assert (chosen != unsure, n) == (True, asked)
        at = int(np.flatnonzero(block.window_id == chosen)[0])
        beat = Beat(chosen, window_set.recording_id, float(score[at]), bool(before[at]))
        results.add_reviews("main", [beat], Opinion("ana", "reviewer", 80, "confirm" if ectopic[at] else "reject"))
    summarise(stores.warehouse, results, 80, window_set, rules)
    after = np.array([row["verdict"] for row in table(results, t.scores, 80)])
    assert rate / 2 <= after[~ectopic].mean() <= 2 * rate
    assert after[ectopic].mean() > 0.5
    assert len({a["threshold"] for a in table(results, t.anomalies, 80)}) == 1
