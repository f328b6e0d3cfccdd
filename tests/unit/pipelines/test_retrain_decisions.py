"""When a successor is trained, on what, and whether it may follow: the decisions alone."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from configs.settings import RetrainSettings
from pipelines.retrain_data import draw_memory, fill_evenly
from pipelines.retrain_evaluation import judge, measures
from pipelines.retrain_policy import Facts, find_triggers, held_back
from warehouse.store.records import WindowSet

pytestmark = pytest.mark.unit
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = RetrainSettings(min_precision=0.5, min_reviews=20, new_labels=100, max_age_days=30)


def facts(**values) -> Facts:
    return Facts(**{"now": NOW, "champion_age": timedelta(days=1), **values})


def names(**values) -> list[str]:
    return [trigger.trigger for trigger in find_triggers(POLICY, facts(**values))]


# --- policy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"drift": ["noise on device H"], "drift_at": NOW - timedelta(hours=47)}, ["drift"]),
        ({"drift": ["noise on device H"], "drift_at": NOW - timedelta(hours=49)}, []),
        ({"drift": [], "drift_at": NOW}, []),
        ({"confirmed": 5, "rejected": 14}, []),  # too few reviews
        ({"confirmed": 8, "rejected": 12}, []),  # 0.40, but it may be above 0.5
        ({"confirmed": 80, "rejected": 120}, ["quality"]),
        ({"new_labels": 99}, []),
        ({"new_labels": 100}, ["labels"]),
        ({"champion_age": timedelta(days=30)}, ["schedule"]),
        ({"erased": True}, ["erasure"]),
        ({"requests": [{"request_id": 3, "reason": "alert X", "requested_by": "am"}]}, ["request"]),
    ],
)
def test_reasons(values, expected) -> None:
    assert names(**values) == expected


def test_what_is_off_is_no_reason() -> None:
    off = RetrainSettings(on_drift=False)
    found = facts(drift=["x"], drift_at=NOW, confirmed=0, rejected=1000, new_labels=9, champion_age=timedelta(days=900))
    assert find_triggers(off, found) == []


def test_numbers_of_a_reason_are_told() -> None:
    (found,) = find_triggers(POLICY, facts(confirmed=80, rejected=120))
    assert found.numbers["precision"] == pytest.approx(0.4)
    assert found.numbers["high"] == pytest.approx(0.469, abs=1e-3)
    assert "0.40" in found.reason


def test_cool_down_and_limit_hold_back_all_but_a_person() -> None:
    (due,) = find_triggers(POLICY, facts(erased=True))
    just_now = facts(trained_at=[NOW - timedelta(hours=23)])
    assert "cool-down" in held_back(POLICY, just_now, [due])
    assert held_back(POLICY, facts(trained_at=[NOW - timedelta(hours=24)]), [due]) is None
    often = facts(trained_at=[NOW - timedelta(days=2 + i) for i in range(6)])
    assert "limit" in held_back(POLICY, often, [due])
    assert held_back(POLICY, facts(), [due]) is None
    by_hand = find_triggers(POLICY, just_now, "new ward")
    assert [one.trigger for one in by_hand] == ["hand"]
    assert held_back(POLICY, just_now, by_hand) is None
    assert held_back(POLICY, often, by_hand) is None


# --- memory ----------------------------------------------------------------------------------------------------------


def window_set(number: int, n_beats: int, **values) -> WindowSet:
    return WindowSet(
        **{
            "window_set_id": number, "recording_id": number, "recording": str(number), "split": "train", "sex": "male",
            "age_band": "40-64", "lead_slots": ("II", "V1"), "n_windows": n_beats, "n_rejected": 0, "windowed_s": 1.0,
            "unusable_s": 0.0, "duration_s": 1.0, "start_time": NOW, "simulated": False, **values,
        }
    )  # fmt: skip


def test_shares_are_even_but_never_more_than_there_is() -> None:
    assert fill_evenly({"a": 10, "b": 100, "c": 1000}, 300) == {"a": 10, "b": 100, "c": 190}
    assert fill_evenly({"a": 5, "b": 5}, 100) == {"a": 5, "b": 5}
    assert fill_evenly({}, 10) == {}


def test_rare_kinds_are_remembered_as_well_as_common_ones() -> None:
    common = [window_set(i, 10_000) for i in range(1, 41)]
    rare = [window_set(99, 3000, device="H12"), window_set(98, 200, sex="female")]
    found = draw_memory([*common, *rare], 9000)
    beats = {number: sum(stop - first for first, stop in ranges) for number, ranges in found.items()}
    assert beats[98] == 200
    assert beats[99] == 3000
    assert sum(beats.values()) == pytest.approx(9000, rel=0.02)
    assert len(found) == 42
    for number, ranges in found.items():
        assert all(first < stop for first, stop in ranges)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges)), number
    spread = draw_memory([window_set(1, 10_000)], 2048)[1]
    assert (spread[0][0], spread[-1][1], len(spread)) == (0, 10_000, 8)
    assert draw_memory(common, 10**9)[1] == [(0, 10_000)]


# --- comparison ------------------------------------------------------------------------------------------------------


def numbers(*, old=(0.9, 0.9), new=(0.6, 0.8), ap=(0.7, 0.7), normal=500, recordings=2):
    def part(values):
        roles = zip(("champion", "challenger"), values, ap, strict=True)
        return {
            "recordings": recordings, "normal": normal, "anomalous": 50,
            **{role: {"balanced_accuracy": accuracy, "average_precision": p} for role, accuracy, p in roles},
        }  # fmt: skip

    return {"old": part(old), "new": part(new)}


@pytest.mark.parametrize(
    ("values", "better", "reason"),
    [
        ({}, True, "gains +0.2000"),
        ({"new": (0.8, 0.8)}, False, "gains +0.0000"),
        ({"old": (0.9, 0.85)}, False, "falls by 0.0500 on the old slice"),
        ({"old": (0.9, 0.89)}, True, "no worse on the old"),
        ({"ap": (0.7, 0.6)}, False, "average_precision falls by 0.1000 on the old"),
        ({"normal": 10}, False, "label or review some"),
        ({"recordings": 0}, False, "no test patient is left"),
    ],
)
def test_who_may_follow(values, better, reason) -> None:
    verdict = judge(RetrainSettings(), numbers(**values))
    assert verdict.better is better
    assert reason in verdict.reason


def test_where_nothing_is_new_no_loss_is_enough() -> None:
    found = numbers()
    found["new"]["recordings"] = 0
    assert judge(RetrainSettings(), found).better


def test_measures_count_known_beats_alone() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, -1, -1])
    score = np.float32([0.1, 0.2, 0.3, 2.0, 1.8, 0.1, 3, 3])
    found = measures(truth, score, score >= 1.5)
    assert (found["recall"], found["false_alarm_rate"]) == (0.5, 0.25)
    assert found["balanced_accuracy"] == pytest.approx(0.625)
    assert found["flagged_share"] == pytest.approx(0.5)
    alone = measures(np.zeros(3, int), score[:3], score[:3] >= 1.5)
    assert (alone["recall"], alone["roc_auc"], alone["false_alarm_rate"]) == (None, None, 0.0)
