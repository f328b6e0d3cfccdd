"""Drift from stored windows to stored findings: real PostgreSQL, and a reference of simulated patients."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from api_world import Clock, serving

from configs.contract import FeatureSpec
from configs.settings import load_settings
from monitoring.drift import COMPARED, NO_DATA, NO_REFERENCE, DriftMonitor
from monitoring.drift_live import read_stream, typical_beats
from monitoring.drift_reference import EXTRA, REFERENCE_FILE, make_reference
from monitoring.drift_report import write_report
from monitoring.drift_tests import DEVICE
from monitoring.figures import FigureContext
from monitoring.figures.drift import figures
from warehouse.ingest import ingest
from warehouse.signal.simulate import SimulatedSource, simulate_recording
from warehouse.store import tables as t

pytestmark = pytest.mark.integration

SPEC = FeatureSpec()
NOW = datetime(2026, 11, 1, tzinfo=UTC)
VERSION = 5


def patient(number, *, device="old", gain=1.0, mains_mv=0.003, lead="MLII", duration_s=90.0):
    """A simulated patient, recorded by a device with a gain and hum of its own in one lead."""
    made = simulate_recording(
        name=f"{device}{number}", duration_s=duration_s, sampling_rate_hz=250, leads=("MLII", "V1"), seed=number,
        heart_rate_bpm=60 + number % 7 * 5,
    )  # fmt: skip
    samples = made.samples.copy()
    column = made.header.leads.index(lead)
    time_s = np.arange(len(samples)) / 250
    samples[:, column] = gain * samples[:, column] + mains_mv * np.sqrt(2) * np.sin(2 * np.pi * 60 * time_s)
    header = made.header.__class__(**{**made.header.__dict__, "device": device})
    return SimulatedSource(header, samples.astype(np.float32), made.beats)


class World:
    """A warehouse with the reference's patients, and a monitor that looks at what comes after."""

    def __init__(self, stores, data_dir, reference=True):
        self.stores = stores
        self.settings = load_settings(
            overrides={"data_dir": data_dir, "ingest": {"workers": 1}, "pseudonym_key": "a key"}
        )
        self.now = NOW
        self.add(patient(i) for i in range(12))
        spec = SPEC.model_dump(mode="json")
        model = {
            "model_version": VERSION, "model_name": "m", "feature_version": SPEC.digest, "threshold": 1.5,
            "digest": "d",
            "feature_spec": spec, "data_span": 1, "run_key": "r", "card": {},
        }  # fmt: skip
        stores.results.register_model(model)
        if reference:
            recordings = stores.warehouse.live_recordings(SPEC.digest)
            streams = [self.read(recording) for recording in recordings]
            made = make_reference(
                streams,
                window_sets=[r.window_set.window_set_id for r in recordings],
                beats=typical_beats(stores, SPEC, recordings),
            )
            file = data_dir / "models" / "m" / str(VERSION) / EXTRA / REFERENCE_FILE
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(made.to_json()))
        self.monitor = DriftMonitor(self.settings, stores, lambda: self.now)

    def context(self):
        return FigureContext.read(self.stores, self.settings)

    def read(self, recording):
        return read_stream(self.stores, SPEC, recording, windows=5000, encoder=None, scores=None, threshold=1.5)

    def add(self, sources, now=NOW):
        report = ingest(list(sources), self.settings, self.stores, now=now)
        assert report.failed == 0
        with self.stores.warehouse.transaction() as connection:  # they came when the test says so
            connection.execute(
                t.recordings.update()
                .where(t.recordings.c.recording_id.in_(report.recording_ids))
                .values(ingested_at=now)
            )
        return report.recording_ids


@pytest.fixture
def world(new_stores, tmp_path):
    return World(new_stores(), tmp_path)


def test_a_device_with_another_gain_and_hum_is_named_with_its_lead(world):
    world.now = NOW + timedelta(hours=1)
    world.add((patient(100 + i) for i in range(8)), now=world.now)
    (quiet,) = world.monitor.compare()
    assert (quiet.status, quiet.findings, len(quiet.streams)) == (COMPARED, (), 8)
    assert quiet.tests > 100

    new = world.add((patient(200 + i, device="new", gain=2.5, mains_mv=0.1) for i in range(8)), now=world.now)
    (found,) = world.monitor.compare()
    moved = {(f.feature, f.lead): f for f in found.findings if f.scope == DEVICE}
    assert {("mains", "MLII"), ("amplitude", "MLII")} <= moved.keys()
    assert not {key for key in moved if key[1] == "V1"}
    mains = moved["mains", "MLII"]
    assert (mains.subject, mains.devices, set(mains.recordings)) == ("new", ("new",), set(new))
    assert mains.after == pytest.approx(0.1, rel=0.2)
    assert moved["amplitude", "MLII"].after / moved["amplitude", "MLII"].before == pytest.approx(2.5, rel=0.3)
    block = world.stores.warehouse.read_windows(SPEC, mains.examples)
    assert len(block) == len(mains.examples) == 5

    (run,) = world.stores.results.latest_drift_runs()
    assert (run["status"], run["recordings"], run["windows"]) == ("compared", 16, found.windows)
    rows = world.stores.results.drift_findings(run["drift_run_id"])
    assert [(r["feature"], r["lead"], r["subject"]) for r in rows] == [
        (f.feature, f.lead, f.subject) for f in found.findings
    ]

    gauges = {(s.name, *s.labels.values()): s.value for m in figures(world.context()) for s in m.samples}
    assert gauges["ecg_drift_findings", "main", "gradual", "input"] == len(found.findings)
    assert gauges["ecg_drift_findings", "main", "sudden", "concept"] == 0
    assert gauges["ecg_drift_device_findings", "main", "new", "MLII"] == len(moved)
    assert gauges["ecg_drift_effect_ratio", "main", "mains", "MLII"] == mains.effect > 0
    assert gauges["ecg_drift_comparison_timestamp_seconds", "main"] == world.now.timestamp()

    assert len(world.stores.results.drift_runs(site="main", limit=10)) == 2
    assert world.stores.results.drift_runs(site="elsewhere") == []

    file = world.settings.data_dir / "report.html"
    write_report(file, [found], world.stores)
    page = file.read_text("utf-8")
    assert page.count("<section") == len(found.findings)
    assert page.count("</svg>") == 2 * len(found.findings) + 2
    assert "mains of MLII: device new" in page
    assert "http" not in page


