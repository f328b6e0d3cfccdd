"""Results on real PostgreSQL: scores by several writers, failures, episodes, summaries, and pages of anomalies."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from store_world import RR_S, START, add_model, add_recording, read, scored, table

from warehouse.store import Stores
from warehouse.store import tables as t
from warehouse.store.records import AnomalyFilter

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stores(new_stores: Callable[[], Stores]) -> Stores:
    return new_stores()


def test_scores_are_written_once(stores: Stores) -> None:
    run, window_set = add_model(stores, 1), add_recording(stores, "once", 40)
    block, scores = read(stores, window_set), scored(np.arange(40) % 4)
    failures = [(window_set.id_range(40, 40)[0], "odd")]
    assert stores.results.write_scores(run, 1, window_set, block, scores, failures) == (40, 1)
    before = [table(stores.results, one, 1) for one in (t.scores, t.anomalies, t.score_failures)]
    other = replace(scores, score=scores.score + 1, verdict=~scores.verdict)
    for again in (scores, other):  # who comes later, with whatever, changes nothing
        assert stores.results.write_scores(run, 1, window_set, block, again, failures) == (0, 0)
        assert [table(stores.results, one, 1) for one in (t.scores, t.anomalies, t.score_failures)] == before
    rows, anomalies, _ = before
    assert [row["score"] for row in rows] == (np.arange(40) % 4).tolist()
    assert [row["window_id"] for row in anomalies] == [row["window_id"] for row in rows if row["verdict"]]
    assert len(anomalies) == 20
    assert {(a["score"], a["lead"], a["label"], a["recording"]) for a in anomalies} == {
        (2.0, "MLII", "N", "once"), (3.0, "V1", "N", "once"),
    }  # fmt: skip
    assert (stores.results.run(run)["scored"], stores.results.run(run)["failed"]) == (40, 1)


def test_an_anomaly_says_all_of_its_window_whatever_its_lead_is_called(stores: Stores) -> None:
    run, window_set = add_model(stores, 18), replace(add_recording(stores, "ação ♥", 12), lead_slots=("V1ª", ""))
    block, scores = read(stores, window_set), scored(np.full(12, 2.0))
    block = replace(block, template_beats=(np.arange(12) % 3).astype(np.int16))  # without a template: not familiar
    scores = replace(scores, lead_slot=np.array([0, 1, 5, 0, 1, 5] * 2, np.int16))  # of the third nobody knows a name

    def rows() -> list[dict[str, Any]]:
        found = table(stores.results, t.anomalies, 18)
        with stores.results.transaction() as connection:
            connection.execute(t.anomalies.delete().where(t.anomalies.c.model_version == 18))
        return found

    stores.results.write_scores(run, 18, window_set, block, scores, gap_beats=1)
    straight = rows()
    assert [(a["recording"], a["lead"], a["label"]) for a in straight[:3]] == [
        ("ação ♥", "V1ª", "N"), ("ação ♥", "", "N"), ("ação ♥", "", "N"),
    ]  # fmt: skip
    assert [a["familiarity"] is None for a in straight] == [True, False, False] * 4
    assert [a["r_peak_s"] for a in straight] == block.r_peak_s.tolist()
    assert {a["episode_id"] for a in straight} == {int(block.window_id[0])}
    assert stores.results.write_scores(run, 18, window_set, block, scores, gap_beats=1) == (0, 0)
    assert rows() == straight  # by way of the temporary table


def test_scorers_that_write_the_same_at_once_give_one_score_each(stores: Stores) -> None:
    run, window_set = add_model(stores, 2), add_recording(stores, "at once", 300)
    block = read(stores, window_set)
    start = threading.Barrier(4)

    def write(scorer: int) -> int:
        part = block.select(np.arange(300) >= 25 * scorer)  # blocks that overlap
        start.wait()
        return stores.results.write_scores(run, 2, window_set, part, scored(np.full(len(part), 1.0 + scorer)))[0]

    with ThreadPoolExecutor(4) as pool:
        new = list(pool.map(write, range(4)))
    rows, anomalies = table(stores.results, t.scores, 2), table(stores.results, t.anomalies, 2)
    assert sum(new) == len(rows) == stores.results.run(run)["scored"] == 300
    assert [row["window_id"] for row in rows] == block.window_id.tolist()
    # an anomaly has the score that is stored, whoever wrote it
    assert [(a["window_id"], a["score"]) for a in anomalies] == [
        (r["window_id"], r["score"]) for r in rows if r["verdict"]
    ]


def test_a_window_has_a_score_or_a_failure(stores: Stores) -> None:
    run, window_set = add_model(stores, 3), add_recording(stores, "failing", 6)
    block, results = read(stores, window_set), stores.results
    first, stop = window_set.id_range(0, 6)
    nothing = block.select(np.zeros(6, bool))
    assert results.write_scores(run, 3, window_set, nothing, scored([]), [(first, "x"), (first + 1, "y")]) == (0, 2)
    assert (results.done_count(3, first, stop), results.done_count(3, first, first + 2)) == (2, 2)
    later = block.select(np.arange(6) != 1)
    assert results.write_scores(run, 3, window_set, later, scored(np.zeros(5)), [(first + 2, "too late")]) == (5, 0)
    assert [row["window_id"] for row in table(results, t.score_failures, 3)] == [first + 1]
    assert (results.done_count(3, first, stop), results.done_count(3, first + 2, first + 4)) == (6, 2)
    results.summarise(3, window_set, None, gap_beats=1)
    assert results.finished_window_sets(3) == {window_set.window_set_id: 6}


def test_episodes_and_summary_of_a_recording(stores: Stores) -> None:
    run, window_set = add_model(stores, 4), add_recording(stores, "episodes", 16, rejected=2)
    values = np.array([0, 2, 3, 0, 2.5, 0, 0, 0, 9, 0, 0, 2, 2, 2, 0, 0])  # beats 1-4, 8 and 11-13
    block, first = read(stores, window_set), window_set.id_range(0, 0)[0]
    stores.results.write_scores(
        run, 4, window_set, block.select(np.arange(16) < 15), scored(values[:15]), [(first + 15, "x")]
    )
    for _ in range(2):  # made anew each time
        stores.results.summarise(4, window_set, 80.0, gap_beats=1)
        found = table(stores.results, t.episodes, 4)
        assert [(e["episode_id"] - first, e["n_beats"], e["peak_score"]) for e in found] == [
            (1, 3, 3.0),
            (8, 1, 9.0),
            (11, 3, 2.0),
        ]
        assert [(e["start_s"], e["end_s"]) for e in found] == [(1.75, 4.0), (7.0, 7.0), (9.25, 10.75)]
        assert found[0]["end_time"] == START + timedelta(seconds=4)
        episode_of = {a["window_id"] - first: a["episode_id"] - first for a in table(stores.results, t.anomalies, 4)}
        assert episode_of == {1: 1, 2: 1, 4: 1, 8: 8, 11: 11, 12: 11, 13: 11}
        (summary,) = stores.results.summaries([window_set.recording_id])
        expected = {
            "recording": "episodes", "beats": 18, "scored": 15, "failed": 1, "unusable": 2, "anomalous": 7,
            "episodes": 3, "mean_heart_rate_bpm": 80.0, "analysable_s": window_set.windowed_s,
            "burden_percent": pytest.approx(100 * 7 / 15),
        }  # fmt: skip
        assert {key: summary[key] for key in expected} == expected
    stores.results.summarise(4, window_set, None, gap_beats=0)
    assert [e["n_beats"] for e in table(stores.results, t.episodes, 4)] == [2, 1, 1, 3]
    best = stores.results.most_anomalous(4, [window_set], limit=3)
    assert [(a["window_id"] - first, a["score"]) for a in best] == [(8, 9.0), (2, 3.0), (4, 2.5)]


def test_blocks_say_their_episodes_and_the_summary_joins_them(stores: Stores) -> None:
    run, window_set = add_model(stores, 16), add_recording(stores, "in blocks", 12)
    values = np.array([0, 2, 2, 0, 0, 2, 0, 2, 2, 0, 0, 2])  # beats 1-2, 5-8 and 11; a block ends after beat 7
    block, first = read(stores, window_set), window_set.id_range(0, 0)[0]

    def episode_of() -> dict[int, int]:
        return {a["window_id"] - first: a["episode_id"] - first for a in table(stores.results, t.anomalies, 16)}

    for part in (np.arange(12) < 8, np.arange(12) >= 8):
        stores.results.write_scores(run, 16, window_set, block.select(part), scored(values[part]), gap_beats=1)
    assert episode_of() == {1: 1, 2: 1, 5: 5, 7: 5, 8: 8, 11: 11}
    stores.results.summarise(16, window_set, None, gap_beats=1)
    assert episode_of() == {1: 1, 2: 1, 5: 5, 7: 5, 8: 5, 11: 11}
    assert [(e["episode_id"] - first, e["n_beats"]) for e in table(stores.results, t.episodes, 16)] == [
        (1, 2),
        (5, 3),
        (11, 1),
    ]


def test_a_block_that_is_a_whole_recording_is_summarised_with_its_scores(stores: Stores) -> None:
    run, window_set = add_model(stores, 17), add_recording(stores, "one block", 400, rejected=3)
    block, values = read(stores, window_set), np.random.default_rng(1).exponential(0.8, 400)

    def kept() -> list[list[dict[str, Any]]]:
        tables = [table(stores.results, one, 17) for one in (t.anomalies, t.episodes)]
        (summary,) = stores.results.summaries([window_set.recording_id])
        return [*tables, [{key: value for key, value in summary.items() if key != "updated_at"}]]

    stores.results.write_scores(run, 17, window_set, block, scored(values), gap_beats=1)
    assert stores.results.finished_window_sets(17) == {window_set.window_set_id: 400}
    at_once = kept()
    assert len(at_once[1]) > 10
    heart_rate = stores.warehouse.mean_heart_rate_bpm(window_set)
    assert at_once[2][0]["mean_heart_rate_bpm"] == pytest.approx(heart_rate, rel=1e-12)
    stores.results.summarise(17, window_set, at_once[2][0]["mean_heart_rate_bpm"], gap_beats=1)
    assert kept() == at_once  # what is read back from the tables gives the same


def test_a_summary_does_not_stumble_over_another_scorers_anomaly(stores: Stores) -> None:
    run, window_set = add_model(stores, 5), add_recording(stores, "meanwhile", 8)
    block = read(stores, window_set)
    stores.results.write_scores(run, 5, window_set, block, scored(np.full(8, 2.0)))
    with stores.results.transaction() as connection:
        # as if the last beat was committed between reading the scores and making the episodes
        connection.execute(
            t.scores.delete().where(t.scores.c.model_version == 5, t.scores.c.window_id == int(block.window_id[7]))
        )
    stores.results.summarise(5, window_set, None, gap_beats=1)
    assert [e["n_beats"] for e in table(stores.results, t.episodes, 5)] == [7]


@pytest.fixture(scope="module")
def listed(stores: Stores) -> list[dict[str, Any]]:
    """Anomalies of two recordings that run at the same time, so that moments come twice; by time, then window."""
    run = add_model(stores, 6)
    for name in ("left", "right"):
        window_set = add_recording(stores, name, 60)
        stores.results.write_scores(run, 6, window_set, read(stores, window_set), scored(np.arange(60) % 5))
    unreviewed = {"review_status": "unreviewed", **dict.fromkeys(("verdict", "review_label", "cause", "reviewers"))}
    rows = [{**row, **unreviewed} for row in table(stores.results, t.anomalies, 6)]
    return sorted(rows, key=lambda a: (a["recorded_at"], a["window_id"]))


@pytest.mark.parametrize("limit", [1, 7, 71, 72, 100])
def test_pages_of_anomalies_give_each_once_in_order(stores: Stores, listed: list[dict[str, Any]], limit: int) -> None:
    found: list[dict[str, Any]] = []
    after = None
    while page := stores.results.anomalies(AnomalyFilter(6), after=after, limit=limit):
        assert len(page) <= limit
        found += page
        after = (page[-1]["recorded_at"], page[-1]["window_id"])
    assert len(found) == 72
    assert found == listed


def test_filters_of_anomalies(stores: Stores, listed: list[dict[str, Any]]) -> None:
    moment = START + timedelta(seconds=1 + 30 * RR_S)
    filters: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
        ({"start": moment}, lambda a: a["recorded_at"] >= moment),
        ({"end": moment}, lambda a: a["recorded_at"] < moment),
        ({"recording": "right"}, lambda a: a["recording"] == "right"),
        ({"lead": "V1", "min_score": 3.0}, lambda a: a["lead"] == "V1" and a["score"] >= 3),
    ]
    for given, expected in filters:
        found = stores.results.anomalies(AnomalyFilter(6, **given), limit=1000)
        assert found == [a for a in listed if expected(a)]
        assert 0 < len(found) < 72
    assert stores.results.anomalies(AnomalyFilter(999), limit=10) == []
