"""Figures from the databases: right numbers, one reading however many ask, no false figure where there is nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from store_world import SPEC, add_model, add_recording, read, scored

from configs.settings import load_settings
from monitoring.figures import GROUPS, FigureContext
from monitoring.figures.collector import FiguresCollector
from warehouse.store import tables as t
from warehouse.store.records import Beat, Opinion

pytestmark = pytest.mark.integration


class Reading:
    """An exporter's registry over two databases; counts how often they are read, and has its own clock."""

    def __init__(self, stores, **monitoring):
        self.settings = load_settings(overrides={"monitoring": monitoring})
        self.registry = CollectorRegistry()
        self.reads = 0
        self.now = 0.0
        self.registry.register(
            FiguresCollector(lambda: self._context(stores), GROUPS, cache_s=15, monotonic=lambda: self.now)
        )

    def _context(self, stores):
        self.reads += 1
        return FigureContext.read(stores, self.settings)

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, {k: str(v) for k, v in labels.items()})


def score_all(stores, window_set, run, values, version=1):
    stores.results.write_scores(run, version, window_set, read(stores, window_set), scored(values), [])
    stores.results.summarise(version, window_set, 75.0, 1)


@pytest.fixture
def stores(new_stores):
    return new_stores()


def test_empty_databases_give_no_false_figure(stores):
    reading = Reading(stores)
    assert [reading.value("ecg_figures_up", group=group) for group in GROUPS] == [1] * len(GROUPS)
    for name in ("ecg_ingest_gap_seconds", "ecg_scoring_gap_seconds", "ecg_queue_age_seconds"):
        assert reading.value(name) is None, "nothing came yet: no age, and no alarm"
    assert b"ecg_precision_ratio{" not in generate_latest(reading.registry)


def test_flow_adds_up(stores):
    run = add_model(stores, 1)
    done = add_recording(stores, "done", 40, rejected=4)
    add_recording(stores, "waits", 25)
    score_all(stores, done, run, [2.0] * 10 + [0.1] * 30)
    reading = Reading(stores)
    assert reading.value("ecg_recordings", site="main") == 2
    assert reading.value("ecg_windows_stored", site="main") == 65
    assert reading.value("ecg_beats_rejected", reason="edge") == 4
    assert reading.value("ecg_windows_scored", model_version=1, site="main") == 40
    assert reading.value("ecg_windows_anomalous", model_version=1, site="main") == 10
    assert reading.value("ecg_windows_lost_ratio", model_version=1) == 0
    assert reading.value("ecg_beats_unusable_ratio", model_version=1) == pytest.approx(4 / 44)
    assert reading.value("ecg_windows_waiting") == 25
    assert reading.value("ecg_recordings_waiting") == 1
    assert 0 <= reading.value("ecg_queue_age_seconds") < 60
    assert reading.value("ecg_flagged_ratio", site="main") == pytest.approx(0.25)
    assert reading.value("ecg_alarms_per_patient_day", site="main") == pytest.approx(86400 / done.windowed_s)
    assert reading.value("ecg_recent_recordings_analysed", site="main") == 1
    assert reading.value("ecg_review_backlog_beats", site="main") == 10
    assert reading.value("ecg_review_backlog_episodes", site="main") == 1
    assert reading.value("ecg_release_info", role="stable", model_version=1) == 1
    assert reading.value("ecg_model_threshold_score", model_version=1) == 1.5


def test_yesterdays_data_and_a_clock_ahead_change_no_age(stores):
    """Recorded months ago, or stamped in the future: ages are told from the arrival, and are never negative."""
    add_model(stores, 1)
    add_recording(stores, "old", 10)
    reading = Reading(stores)
    assert reading.value("ecg_queue_age_seconds") < 60
    assert reading.value("ecg_ingest_gap_seconds") < 60
    assert reading.value("ecg_recording_delay_seconds", site="main", quantile="0.5") > 24 * 3600, "this one tells"
    with stores.warehouse.transaction() as connection:
        connection.execute(sa.update(t.recordings).values(ingested_at=sa.func.now() + timedelta(days=1)))
        connection.execute(sa.update(t.window_sets).values(created_at=sa.func.now() + timedelta(days=1)))
    reading.now = 20
    assert reading.value("ecg_queue_age_seconds") == 0
    assert reading.value("ecg_ingest_gap_seconds") == 0


def test_an_empty_hour_is_a_gap_and_not_a_ratio(stores):
    run = add_model(stores, 1)
    score_all(stores, add_recording(stores, "then", 20), run, [2.0] * 20)
    with stores.results.transaction() as connection:
        connection.execute(sa.update(t.recording_summaries).values(updated_at=sa.func.now() - timedelta(hours=2)))
    reading = Reading(stores, recent_hours=1.0)
    assert reading.value("ecg_scoring_gap_seconds") == pytest.approx(7200, abs=60)
    assert reading.value("ecg_recent_recordings_analysed", site="main") == 0
    assert reading.value("ecg_alarms_per_patient_day", site="main") is None
    assert reading.value("ecg_flagged_ratio", site="main") is None