def test_an_empty_hour_a_jumping_clock_and_yesterdays_data_are_gaps_and_no_alarm(world):
    (empty,) = world.monitor.compare()
    assert (empty.status, empty.findings, empty.windows) == (NO_DATA, (), 0)
    late = [patient(300 + i) for i in range(3)]
    ahead = patient(310)
    for source, start in (
        (late[0], NOW - timedelta(days=1)),
        (late[1], NOW - timedelta(days=30)),
        (ahead, NOW + timedelta(days=400)),
    ):
        object.__setattr__(source, "header", source.header.__class__(**{**source.header.__dict__, "start_time": start}))
    world.add([*late, ahead], now=NOW)
    (found,) = world.monitor.compare()
    assert (found.status, found.findings, len(found.streams)) == (COMPARED, (), 4)
    assert found.gaps["late"] == 1
    assert found.gaps["clock_ahead"] == 1
    assert world.stores.results.drift_runs(site="main")[0]["gaps"] == found.gaps


def test_an_old_model_without_a_reference_is_said_and_compared_with_nothing(new_stores, tmp_path):
    world = World(new_stores(), tmp_path, reference=False)
    (found,) = world.monitor.compare()
    assert (found.status, found.findings, found.tests) == (NO_REFERENCE, (), 0)


def test_recordings_of_an_older_release_lack_what_the_band_pass_removed_and_nothing_else(world):
    world.add([patient(400)], now=NOW)
    with world.stores.warehouse.transaction() as connection:
        connection.execute(sa.text("UPDATE signal_chunks SET removed = NULL"))
    (found,) = world.monitor.compare()
    (stream,) = found.streams
    assert {key.feature for key in stream.values} == {"amplitude", "polarity", "noise", "heart_rate", "quality"}


def test_the_api_gives_the_newest_comparison_of_ones_own_site(world):
    with serving(world.stores, Clock(NOW)) as client:
        assert client.get("/drift").json() == {"comparison": None, "items": []}
        world.add((patient(200 + i, device="new", mains_mv=0.2) for i in range(6)), now=NOW)
        (found,) = world.monitor.compare()
        answer = client.get("/drift", params={"device": "new", "lead": "MLII", "kind": "gradual"}).json()
        assert answer["comparison"]["drift_run_id"] == found.drift_run_id
        assert "mains" in {item["feature"] for item in answer["items"]}
        assert client.get("/drift", params={"device": "old"}).json()["items"] == []
        assert len(client.get("/drift/comparisons").json()["items"]) == 1
        assert client.get("/drift", params={"drift_run_id": 10**9}).status_code == 404
        assert client.get("/drift", params={"kind": "slow"}).status_code == 422


def test_precision_that_fell_among_the_reviews_is_concept_drift(world):
    scores, states = [], []
    rng = np.random.default_rng(5)
    for recording in range(24):
        recent = recording >= 12
        for beat in range(12):
            confirmed = rng.random() < (0.3 if recent else 0.9)
            window_id = ((1000 + recording) << 24) + beat
            common = {"window_id": window_id, "recording_id": 1000 + recording}
            scores.append(
                {**common, "model_version": VERSION, "recorded_at": NOW, "score": 2.0, "verdict": True, "lead_slot": 0}
            )
            states.append(
                {
                    **common, "status": "confirmed" if confirmed else "rejected", "reviewers": ["ana"],
                    "sampled": False,
                    "verdict": "confirm" if confirmed else "reject", "revision": 1, "delivered": 1,
                    "updated_at": NOW - timedelta(days=1 if recent else 20, seconds=beat),
                }
            )  # fmt: skip
    with world.stores.results.transaction() as connection:
        connection.execute(t.scores.insert(), scores)
        connection.execute(t.review_states.insert(), states)
    (found,) = world.monitor.compare()
    (finding,) = found.findings
    assert (finding.drift, finding.feature, finding.scope, finding.windows) == ("concept", "precision", "site", 144)
    assert finding.before == pytest.approx(0.9, abs=0.08)
    assert finding.after == pytest.approx(0.3, abs=0.12)
    assert set(finding.recordings) == {1000 + i for i in range(12, 24)}
    gauges = {(s.name, *s.labels.values()): s.value for m in figures(world.context()) for s in m.samples}
    assert gauges["ecg_drift_findings", "main", "gradual", "concept"] == 1
    write_report(world.settings.data_dir / "concept.html", [found], world.stores)
