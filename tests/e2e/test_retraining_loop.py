"""The loop whole, as an operator sees it: stable traffic, another device, an alarm, a successor, the alarm's end.

And a poisoned batch, which the data stage refuses.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from configs.errors import DataInvalidError
from configs.settings import load_settings
from monitoring.drift import DriftMonitor
from monitoring.figures import FigureContext
from monitoring.figures.retraining import figures
from pipelines.retrain import HELD, IN_SHADOW, NOT_DUE, plan, retrain
from pipelines.score import score
from pipelines.training_run import train
from serving.releases import Releases
from warehouse.ingest import ingest
from warehouse.signal.simulate import SimulatedSource, simulate_recording
from warehouse.store import open_stores
from warehouse.store import tables as t

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]  # two trainings and five scorings, on any machine

OLD, NEW = "recorder A", "recorder B"


def recordings(first, n, device, *, gain=1.0, noise_mv=0.01):
    """`n` patients of two minutes: every twelfth beat is ventricular. The recorder adds its gain and noise."""
    made = []
    for number in range(first, first + n):
        random = np.random.default_rng(number)
        source = simulate_recording(
            name=f"r{number:03d}", duration_s=120, sampling_rate_hz=250, leads=("MLII", "V1"), seed=number,
            heart_rate_bpm=float(random.uniform(60, 85)), pvc_rate=0.08, noise_mv=float(random.uniform(0.005, 0.015)),
        )  # fmt: skip
        samples = source.samples * gain + random.normal(0, noise_mv, source.samples.shape)
        header = replace(source.header, device=device, checksum=f"{source.header.checksum} {gain} {noise_mv}")
        made.append(SimulatedSource(header, samples.astype(np.float32), source.beats))
    return made


def splits_of(sources, splits):
    return {source.header.name: splits[i % len(splits)] for i, source in enumerate(sources)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return load_settings(
        overrides={
            "data_dir": tmp_path_factory.mktemp("loop"),
            "pseudonym_key": "a key",
            "training": {
                "epochs": 3, "hidden_units": (24,), "context_hidden_units": (16,), "min_normal_windows": 100,
                "population": "known_patients",
            },
            "evaluation": {"min_roc_auc": 0.6, "max_roc_auc_drop": 0.5},
            "ingest": {"workers": 1},
            "retrain": {"recent_days": 0, "memory_windows": 1200, "min_labelled": 50, "cooldown_hours": 24},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def stores(settings):
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as opened:
        yield opened


def take_in(settings, stores, sources, splits):
    report = ingest(sources, settings, stores, splits_by_name=splits_of(sources, splits))
    assert (report.added, report.failed) == (len(sources), 0)
    score(settings, stores)


def of_device(findings, device):
    return [f for f in findings if f.scope == "device" and f.subject == device]


def false_alarm_rate(stores, version, device):
    """Share of reference normal beats of a device that are flagged."""
    flagged = n = 0
    with stores.results.transaction() as connection:
        query = sa.select(t.scores.c.window_id).where(t.scores.c.model_version == version, t.scores.c.verdict)
        flags = set(connection.execute(query).scalars())
    for window_set in stores.warehouse.window_sets(stores.results.models(version)[0].feature_version):
        if window_set.device == device:
            classes = stores.warehouse.window_classes(*window_set.id_range(0, window_set.n_beats))
            normal = classes["window_id"][classes["aami_class"].view("S1").reshape(-1) == b"N"].tolist()
            flagged, n = flagged + len(flags.intersection(normal)), n + len(normal)
    return flagged / n


def test_a_new_device_is_noticed_learnt_and_promoted(settings, stores):
    now = datetime.now(UTC)
    old = recordings(0, 12, OLD)
    report = ingest(
        old, settings, stores, splits_by_name=splits_of(old, ("train", "train", "calibration", "test"))
    )  # fmt: skip
    assert report.added == 12
    first = train(settings, stores).model_version
    monitor = DriftMonitor(settings, stores)

    # stable traffic: no alarm, no reason to train
    take_in(settings, stores, recordings(12, 4, OLD), ("train", "test"))
    (calm,) = monitor.compare()
    assert (calm.status, calm.findings) == ("compared", ())
    assert retrain(settings, stores).status == NOT_DUE
    usual = false_alarm_rate(stores, first, OLD)

    # a device with another gain and noise joins: the alarm names it and its leads, false alarms rise
    joined = recordings(16, 8, NEW, gain=2.5, noise_mv=0.08)
    take_in(settings, stores, joined, ("train", "calibration", "train", "test"))
    (alarm,) = monitor.compare()
    raised = of_device(alarm.findings, NEW)
    assert {("amplitude", "MLII"), ("amplitude", "V1"), ("noise", "MLII"), ("noise", "V1")} <= {
        (f.feature, f.lead) for f in raised if f.drift == "input"
    }
    assert not of_device(alarm.findings, OLD)
    assert false_alarm_rate(stores, first, NEW) > usual + 0.1

    # a dry run says what would be done and does nothing; then it is done
    planned = plan(settings, stores)
    assert (planned.status, [one["trigger"] for one in planned.triggers]) == ("planned", ["drift"])
    assert f"device {NEW}: " in planned.triggers[0]["numbers"]["all"][0]
    assert stores.results.retrainings() == []
    done = retrain(settings, stores)
    assert done.status == IN_SHADOW, done.reason
    challenger = done.model_version
    judged = done.numbers["evaluate"]
    assert judged["new"]["challenger"]["balanced_accuracy"] > judged["new"]["champion"]["balanced_accuracy"] + 0.05
    assert judged["new"]["challenger"]["false_alarm_rate"] < judged["new"]["champion"]["false_alarm_rate"]
    for measure in ("balanced_accuracy", "average_precision"):
        assert judged["old"]["challenger"][measure] >= judged["old"]["champion"][measure] - settings.retrain.max_loss

    # every step is written down: what it was based on, and that the challenger is in shadow and nothing more
    (attempt,) = stores.results.retrainings()
    assert [(step["step"], step["passed"]) for step in attempt["steps"]] == [
        (name, True) for name in ("policy", "data", "train", "evaluate", "release")
    ]  # fmt: skip
    assert (attempt["status"], attempt["champion"], attempt["model_version"]) == ("in_shadow", first, challenger)
    release = stores.results.release()
    assert (release.stable, release.shadow, release.operator) == (first, challenger, "retrain")
    sample = {
        (s.name, *s.labels.values()): s.value
        for family in figures(FigureContext.read(stores, settings))
        for s in family.samples
    }
    assert sample["ecg_retrainings", "in_shadow"] == 1
    assert sample["ecg_retraining_last_trigger", "drift"] == 1
    span = stores.warehouse.data_span(stores.results.models(challenger)[0].data_span)
    assert "has not seen" in span.content["choice"]["words"]
    used = {r["recording"]: r["n_windows"] for r in stores.results.model_lineage(challenger)["recordings"]}
    assert len(used) == 24
    assert sum(used.values()) == span.n_windows

    # still alarmed, but just trained: cool-down holds; a day later there is no report that is fresh enough
    assert retrain(settings, stores).status == HELD
    assert retrain(settings, stores, now=now + timedelta(days=3)).status == NOT_DUE

    # it scores in shadow, is promoted, and the alarm ends, also for patients that nobody has seen
    score(settings, stores)
    Releases(settings, stores, operator="test", report=lambda _: None).promote(challenger, "fewer false alarms")
    take_in(settings, stores, recordings(24, 4, NEW, gain=2.5, noise_mv=0.08), ("test",))
    (clear,) = DriftMonitor(settings, stores).compare()
    assert (clear.model_version, clear.status) == (challenger, "compared")
    assert not of_device(clear.findings, NEW)
    assert false_alarm_rate(stores, challenger, NEW) < false_alarm_rate(stores, first, NEW) - 0.05
    assert retrain(settings, stores).status == NOT_DUE


def test_a_poisoned_batch_is_refused_and_nothing_is_trained(settings, stores):
    """Somebody's labels are turned over: ventricular beats are said to be normal, and normal ones ventricular."""
    turned = []
    for source in recordings(40, 4, OLD):
        beats = replace(source.beats, symbol=np.where(source.beats.symbol == "V", "N", "V"))
        header = replace(source.header, checksum=source.header.checksum + " turned")
        turned.append(SimulatedSource(header, source.samples, beats))
    take_in(settings, stores, turned, ("train", "train", "calibration", "test"))
    runs, models, release = (
        len(stores.results.training_runs()), stores.results.models(), stores.results.release(),
    )  # fmt: skip
    with pytest.raises(DataInvalidError, match="labels contradict"):
        retrain(settings, stores, "routine")
    attempt = stores.results.retrainings(1)[0]
    assert (attempt["status"], attempt["model_version"]) == ("data_refused", None)
    assert [(step["step"], step["passed"]) for step in attempt["steps"]] == [("policy", True), ("data", False)]
    assert len(stores.results.training_runs()) == runs
    assert stores.results.models() == models
    assert stores.results.release() == release
