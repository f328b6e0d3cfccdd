"""The training pipeline on simulated recordings: real TFX, real PostgreSQL, the model's contract."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from configs import contract
from configs.errors import DataInvalidError, ModelUnavailableError, NotBlessedError, NotFoundError
from configs.settings import load_settings
from pipelines.score import score
from pipelines.train import show_trials
from pipelines.training_run import compile_for_kubeflow, train
from serving.in_process import InProcessModelClient
from serving.model_files import version_dir
from warehouse.ingest import ingest
from warehouse.signal.simulate import SimulatedSource, simulate_cohort
from warehouse.store import open_stores
from warehouse.store import tables as t

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NAME, NUMBER = "Zacharias Quillfeather", "MRN-4471-0093"
SPLITS = ("train", "train", "train", "calibration", "test", "test")


def of_somebody(source):
    """The same recording, of a made-up person whose name and number are in its header."""
    who = f"{NAME} {NUMBER}-{source.header.name}"
    return SimulatedSource(replace(source.header, patient_key=who), source.samples, source.beats)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return load_settings(
        overrides={
            "data_dir": tmp_path_factory.mktemp("training"),
            "training": {"epochs": 3, "hidden_units": (24,), "context_hidden_units": (16,), "min_normal_windows": 100},
            "evaluation": {"min_roc_auc": 0.7, "max_roc_auc_drop": 0.5},
            "ingest": {"workers": 1},
        }
    )


@pytest.fixture(scope="module")
def stores(settings):
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as opened:
        cohort = [of_somebody(one) for one in simulate_cohort(6, duration_s=480, sampling_rate_hz=360, seed=3)]
        names = {source.header.name: split for source, split in zip(cohort, SPLITS, strict=True)}
        report = ingest(cohort, settings, opened, splits_by_name=names)
        assert (report.added, report.failed) == (6, 0)
        yield opened


@pytest.fixture(scope="module")
def trained(settings, stores):
    return train(settings, stores)


@pytest.fixture(scope="module")
def model_dir(settings, trained):
    return version_dir(settings.models_dir, "ecg_autoencoder", trained.model_version)


@pytest.fixture(scope="module")
def client(model_dir):
    return InProcessModelClient(model_dir)


@pytest.fixture(scope="module")
def block(settings, stores, trained):
    window_set = stores.warehouse.window_sets(settings.features.digest, splits=["test"])[0]
    return stores.warehouse.read_block(settings.features, *window_set.id_range(0, window_set.n_beats))


def test_a_blessed_model_is_pushed_registered_and_has_its_card(settings, stores, trained, model_dir):
    model = stores.results.latest_model()
    assert model.model_version == trained.model_version == int(model_dir.name)
    card = json.loads((model_dir / "assets.extra" / "model_card.json").read_text())
    assert card == model.card
    assert card["model"]["version"] == trained.model_version
    assert card["data"]["span"] == model.data_span
    assert card["data"]["simulated"] is True
    assert len(card["data"]["recordings"]["train"]) == 3
    assert not set(card["data"]["recordings"]["train"]) & set(card["data"]["recordings"]["test"])
    assert card["threshold"] == pytest.approx(-np.log10(0.03))
    assert card["metrics"]["roc_auc"] >= 0.7
    assert {"recording=sim004", "aami_class=N", "leads=MLII,V1"} <= set(card["slices"])
    assert {key.split("=")[0] for key in card["slices"]} == set(contract.SLICE_FEATURES)
    assert card["model"]["parameters"] < 150_000
    assert 1.5 < card["model"]["flops_per_window"] / card["model"]["parameters"] < 2.5, "dense: a multiply-add a weight"
    assert all(Path(uri).exists() for uri in card["artifacts"].values())


def test_lineage_and_data_sheet_are_kept_with_the_version(settings, stores, trained, model_dir):
    version = trained.model_version
    found = stores.results.model_lineage(version)
    assert [(r["recording"], r["split"]) for r in found["recordings"]] == [
        (f"sim{i:03d}", split) for i, split in enumerate(SPLITS)
    ]
    assert sum(r["n_windows"] for r in found["recordings"]) == stores.warehouse.data_span(found["data_span"]).n_windows
    assert found["run"]["model_version"] == version
    assert found["card"]["schema"]["version"] == 1
    stages = {stage["stage"]: stage for stage in found["card"]["stages"]}
    assert {"PostgresExampleGen", "DataGate", "Trainer", "Evaluator"} <= set(stages)
    assert list(stages)[-1] == "Pusher"
    (examples,) = [i["artifact_id"] for i in stages["Trainer"]["inputs"] if i["key"] == "examples"]
    assert examples in {o["artifact_id"] for o in stages["Transform"]["outputs"]}
    pseudonym = found["recordings"][0]["pseudonym"]
    assert [m["model_version"] for m in stores.results.models_of_patient("main", pseudonym)] == [version]
    sheet = json.loads((model_dir / "assets.extra" / "datasheet.json").read_text())
    assert sheet == stores.results.models(version)[0].datasheet
    assert (sheet["composition"]["recordings"], sheet["composition"]["simulated_recordings"]) == (6, 6)
    assert sheet["composition"]["windows"] == sum(r["n_windows"] for r in found["recordings"])
    assert sheet["by_split"]["train"]["class N"] > 0
    assert not any(f"sim{i:03d}" in json.dumps(sheet) for i in range(6))
    text = (model_dir / "assets.extra" / "model_card.md").read_text()
    assert "## ethical considerations" in text


def test_the_pushed_version_was_checked_and_carries_warm_up_requests(model_dir, trained):
    from serving.warmup import drawn_windows, read_warmup

    assert trained.seconds["ServingCheck"] > 0
    requests = [(signature, inputs[contract.SAMPLES]) for signature, inputs in read_warmup(model_dir)]
    drawn = drawn_windows({contract.SAMPLES: (None, *requests[1][1].shape[1:])}, 32)[contract.SAMPLES]
    np.testing.assert_array_equal(requests[1][1], drawn, "nobody's windows")
    sizes = [(signature, len(samples)) for signature, samples in requests]
    assert sizes == [("score", 1), ("score", 32), ("serving_default", 1), ("serving_default", 32)]


def test_no_identifier_is_in_the_model_or_in_anything_that_training_left(settings, trained, model_dir):
    """As test_identifiers.py does for what is not a model: seeded names and numbers, 0 hits."""
    searched, hits = 0, []
    for path in settings.data_dir.rglob("*"):
        if path.is_file() and "postgres" not in path.relative_to(settings.data_dir).parts:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            searched += 1
            hits += [path for one in (*NAME.split(), NUMBER) if one.casefold().encode() in content.lower()]
    assert searched > 30
    assert (model_dir / "saved_model.pb").is_file()
    assert hits == []


def test_the_run_is_listed_with_configuration_span_metrics_and_artifacts(stores, trained):
    run = stores.results.training_runs()[-1]
    assert (run["status"], run["model_version"]) == ("pushed", trained.model_version)
    assert run["config"]["training"]["epochs"] == 3
    assert run["metrics"] == dict(trained.metrics)
    assert run["seconds"].keys() >= {"PostgresExampleGen", "Transform", "Trainer", "Evaluator", "Pusher"}
    assert list((Path(run["artifacts"]["Trainer.model_run"])).rglob("events.out.tfevents.*"))


def test_every_window_of_the_span_was_seen_in_its_split(stores, trained):
    import tensorflow as tf

    card = stores.results.latest_model().card
    examples = Path(card["artifacts"]["PostgresExampleGen.examples"])
    for split in contract.SPLITS:
        files = [str(path) for path in (examples / f"Split-{split}").iterdir()]
        n = sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP"))
        assert n == sum(card["data"]["labels"][split].values())


def test_signatures_are_the_contract(model_dir):
    import tensorflow as tf

    signatures = tf.saved_model.load(str(model_dir)).signatures
    default = signatures[contract.SIGNATURE_DEFAULT]
    inputs = {name: tuple(spec.shape) for name, spec in default.structured_input_signature[1].items()}
    assert inputs == {
        contract.SAMPLES: (None, 160, 2),
        contract.LEAD_MASK: (None, 2),
        contract.RR: (None, 5),
        contract.TEMPLATE: (None, 160, 2),
        contract.TEMPLATE_BEATS: (None, 1),
    }
    assert set(default.structured_outputs) == {
        contract.SCORE, contract.VERDICT, contract.LEAD, contract.PARTS, contract.RECONSTRUCTION, contract.SAMPLE_ERROR,
        contract.THRESHOLD, contract.RANK,
    }  # fmt: skip
    assert set(signatures[contract.SIGNATURE_SCORE].structured_outputs) == {
        contract.SCORE, contract.VERDICT, contract.LEAD,
    }  # fmt: skip
    assert set(signatures[contract.SIGNATURE_EXAMPLES].structured_outputs) == {
        contract.SCORE, contract.VERDICT, contract.RANK,
    }  # fmt: skip


def test_a_window_scores_the_same_alone_in_any_batch_and_from_an_example(model_dir, client, block):
    import tensorflow as tf

    from components.example_gen import RecordBatchToExamplesEncoder, to_record_batch

    inputs = block.model_inputs()
    whole = client.score(inputs)
    for size, threads in ((1, 1), (7, 1), (64, 1), (7, 3)):
        client_of = InProcessModelClient(model_dir, batch_size=size, threads=threads)
        part = client_of.score({k: v[:40] for k, v in inputs.items()})
        np.testing.assert_allclose(part.score, whole.score[:40], atol=1e-5, rtol=1e-5)
        assert len(client_of.score({k: v[:0] for k, v in inputs.items()}).score) == 0
        client_of.close()
    explained = client.explain(inputs)
    np.testing.assert_allclose(explained.scores.score, whole.score, atol=1e-5, rtol=1e-5)
    context = dict.fromkeys((contract.RECORDING, contract.SEX, contract.AGE_BAND, contract.LEADS), "x")
    serialized = RecordBatchToExamplesEncoder().encode(to_record_batch(block, context))
    answer = tf.saved_model.load(str(model_dir)).signatures[contract.SIGNATURE_EXAMPLES](tf.constant(serialized))
    np.testing.assert_allclose(answer[contract.SCORE].numpy(), whole.score, atol=1e-5, rtol=1e-5)
    above = answer[contract.RANK].numpy() >= 0.5
    np.testing.assert_array_equal(above, answer[contract.VERDICT].numpy().astype(bool))


def test_verdict_is_the_threshold_that_the_model_carries(client, block):
    explained = client.explain(block.model_inputs())
    np.testing.assert_array_equal(explained.scores.verdict, explained.scores.score >= explained.threshold)
    assert explained.reconstruction.shape == explained.sample_error.shape == (len(block), 160, 2)
    assert np.isfinite(explained.reconstruction).all()
    assert (explained.sample_error >= 0).all()


def test_what_is_absent_does_not_matter(client, block):
    inputs = block.model_inputs()
    one_lead = {**inputs, contract.LEAD_MASK: np.tile(np.float32([1, 0]), (len(block), 1))}
    garbage = {name: value.copy() for name, value in one_lead.items()}
    garbage[contract.SAMPLES][:, :, 1] = np.nan
    garbage[contract.TEMPLATE][:, :, 1] = 1e6
    np.testing.assert_array_equal(client.score(garbage).score, client.score(one_lead).score)
    assert (client.score(one_lead).lead_slot == 0).all()
    no_template = {**inputs, contract.TEMPLATE_BEATS: np.zeros((len(block), 1), np.float32)}
    other = {**no_template, contract.TEMPLATE: np.full_like(inputs[contract.TEMPLATE], np.nan)}
    np.testing.assert_array_equal(client.score(other).score, client.score(no_template).score)
    nothing = {name: np.zeros_like(value[:3]) for name, value in inputs.items()}
    assert np.isfinite(client.score(nothing).score).all()


def test_the_false_alarm_rate_holds_on_the_calibration_patients(settings, stores, client):
    scores = []
    for window_set in stores.warehouse.window_sets(settings.features.digest, splits=["calibration"]):
        held_out = stores.warehouse.read_block(settings.features, *window_set.id_range(0, window_set.n_beats))
        scores.append(client.score(held_out.select(held_out.aami_class == b"N").model_inputs()).verdict)
    assert np.concatenate(scores).mean() == pytest.approx(0.03, abs=0.01)


def test_scoring_gives_every_window_one_score_and_run_twice_changes_nothing(settings, stores, trained):
    first = score(settings, stores)
    sets = stores.warehouse.window_sets(settings.features.digest)
    assert first.windows_in == first.scored == sum(s.n_windows for s in sets)
    assert (first.failed, first.unusable) == (0, sum(s.n_rejected for s in sets))
    kept = {s.recording_id: stores.results.scores_of(trained.model_version, s) for s in sets}
    second = score(settings, stores)
    assert (second.windows_in, second.scored) == (0, 0)
    for window_set in sets:
        window_id, scores = stores.results.scores_of(trained.model_version, window_set)
        np.testing.assert_array_equal(window_id, kept[window_set.recording_id][0])
        np.testing.assert_array_equal(scores, kept[window_set.recording_id][1])
    for summary in stores.results.summaries([s.recording_id for s in sets]):
        assert summary["scored"] + summary["unusable"] == summary["beats"]
        assert summary["burden_percent"] == pytest.approx(100 * summary["anomalous"] / summary["scored"])
        assert 40 < summary["mean_heart_rate_bpm"] < 160


def test_a_damaged_window_is_counted_as_failed_and_the_others_are_scored(settings, stores, trained):
    window_set = stores.warehouse.window_sets(settings.features.digest, splits=["test"])[1]
    first, stop = window_set.id_range(0, t.MAX_BEATS)
    victim = int(stores.results.scores_of(trained.model_version, window_set)[0][5])
    with stores.warehouse.transaction() as connection:
        original = connection.execute(sa.select(t.windows.c.samples).where(t.windows.c.window_id == victim)).scalar()
        connection.execute(t.windows.update().where(t.windows.c.window_id == victim).values(samples=b"\0\0"))
    with stores.results.transaction() as connection:
        in_set = t.scores.c.window_id.between(first, stop)
        connection.execute(t.scores.delete().where(in_set))
        connection.execute(t.recording_summaries.delete())
    try:
        report = score(settings, stores, recordings=[window_set.recording])
        assert (report.scored, report.failed) == (window_set.n_windows - 1, 1)
        with stores.results.transaction() as connection:
            failure = connection.execute(sa.select(t.score_failures)).one()
        assert failure.window_id == victim
        assert "2 and 640 bytes" in failure.reason
        assert score(settings, stores, recordings=[window_set.recording]).windows_in == 0
    finally:
        with stores.warehouse.transaction() as connection:
            connection.execute(t.windows.update().where(t.windows.c.window_id == victim).values(samples=original))
    repaired = score(settings, stores, recordings=[window_set.recording], retry_failed=True)
    assert (repaired.windows_in, repaired.scored, repaired.failed) == (1, 1, 0)


def test_nothing_changed_means_nothing_is_trained(settings, stores, trained):
    again = train(settings, stores)
    assert (again.model_version, again.reused) == (trained.model_version, True)


def test_a_model_below_the_gates_or_too_slow_is_not_blessed_and_the_last_one_stays(settings, stores, trained):
    strict = settings.model_copy(
        update={
            "evaluation": settings.evaluation.model_copy(update={"max_false_alarm_rate": 0.0001}),
            "serving": settings.serving.model_copy(update={"max_latency_ms": 0.001}),
        }
    )
    with pytest.raises(
        NotBlessedError, match=r"all test windows: false_alarm_rate is 0\.\d+, at most 0.0001 is"
    ) as refused:
        train(strict, stores)
    assert "cannot be served: takes" in str(refused.value)
    assert "for one window (p99 of 100), 0.001 ms are allowed" in str(refused.value)
    assert stores.results.latest_model().model_version == trained.model_version
    run = stores.results.training_runs()[0]
    assert (run["status"], run["model_version"]) == ("not_blessed", None)
    # Only the gates had changed: everything up to the Evaluator came from cache.
    assert run["seconds"]["PostgresExampleGen"] + run["seconds"]["Transform"] + run["seconds"]["Trainer"] < 5


def test_data_that_the_schema_refuses_stops_the_run_with_a_list(settings, stores, trained):
    window_set = stores.warehouse.window_sets(settings.features.digest, splits=["train"])[0]
    first, stop = window_set.id_range(0, 40)
    broken = t.windows.c.window_id.between(first, stop)
    # One window more or less labelled makes it another data span, so nothing comes from cache.
    with stores.warehouse.transaction() as connection:
        kept = connection.execute(
            sa.select(t.windows.c.window_id, t.windows.c.rr_prev_s, t.windows.c.aami_class).where(broken)
        ).all()
        connection.execute(t.windows.update().where(broken).values(rr_prev_s=9000.0, aami_class="Q"))
    try:
        with pytest.raises(DataInvalidError, match=r"(?s)train split, rr: .*9000.*curate a new version"):
            train(settings, stores)
        assert stores.results.training_runs()[0]["status"] == "data_invalid"
        assert stores.results.latest_model().model_version == trained.model_version
    finally:
        with stores.warehouse.transaction() as connection:
            for row in kept:
                this = t.windows.c.window_id == row.window_id
                connection.execute(
                    t.windows.update().where(this).values(rr_prev_s=row.rr_prev_s, aami_class=row.aami_class)
                )


def test_same_seed_and_data_give_the_same_metrics_and_the_champion_is_compared(settings, stores, trained):
    again = train(settings, stores, force=True)
    assert again.model_version != trained.model_version
    assert {name: again.metrics[name] for name in trained.metrics} == pytest.approx(dict(trained.metrics), abs=1e-3)
    assert again.metrics["roc_auc_diff"] == pytest.approx(0.0, abs=1e-3)
    assert again.seconds["Trainer"] > 1, "--force takes no stage from cache"
    assert "baseline_model" in again.seconds


def test_a_search_chooses_what_the_trainer_takes_and_its_trials_are_listed(settings, stores, trained, capsys, tmp_path):
    space = {"latent_units": (2, 6), "hidden_units": ((12,),)}
    searching = settings.model_copy(
        update={
            "training": settings.training.model_copy(update={"epochs": 1}),
            "search": settings.search.model_copy(update={"trials": 2, "space": space}),
            "evaluation": settings.evaluation.model_copy(update={"min_roc_auc": 0.0}),
        }
    )
    found = train(searching, stores, push=False)
    assert found.seconds["PostgresExampleGen"] + found.seconds["Transform"] < 5  # from cache: the data are the same
    run = stores.results.training_runs()[0]
    show_trials(run["run_id"], [run], tmp_path / "trials.json")
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert len(trials) == 2
    assert trials[0]["score"] >= trials[1]["score"]
    assert {"latent_units": 8, "hidden_units": "[24]"}.items() <= min(trials, key=lambda t: t["trial_id"]).items()
    assert "average_precision" in capsys.readouterr().out
    best = trials[0]
    assert run["config"]["training"]["latent_units"] == best["latent_units"]
    assert run["config"]["training"]["hidden_units"] == json.loads(best["hidden_units"])
    record = json.loads(
        (Path(run["artifacts"]["Trainer.model"]) / "Format-Serving/assets.extra/calibration.json").read_text()
    )
    assert record["hyperparameters"]["latent_units"] == best["latent_units"]
    with pytest.raises(NotFoundError, match="made no search"):
        show_trials(1, stores.results.training_runs(), None)


def test_what_would_be_trained_now_compiles_for_kubeflow(settings, stores, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = tmp_path / compile_for_kubeflow(settings, stores, "registry/ecg:1", "gs://bucket/ecg")
    job = written.read_text()
    assert "gs://bucket/ecg/models/ecg_autoencoder" in job
    assert f"span={stores.results.latest_model().data_span} " in job
    (schema,) = tmp_path.glob("build/kubeflow/schemas/*/v1/schema.pbtxt")
    assert f"gs://bucket/ecg/{schema.relative_to(written.parent)}" in job
    assert str(settings.data_dir) not in job


def test_too_few_patients_are_refused_before_anything_runs(settings, tmp_path):
    with open_stores(None, None, tmp_path) as empty:
        for run in (train, lambda *of: compile_for_kubeflow(*of, "image", "gs://bucket")):
            with pytest.raises(NotFoundError, match=r"is not in the warehouse\. Ingest recordings with it"):
                run(settings, empty)
        cohort = simulate_cohort(2, duration_s=60, sampling_rate_hz=250, seed=1)
        ingest(cohort, settings, empty)
        with pytest.raises(DataInvalidError, match=r"no windows of patients in the calibration split.*three patients"):
            train(settings, empty)


def test_a_scorer_killed_anywhere_leaves_every_window_with_exactly_one_score(settings, stores, trained, model_dir):
    environment = {
        **os.environ,
        "ECG_DATA_DIR": str(settings.data_dir),
        "ECG_SCORING__BLOCK_WINDOWS": "40",  # many commits, so that a kill falls between them
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "pipelines.score", "--model-version", str(trained.model_version)]
    with stores.results.transaction() as connection:
        for table in (t.scores, t.anomalies, t.recording_summaries, t.score_failures):
            connection.execute(table.delete())
    sets = stores.warehouse.window_sets(settings.features.digest)
    total = sum(s.n_windows for s in sets)
    scorer = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while _count(stores, t.scores) < total // 3:
        assert scorer.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(scorer.pid, signal.SIGKILL)
    scorer.wait()
    assert 0 < _count(stores, t.scores) < total
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert _count(stores, t.scores) == total
    client = InProcessModelClient(model_dir)
    for window_set in sets:
        block = stores.warehouse.read_block(settings.features, *window_set.id_range(0, window_set.n_beats))
        window_id, scores = stores.results.scores_of(trained.model_version, window_set)
        np.testing.assert_array_equal(window_id, block.window_id)
        np.testing.assert_allclose(scores, client.score(block.model_inputs()).score, atol=1e-5, rtol=1e-5)
    with stores.results.transaction() as connection:
        flagged = connection.execute(sa.select(sa.func.count()).where(t.scores.c.verdict)).scalar_one()
        in_episodes = connection.execute(sa.select(sa.func.sum(t.episodes.c.n_beats))).scalar_one()
    assert _count(stores, t.anomalies) == flagged == in_episodes


def test_a_model_whose_files_changed_is_refused(settings, stores, trained, model_dir):
    path = model_dir / "saved_model.pb"
    original = path.read_bytes()
    path.write_bytes(original + b"\0")
    try:
        with pytest.raises(ModelUnavailableError, match="not those that were pushed"):
            score(settings, stores, model_version=trained.model_version)
    finally:
        path.write_bytes(original)


def _count(stores, table):
    with stores.results.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_an_encoder_and_a_drift_reference_lie_beside_the_model(model_dir, block):
    from monitoring.drift_encoder import ENCODER_FILE, load_encoder
    from monitoring.drift_reference import REFERENCE_FILE, load_reference

    encoder = load_encoder(model_dir / "assets.extra" / ENCODER_FILE)
    inputs = block.model_inputs()
    latent = encoder(inputs)
    assert latent.shape == (len(block), 8)
    assert np.isfinite(latent).all()
    assert (latent.std(axis=0) > 1e-3).any()
    reference = load_reference(model_dir / "assets.extra" / REFERENCE_FILE)
    features = {key.feature for key in reference.by_lead}
    assert {"amplitude", "mains", "baseline", "polarity", "noise", "heart_rate", "latent_1", "latent_8"} <= features
    assert "score" not in features  # three held-out patients do not tell how patients differ
    assert set(reference.beats) == {"MLII", "V1"}
    assert len(reference.window_sets) == 6


def test_live_windows_are_compared_with_the_statistics_of_the_training_run(settings, stores, trained):
    """Runs last: it adds recordings of another site."""
    from dataclasses import replace

    from configs.contract import LEADS
    from pipelines.skew import compare_with_training

    now = datetime.now(UTC)
    (before,) = compare_with_training(settings, stores, now=now)
    assert (before.site, before.status, before.windows) == ("main", "no_data", 0)
    elsewhere = []
    for source in simulate_cohort(3, duration_s=120, sampling_rate_hz=360, seed=77):
        header = replace(source.header, name=f"elsewhere {source.header.name}", leads=("AVF", "V3"))
        elsewhere.append(replace(source, header=header))
    at_other_site = settings.model_copy(update={"site": "other"})
    assert ingest(elsewhere, at_other_site, stores, split="test").added == 3
    reports = {report.site: report for report in compare_with_training(settings, stores, now=now)}
    assert LEADS in {finding["feature"] for finding in reports["other"].findings}
    (run,) = stores.results.drift_runs(site="other", method="skew")
    assert (run["status"], run["tests"], run["recordings"]) == ("compared", 4, 3)
    rows = stores.results.drift_findings(run["drift_run_id"])
    assert {(row["drift"], row["adjusted"]) for row in rows} == {("skew", None)}
