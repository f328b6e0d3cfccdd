"""Concept drift from reviews: found where the model is less right, not where recordings differ anyway."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.drift_concept import PRECISION, SCORE_OF_NORMALS, concept_candidates
from monitoring.drift_reference import Reference
from monitoring.drift_tests import detect

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def reviews(seed, *, precision, shift=0.0, recordings=20, beats=15, recent):
    """Flagged beats as reviewers judged them; precision varies from recording to recording."""
    rng = np.random.default_rng(seed)
    rows = []
    for recording in range(recordings):
        own = np.clip(rng.normal(precision, 0.1), 0, 1)
        for beat in range(beats):
            confirmed = rng.random() < own
            rows.append(
                {
                    "window_id": recording * 1000 + beat + recent, "recording_id": recording + 100 * recent,
                    "device": "holter", "verdict": "confirm" if confirmed else "reject", "flagged": True,
                    "score": rng.exponential(0.3) + 1.6 + (0 if confirmed else shift),
                    "reviewed_at": NOW - timedelta(days=1 if recent else 30, seconds=beat),
                }
            )  # fmt: skip
    return rows


def asked(rows, gaps=None):
    return list(
        concept_candidates(
            rows, site="main", recent_since=NOW - timedelta(days=7), least_reviews=50, gaps={} if gaps is None else gaps
        )
    )


def found(rows):
    return detect(Reference({}, {}), [], others=asked(rows)).findings


def test_the_same_precision_is_no_drift():
    alarms = sum(
        bool(found(reviews(i, precision=0.7, recent=False) + reviews(i + 5000, precision=0.7, recent=True)))
        for i in range(300)
    )
    assert alarms <= 6


def test_precision_that_fell_is_found_with_the_recordings_and_beats_that_make_it():
    rows = reviews(1, precision=0.8, recent=False) + reviews(2, precision=0.4, recent=True)
    (finding,) = [f for f in found(rows) if f.feature == PRECISION]
    assert finding.drift == "concept"
    assert finding.before == pytest.approx(0.8, abs=0.07)
    assert finding.after == pytest.approx(0.4, abs=0.1)
    assert (finding.scope, finding.subject, finding.devices) == ("site", "main", ("holter",))
    assert set(finding.recordings) == set(range(100, 120))
    rejected = {row["window_id"] for row in rows if row["verdict"] == "reject"}
    assert set(finding.examples) <= rejected
    assert len(finding.examples) == 5


def test_a_larger_error_on_beats_reviewed_as_normal_is_found():
    rows = reviews(3, precision=0.5, recent=False) + reviews(4, precision=0.5, shift=0.5, recent=True)
    (finding,) = found(rows)
    assert finding.feature == SCORE_OF_NORMALS
    assert finding.after - finding.before == pytest.approx(0.5, abs=0.12)


def test_too_few_reviews_or_recordings_are_a_gap():
    gaps = {}
    few = reviews(1, precision=0.8, recent=False) + reviews(2, precision=0.1, recordings=4, recent=True)
    assert asked(few, gaps) == []
    assert gaps == {"too_few_reviews": 2}
    gaps = {}
    assert asked(reviews(1, precision=0.8, recent=False), gaps) == []
    assert gaps == {}
    same = [replace(f, adjusted=0.0) for f in asked(reviews(1, precision=1.0, recent=False) * 2)]
    assert same == []