def test_what_reviews_say(stores):
    run = add_model(stores, 1)
    window_set = add_recording(stores, "r", 40)
    score_all(stores, window_set, run, [2.0] * 20 + [0.1] * 20)
    first, _ = window_set.id_range(0, 40)

    def review(beat, verdict, **more):
        beats = [Beat(first + beat, window_set.recording_id, 2.0 if beat < 20 else 0.1, beat < 20)]
        stores.results.add_reviews("main", beats, Opinion("ann", "reviewer", 1, verdict, **more))

    for beat in range(10):
        review(beat, "confirm" if beat < 8 else "reject")
    for beat in range(20, 30):
        review(beat, "reject", sampled=True)
    reading = Reading(stores)
    of = {"model_version": 1, "site": "main"}
    assert reading.value("ecg_precision_ratio", bound="value", **of) == pytest.approx(0.8)
    low, high = (reading.value("ecg_precision_ratio", bound=bound, **of) for bound in ("low", "high"))
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))  # Wilson, 8 of 10
    assert reading.value("ecg_recent_precision_ratio", bound="value", **of) == pytest.approx(0.8)
    assert reading.value("ecg_recall_ratio", bound="value", **of) == 1
    assert 0 < reading.value("ecg_recall_ratio", bound="low", **of) < 1
    assert reading.value("ecg_review_backlog_beats", site="main") == 10
    assert reading.value("ecg_recent_reviews", site="main") == 20
    with (
        stores.results.transaction() as connection
    ):  # ids are two apart: a review every 12 s, and a break of an hour after the tenth
        connection.execute(sa.text("ALTER TABLE reviews DISABLE TRIGGER USER"))
        connection.execute(
            sa.text(
                "UPDATE reviews SET created_at = now() - interval '4 h' + review_id * interval '6 s' "
                "+ CASE WHEN review_id > 20 THEN interval '1 h' ELSE interval '0' END"
            )
        )
    reading.now = 20
    assert reading.value("ecg_review_seconds_per_recording", site="main") == pytest.approx(18 * 12)


def test_fifty_clients_at_once_are_one_reading(stores):
    add_model(stores, 1)
    reading = Reading(stores)
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda _: generate_latest(reading.registry), range(50)))
    assert len(set(answers)) == 1
    assert reading.reads == 1
    reading.now = 14.9
    generate_latest(reading.registry)
    assert reading.reads == 1
    reading.now = 15.1
    generate_latest(reading.registry)
    assert reading.reads == 2


def test_series_stay_as_many_while_models_come_and_go(stores):
    add_model(stores, 1)
    reading = Reading(stores)
    sizes = []
    for version in range(2, 12):
        add_model(stores, version)
        release = stores.results.release()
        change = {"operator": "t", "action": "promote", "reason": "", "previous": release.stable}
        stores.results.add_release(release, {**change, "model_version": version, "stable": version})
        reading.now += 20
        sizes.append(sum(not line.startswith(b"#") for line in generate_latest(reading.registry).splitlines()))
    assert len(set(sizes)) == 1, sizes


def test_a_group_that_fails_takes_no_other_with_it(stores):
    def broken(context):
        raise ZeroDivisionError

    registry = CollectorRegistry()
    settings = load_settings()
    groups = {"broken": broken, "models": GROUPS["models"]}
    registry.register(FiguresCollector(lambda: FigureContext.read(stores, settings), groups, cache_s=1))
    assert registry.get_sample_value("ecg_figures_up", {"group": "broken"}) == 0
    assert registry.get_sample_value("ecg_figures_up", {"group": "models"}) == 1


def test_expiring_keys_are_told_by_role_alone(stores):
    reading = Reading(stores)
    assert reading.value("ecg_api_keys", role="viewer", state="valid") is None
    with stores.results.transaction() as connection:
        for number, days in enumerate((3, 30, -1)):
            connection.execute(
                t.api_keys.insert().values(
                    key_id=f"key{number}",
                    secret_sha256="x",
                    name="ann",
                    role="viewer",
                    scopes=["read"],
                    expires_at=sa.func.now() + timedelta(days=days),
                )
            )
    reading.now = 20
    assert reading.value("ecg_api_keys", role="viewer", state="valid") == 2
    assert reading.value("ecg_api_keys", role="viewer", state="expired") == 1
    text = generate_latest(reading.registry).decode()
    assert "ann" not in text
    assert "key0" not in text
    assert SPEC.digest not in text
