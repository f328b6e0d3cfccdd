"""Scoring, uploads, signal, feedback and exports over real PostgreSQL, real files and a real socket."""

import io
import json
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from api_world import (
    LABELS,
    SPEC,
    THRESHOLD,
    HalvingModel,
    Scored,
    World,
    check_problem,
    items,
    new_world,
    serving,
    serving_uploads,
    until,
)  # fmt: skip
from fhir.resources.observation import Observation
from fhir.resources.R4B.observation import Observation as R4BObservation
from pydantic import ValidationError

from configs.settings import ApiSettings, Settings, load_settings
from warehouse.ingest import ingest
from warehouse.signal.readers import find_sources
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores
from warehouse.store.connection import at_site
from warehouse.uploads import UploadIngester

pytestmark = pytest.mark.integration

SITE = "main"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    values = {"data_dir": tmp_path_factory.mktemp("data"), "pseudonym_key": "a key", "ingest": {"workers": 1}}
    return load_settings(overrides={**values, "api": {"max_upload_mb": 8, "max_body_mb": 4, "max_upload_files": 10}})


@pytest.fixture(scope="module")
def client(world: World, settings: Settings, scored: Scored) -> Iterator[httpx.Client]:
    with serving_uploads(world, settings) as client:
        yield client


# --- signal ----------------------------------------------------------------------------------------------------------


def test_signal_is_the_recordings_own_at_any_zoom(
    client: httpx.Client, world: World, settings: Settings, wfdb_folder: Path
) -> None:
    sources, _ = find_sources([str(wfdb_folder / "sim001.hea")])
    ingest(sources, settings, world.stores)
    (recording,) = items(client, "/recordings", name="sim001")
    url = f"/recordings/{recording['recording_id']}/signal"
    whole = client.get(url, params={"end_s": 100, "max_points": 20000}).json()
    assert (whole["kind"], whole["start_s"], whole["sampling_rate_hz"]) == ("samples", 0.0, 180.0)
    samples = np.array([lead["samples_mv"] for lead in whole["leads"]], float)
    assert samples.shape == (len(recording["leads"]), 18000)
    began = datetime.fromisoformat(recording["start_time"])
    times = {"start": began + timedelta(seconds=40), "end": began + timedelta(seconds=42)}
    some = client.get(url, params={name: moment.isoformat() for name, moment in times.items()}).json()
    assert some["start_s"] == pytest.approx(40, abs=0.01)
    assert some["leads"][0]["samples_mv"] == whole["leads"][0]["samples_mv"][7200:7560]
    for query, parameter in (
        ({"start": began.isoformat(), "start_s": 0}, "start"), ({"end": began.isoformat()}, "end"),
        ({"start_s": 3, "end_s": 3}, "end_s"), ({"from": 3}, "from"),
    ):  # fmt: skip
        refused = client.get(url, params=query)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["parameter"] == parameter
    # The windows were cut from this very signal.
    (window_set,) = world.stores.warehouse.window_sets(SPEC.digest, recordings=["sim001"])
    block = world.stores.warehouse.read_block(SPEC, *window_set.id_range(0, 100))
    for row in range(0, len(block), 9):
        at = round(block.r_peak_s[row] * 180) - SPEC.before_samples
        if block.lead_mask[row].all() and at + SPEC.window_samples <= 18000:
            stored = block.samples[row].T / 1000
            np.testing.assert_allclose(samples[:, at : at + SPEC.window_samples], stored, atol=1e-6)
    for max_points in (400, 90, 20):  # steps below and above those that are stored
        drawn = client.get(url, params={"end_s": 100, "max_points": max_points}).json()
        assert drawn["kind"] == "envelope"
        step = round(drawn["step_s"] * 180)
        for lead, row in zip(drawn["leads"], samples, strict=True):
            assert len(lead["min_mv"]) <= max_points + 1
            parts = [row[i : i + step] for i in range(0, 18000, step)]
            whole_parts = len(parts) - 1  # the last step of stored seconds may go on
            np.testing.assert_allclose(lead["min_mv"][:whole_parts], [p.min() for p in parts[:-1]], atol=1e-6)
            np.testing.assert_allclose(lead["max_mv"][:whole_parts], [p.max() for p in parts[:-1]], atol=1e-6)


def test_signal_of_a_recording_without_one_is_stitched_from_windows(client: httpx.Client, scored: Scored) -> None:
    (recording,) = items(client, "/recordings", name="200")
    url = f"/recordings/{recording['recording_id']}/signal"
    found = client.get(url, params={"start_s": 0, "end_s": 3}).json()
    first = np.array(found["leads"][0]["samples_mv"], float)
    assert np.isnan(first[: 180 - 70]).all()  # the first beat is at 1 s
    np.testing.assert_allclose(first[110 : 110 + 144], np.arange(144) / 1000, atol=1e-6)
    check_problem(client.get(url, params={"start_s": 5, "end_s": 4}), 422, "invalid-request")
    assert client.get(url, params={"start_s": 1e6}).json()["leads"][0]["samples_mv"] == []


def test_a_day_draws_at_once(client: httpx.Client, world: World, settings: Settings) -> None:
    (source,) = simulate_cohort(1, duration_s=1800, sampling_rate_hz=180, seed=3)
    ingest([source], settings, world.stores)
    (window_set,) = [s for s in world.stores.warehouse.window_sets(SPEC.digest) if s.recording == source.header.name]
    with world.stores.warehouse.transaction() as connection:  # the half hour, 48 times
        connection.exec_driver_sql(
            "INSERT INTO signal_chunks SELECT window_set_id, first_sample + 324000 * n, recorded_at, envelope, samples "
            f"FROM signal_chunks, generate_series(1, 47) AS n WHERE window_set_id = {window_set.window_set_id}"
        )
        connection.exec_driver_sql(
            f"UPDATE recordings SET duration_s = 86400 WHERE recording_id = {window_set.recording_id}"
        )
    url = f"/recordings/{window_set.recording_id}/signal"
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        day = client.get(url, params={"max_points": 2000}).json()
        seconds.append(time.perf_counter() - started)
    assert (day["kind"], day["step_s"]) == ("envelope", 44.0)
    assert len(day["leads"][0]["max_mv"]) == 1964
    assert min(seconds) < 1.0


# --- scoring ---------------------------------------------------------------------------------------------------------


def test_score_windows_as_the_model_says(client: httpx.Client, world: World, scored: Scored) -> None:
    samples = np.round(np.random.default_rng(1).normal(0, 1, (2, SPEC.window_samples)), 3)
    window = {"samples_mv": samples.tolist(), "lead_usable": [True, False], "rr": {"rr_prev_s": 0.8}}
    body = client.post("/score", json={"windows": [window, window], "model_version": scored.model_version}).json()
    assert (body["model_version"], body["threshold"]) == (scored.model_version, THRESHOLD)
    first, second = body["beats"]
    assert first == second
    assert (first["score"], first["anomalous"], first["lead"]) == (2.0, True, "0")
    np.testing.assert_allclose(first["reconstruction_mv"][0], samples[0] / 2, atol=1e-4)
    np.testing.assert_allclose(first["sample_error"][0], np.abs(samples[0]) * 5, atol=2e-3)
    assert not np.any(first["sample_error"][1])  # not usable: the model is not shown it
    assert (first["needs_human"], first["reasons"]) == (True, ["no_typical_beat"])
    short = client.post("/score", json={"windows": [window], "detail": "scores"}).json()["beats"][0]
    assert "sample_error" not in short


def test_a_strip_is_cut_as_at_ingest(client: httpx.Client, world: World, settings: Settings) -> None:
    (source,) = simulate_cohort(1, duration_s=60, sampling_rate_hz=250, seed=5)
    annotations = source.annotations()
    assert annotations is not None
    strip = {
        "samples": np.round(source.samples.T.astype(float), 5).tolist(), "sampling_rate_hz": 250, "units": "mV",
        "leads": list(source.header.leads), "r_peaks_s": annotations.time_s.tolist(),
    }  # fmt: skip
    found = client.post("/score", json={"strip": strip, "detail": "scores"}).json()
    assert len(found["beats"]) + len(found["rejected"]) == len(annotations.time_s)
    assert len(found["beats"]) > 40
    times = [beat["r_peak_s"] for beat in found["beats"]]
    assert set(np.round(times, 6)) <= set(np.round(annotations.time_s, 6))
    assert {beat["lead"] for beat in found["beats"]} <= set(source.header.leads)
    in_microvolts = {**strip, "samples": (np.array(strip["samples"]) * 1000).tolist(), "units": "uV"}
    again = client.post("/score", json={"strip": in_microvolts, "detail": "scores"}).json()
    assert [b["familiarity"] for b in again["beats"]] == [b["familiarity"] for b in found["beats"]]
    del strip["r_peaks_s"]
    detected = client.post("/score", json={"strip": strip, "detail": "scores"}).json()
    assert abs(len(detected["beats"]) - len(found["beats"])) <= 3


GOOD = {"samples": [[0.0] * 500], "sampling_rate_hz": 250, "leads": ["II"], "units": "mV"}


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ("{", "body"),
        ("[]", "body"),
        ("{}", "strip"),
        (json.dumps({"strip": GOOD, "windows": [{"samples_mv": [[0.0]]}]}), "strip"),
        (json.dumps({"strip": {**GOOD, "samples": [[float("nan")] * 9]}}), "body.strip.samples.0.0"),
        (json.dumps({"strip": {**GOOD, "samples": [[float("inf")] * 9]}}), "body.strip.samples.0.0"),
        (json.dumps({"strip": {**GOOD, "samples": [[0.0], [0.0, 1.0]], "leads": ["I", "II"]}}), "strip.samples"),
        (json.dumps({"strip": {**GOOD, "samples": [[]]}}), "strip.samples"),
        (json.dumps({"strip": {**GOOD, "leads": ["I", "II"]}}), "strip.leads"),
        (json.dumps({"strip": {**GOOD, "sampling_rate_hz": 0}}), "strip.sampling_rate_hz"),
        (json.dumps({"strip": {**GOOD, "sampling_rate_hz": 1e9}}), "strip.sampling_rate_hz"),
        (json.dumps({"strip": {**GOOD, "units": "furlong"}}), "strip.units"),
        (json.dumps({"windows": []}), "windows"),
        (json.dumps({"windows": [{"samples_mv": [[0.0] * 7] * 2}]}), "windows.0.samples_mv"),
        (json.dumps({"windows": [{"samples_mv": [[0.0] * SPEC.window_samples]}]}), "windows.0.samples_mv"),
        (json.dumps({"windows": [{"samples_mv": [[1e9] * SPEC.window_samples] * 2}]}), "windows.0.samples_mv.0.0"),
        (
            json.dumps({"windows": [{"samples_mv": [[0.0] * SPEC.window_samples] * 2, "lead_usable": [False, False]}]}),
            "windows.0.lead_usable",
        ),
        (json.dumps({"strip": GOOD, "model_version": 10**30}), "model_version"),
        (json.dumps({"strip": GOOD, "extra": 1}), "extra"),
    ],
)
def test_bodies_that_cannot_be_scored(client: httpx.Client, body: str, parameter: str) -> None:
    response = client.post("/score", content=body, headers={"Content-Type": "application/json"})
    errors = check_problem(response, 422, "invalid-request")["errors"]
    assert errors[0]["parameter"] in (parameter, parameter.removeprefix("body."))
    assert errors[0]["send"]


def test_flat_and_short_strips_give_no_beats_and_say_why(client: httpx.Client) -> None:
    for n in (3, 100, 5000):
        found = client.post("/score", json={"strip": {**GOOD, "samples": [[0.0] * n]}}).json()
        assert found["beats"] == []
        assert found["unusable"][0]["reason"] in ("too_short", "flat_line", "no_beat")
    gaps = client.post("/score", json={"strip": {**GOOD, "samples": [[None] * 5000]}}).json()
    assert gaps["unusable"][0]["reason"] == "gap"


def test_bodies_that_are_too_large_or_of_another_kind(client: httpx.Client) -> None:
    large = b"[" + b"0," * 3_000_000
    response = client.post("/score", content=large, headers={"Content-Type": "application/json"})
    check_problem(response, 413, "too-large")

    def endless() -> Iterator[bytes]:  # without a Content-Length
        for _ in range(100):
            yield b"0" * 100_000

    response = client.post("/score", content=endless(), headers={"Content-Type": "application/json"})
    check_problem(response, 413, "too-large")
    check_problem(client.post("/score", content=b"a=1", headers={"Content-Type": "text/plain"}), 415,
                  "unsupported-media-type")  # fmt: skip


def test_a_body_that_does_not_come(world: World, scored: Scored) -> None:
    with serving(world.stores, world.clock, settings=ApiSettings(body_timeout_s=0.3)) as client:
        with socket.create_connection((str(client.base_url.host), client.base_url.port or 0), timeout=10) as line:
            line.sendall(b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
                         b"Content-Type: application/json\r\n\r\n{")  # fmt: skip
            assert line.recv(100).startswith(b"HTTP/1.1 408")
        assert client.get("/health/live").status_code == 200


def test_a_model_that_goes_away(world: World, scored: Scored) -> None:
    class Gone(HalvingModel):
        def explain(self, inputs: Any) -> Any:
            from configs.errors import ModelUnavailableError

            raise ModelUnavailableError("model server", "does not answer", "Ask again.")

    with serving(world.stores, world.clock, lambda model: Gone(model.model_version)) as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        window = {"samples_mv": [[0.0] * SPEC.window_samples] * 2}
        check_problem(client.post("/score", json={"windows": [window]}), 503, "model-unavailable")


# --- uploads ---------------------------------------------------------------------------------------------------------


def finished(client: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    url = response.headers["location"]
    until(lambda: client.get(url).json()["status"] in ("done", "failed"), timeout_s=60)
    return dict(client.get(url).json())


def parts(*paths: Path) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (path.name, path.read_bytes())) for path in paths]


def test_uploaded_records_are_ingested(client: httpx.Client, wfdb_folder: Path) -> None:
    files = [path for path in wfdb_folder.iterdir() if path.stem == "sim002"]
    key = {"Idempotency-Key": "one"}
    first = client.post("/recordings", files=parts(*files), headers=key)
    done = finished(client, first)
    assert (done["status"], done["problem"]) == ("done", None)
    assert [one["name"] for one in done["recordings"]] == ["sim002"]
    detail = client.get(f"/recordings/{done['recordings'][0]['recording_id']}").json()
    assert detail["window_sets"][0]["n_windows"] > 100
    again = client.post("/recordings", files=parts(*files), headers=key).json()
    assert again["upload_id"] == first.json()["upload_id"]
    check_problem(client.post("/recordings", files=parts(files[0]), headers=key), 409, "conflict")
    repeated = finished(client, client.post("/recordings", files=parts(*files)))
    assert repeated["recordings"] == done["recordings"]  # the same content adds nothing


def test_an_archive_is_unpacked(client: httpx.Client, wfdb_folder: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in wfdb_folder.iterdir():
            if path.stem == "sim003":
                file.write(path, f"records/{path.name}")
    done = finished(client, client.post("/recordings", files={"file": ("records.zip", archive.getvalue())}))
    assert [one["name"] for one in done["recordings"]] == ["sim003"]


def test_damaged_files_fail_and_leave_nothing(client: httpx.Client, settings: Settings, wfdb_folder: Path) -> None:
    header = (wfdb_folder / "sim004.hea").read_bytes()
    done = finished(client, client.post("/recordings", files=[("file", ("sim004.hea", header))]))
    assert done["status"] == "failed"
    assert done["recordings"] == []
    assert str(settings.data_dir) not in done["problem"]
    assert items(client, "/recordings", name="sim004") == []
    nothing = finished(client, client.post("/recordings", files={"file": ("notes.md", b"hello")}))
    assert nothing["status"] == "failed"
    assert not list((settings.data_dir / "uploads").iterdir())


@pytest.mark.parametrize(
    "name",
    ["../evil.csv", "/etc/passwd", "a/b.csv", "..\\evil.csv", ".hidden", "", "a\x00.csv", "x" * 300, "<b>.csv", "..",
     "a;DROP TABLE uploads.csv"],
)  # fmt: skip
def test_path_names_in_uploads(client: httpx.Client, settings: Settings, name: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n\r\n1\r\n--b--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    check_problem(client.post("/recordings", content=body, headers=headers), 422, "invalid-request")
    assert not list((settings.data_dir / "uploads").iterdir())


def test_archives_that_would_do_harm(client: httpx.Client, settings: Settings) -> None:
    def zipped(*members: tuple[str, bytes]) -> dict[str, tuple[str, bytes]]:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members:
                file.writestr(name, content)
        return {"file": ("a.zip", archive.getvalue())}

    bomb = zipped(("a.csv", bytes(50_000_000)))
    check_problem(client.post("/recordings", files=bomb), 413, "too-large")
    check_problem(client.post("/recordings", files=zipped(*((f"{i}.csv", b"") for i in range(11)))), 413, "too-large")
    for name in ("../../evil.csv", "/etc/evil.csv", "a/../../evil.csv"):
        check_problem(client.post("/recordings", files=zipped((name, b"1"))), 422, "invalid-request")
    broken = {"file": ("a.zip", zipped(("a.csv", b"1" * 1000))["file"][1][:-30])}
    check_problem(client.post("/recordings", files=broken), 422, "invalid-request")
    elsewhere = b"evil 1 360 100\n../../pseudonym.key 16 200 11 1024 0 0 0 II\n"
    check_problem(client.post("/recordings", files={"file": ("evil.hea", elsewhere)}), 422, "invalid-request")
    large = {"file": ("a.csv", bytes(9_000_000))}
    check_problem(client.post("/recordings", files=large), 413, "too-large")
    assert not list((settings.data_dir / "uploads").iterdir())


def test_what_is_no_upload(client: httpx.Client) -> None:
    check_problem(client.post("/recordings", json={}), 415, "unsupported-media-type")
    check_problem(client.post("/recordings", files={"other": ("a.csv", b"1")}), 422, "invalid-request")
    check_problem(client.post("/recordings", data={"file": "text"}, files={"x": ("", b"")}), 422, "invalid-request")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    check_problem(client.post("/recordings", content=b"no form", headers=headers), 422, "invalid-request")
    check_problem(client.get(f"/uploads/{'0' * 32}"), 404, "not-found")


def test_uploads_are_resumed_by_the_next_service(world: World, settings: Settings, wfdb_folder: Path) -> None:
    files = [path for path in wfdb_folder.iterdir() if path.stem == "sim005"]
    folder = settings.data_dir / "uploads" / ("1" * 32)
    folder.mkdir(parents=True)
    for path in files:
        (folder / path.name).write_bytes(path.read_bytes())
    row = {"upload_id": "1" * 32, "site": SITE, "created_by": "local", "digest": "d", "files": [], "bytes": 0}
    world.stores.warehouse.add_upload({**row, "idempotency_key": None, "patients": None, "status": "ingesting"})
    with serving_uploads(world, settings) as client:
        until(lambda: client.get(f"/uploads/{'1' * 32}").json()["status"] == "done", timeout_s=60)


def test_uploads_may_be_ingested_by_other_processes_each_by_one(
    new_stores: Callable[[], Stores], settings: Settings, wfdb_folder: Path
) -> None:
    world = new_world(new_stores())  # nobody else ingests here
    world.add_model()
    apart = settings.model_copy(update={"api": settings.api.model_copy(update={"ingest_uploads": False})})
    ingesters = [UploadIngester(world.stores, settings, world.clock) for _ in range(2)]
    with serving_uploads(world, apart) as client:
        files = [("file", (path.name, path.read_bytes())) for path in wfdb_folder.iterdir() if path.stem == "sim004"]
        url = client.post("/recordings", files=files).headers["location"]
        with at_site(SITE), world.stores.warehouse.claimed_upload() as taken:
            assert taken is not None
            assert client.get(url).json()["status"] == "waiting"
            assert not ingesters[0].ingest_next()
        assert ingesters[1].ingest_next()
        assert client.get(url).json()["status"] == "done"
        assert not any(ingester.ingest_next() for ingester in ingesters)


# --- reviews and feedback --------------------------------------------------------------------------------------------


def test_feedback_from_reviews(world: World, settings: Settings) -> None:
    version = world.add_model()
    window_set = world.add_recording("feedback", 120)
    world.add_scores(version, window_set, np.where(np.arange(120) < 40, 2.0, 0.5).astype(np.float32))
    world.stores.results.summarise(version, window_set, 75.0, gap_beats=1)
    world.clock.now += timedelta(minutes=1)
    with serving(world.stores, world.clock) as client:
        about = {"model_version": version}
        found = items(client, "/anomalies", sort="-score", **about)
        assert len(found) == 40
        for i, one in enumerate(found[:10]):
            body = {"anomaly_id": one["id"], "verdict": "confirm" if i < 8 else "reject"}
            body |= {"label": "V"} if i < 8 else {"label": "artefact", "cause": "noise"}
            assert client.post("/reviews", json=body).status_code == 201
        sample = client.get("/feedback/sample", params={"n": 20, "seed": 4, **about}).json()["items"]
        assert len({one["window_id"] for one in sample}) == 20
        assert all(one["score"] == 0.5 for one in sample)
        for i, one in enumerate(sample):
            body = {
                "window_id": one["window_id"],
                "sampled": True,
                "verdict": "confirm" if i == 0 else "reject",
                **about,
            }
            assert client.post("/reviews", json=body).status_code == 201
        about_it = {"recording_id": window_set.recording_id, "n": 3, **about}
        calibration = client.get("/feedback/calibration", params=about_it).json()
        assert (calibration["reviewed"], calibration["needed"]) == (8 + 20, 10)  # artefacts tell nothing
        seen = {one["window_id"] for one in sample} | {int(one["id"].split("-")[1]) for one in found[:10]}
        assert len(calibration["items"]) == 3
        assert not seen & {one["window_id"] for one in calibration["items"]}
        nowhere = client.get("/feedback/calibration", params={**about_it, "recording_id": 987654})
        assert nowhere.status_code == 404
        performance = client.get("/feedback/performance", params=about).json()
        counts = {
            name: performance[name] for name in ("flagged", "unflagged", "confirmed", "rejected", "missed", "passed")
        }
        assert counts == {"flagged": 40, "unflagged": 80, "confirmed": 8, "rejected": 2, "missed": 1, "passed": 19}
        precision, recall = performance["precision"], performance["recall"]
        assert precision["value"] == pytest.approx(0.8)
        assert (precision["low"], precision["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-3)  # Wilson
        assert recall["value"] == pytest.approx(32 / (32 + 80 / 20))
        assert 0.6 < recall["low"] < recall["value"] < recall["high"] <= 1
        errors = client.get("/feedback/errors", params=about).json()
        assert errors["cause"][:2] == [
            {"value": None, "confirmed": 8, "rejected": 0}, {"value": "noise", "confirmed": 0, "rejected": 2},
        ]  # fmt: skip
        assert errors["recording"] == [{"value": "feedback", "confirmed": 8, "rejected": 2}]
        preview = client.get("/feedback/threshold", params={"threshold": 0.5, **about}).json()
        assert (preview["flagged"], preview["flagged_now"], preview["scored"]) == (120, 40, 120)
        assert (preview["confirmed"], preview["rejected"]) == (9, 21)
        preview = client.get("/feedback/threshold", params={"threshold": 0.51, **about}).json()
        assert (preview["flagged"], preview["precision"]["value"]) == (40, pytest.approx(0.8))
        stats = client.get("/stats", params={"start": "2026-01-01T00:00:00Z", "end": "2026-03-01T00:00:00Z", **about})
        (bucket,) = stats.json()["buckets"]
        assert (bucket["start"], bucket["anomalies"], bucket["confirmed"], bucket["rejected"]) == (
            "2026-01-31T00:00:00Z", 40, 8, 2,
        )  # fmt: skip
        unreviewed = items(client, "/anomalies", review_status="unreviewed", page_size=7, **about)
        assert len(unreviewed) == 30
        assert len(items(client, "/anomalies", label="V", review_status="confirmed,settled", **about)) == 8
        until(lambda: len(world.stores.warehouse.labels_of(*window_set.id_range(0, 120))) == 30)


def test_an_episode_is_reviewed_at_once(client: httpx.Client, scored: Scored) -> None:
    episode = items(client, "/episodes", model_version=scored.model_version, sort="-score")[0]
    answer = client.post("/reviews", json={"episode": episode["id"], "verdict": "confirm", "label": "S"})
    assert len(answer.json()["reviews"]) == episode["n_beats"]
    beats = client.get(f"/episodes/{episode['id']}").json()["anomalies"]
    assert {beat["review_label"] for beat in beats} == {"S"}
    undo = client.post(f"/reviews/{answer.json()['reviews'][3]['review_id']}/undo")
    assert {state["status"] for state in undo.json()["states"]} == {"unreviewed"}


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"verdict": "confirm"}, "anomaly_id"),
        ({"anomaly_id": "1-1", "window_id": 1, "verdict": "confirm"}, "window_id"),
        ({"anomaly_id": "x", "verdict": "confirm"}, "anomaly_id"),
        ({"anomaly_id": "1-16777216", "verdict": "maybe"}, "verdict"),
        ({"window_id": 16777216, "verdict": "confirm", "label": "N"}, "label"),
        ({"window_id": 16777216, "verdict": "unsure", "label": "V"}, "label"),
        ({"window_id": 16777216, "verdict": "confirm", "comment": "\0"}, "comment"),
        ({"window_id": 16777216, "verdict": "confirm", "comment": "x" * 2001}, "comment"),
        ({"window_id": 16777216, "verdict": "confirm", "cause": "'; DROP TABLE reviews"}, "cause"),
    ],
)
def test_reviews_that_cannot_be_taken(client: httpx.Client, body: dict[str, Any], parameter: str) -> None:
    errors = check_problem(client.post("/reviews", json=body), 422, "invalid-request")["errors"]
    assert errors[0]["parameter"] == parameter


# --- what all answers have in common ---------------------------------------------------------------------------------


def test_sorting_by_score_pages_through_each_once(client: httpx.Client, scored: Scored) -> None:
    for sort in ("score", "-score", "-time"):
        found = items(client, "/anomalies", model_version=scored.model_version, sort=sort, page_size=7)
        key = "score" if "score" in sort else "time"
        values = [one[key] if key == "score" else datetime.fromisoformat(one[key]) for one in found]
        assert values == sorted(values, reverse=sort.startswith("-"))
        assert sorted(one["id"] for one in found) == sorted(one["id"] for one in scored.expected)


def test_fields_etag_gzip_version(client: httpx.Client, scored: Scored) -> None:
    url = f"/anomalies?model_version={scored.model_version}&fields=id,score"
    response = client.get(url)
    assert all(set(one) == {"id", "score"} for one in response.json()["items"])
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["api-version"] == "1"
    same = client.get(url, headers={"If-None-Match": response.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert client.get("/v1" + url).json() == response.json()
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    check_problem(client.get("/anomalies?fields=id,nothing"), 422, "invalid-request")
    found = client.get(f"/anomalies?model_version={scored.model_version}").json()["items"][0]
    anomaly, window_id = found["id"], found["id"].partition("-")[2]
    for one, kept in (
        (f"/anomalies/{anomaly}", {"id", "samples_mv"}),
        (f"/windows/{window_id}", {"window_id", "score"}),
        (f"/recordings/{found['recording_id']}", {"recording_id", "unusable_spans"}),
        (f"/models/{scored.model_version}", {"model_version", "threshold"}),
    ):
        whole, some = client.get(one).json(), client.get(one, params={"fields": ",".join(sorted(kept))}).json()
        assert some == {name: whole[name] for name in kept}
        check_problem(client.get(one, params={"fields": "nothing"}), 422, "invalid-request")
    assert {"model_version"} == {
        name for model in client.get("/models?fields=model_version").json()["items"] for name in model
    }
    check_problem(client.get("/v2/anomalies"), 404, "no-such-path")


def test_cors_by_configuration(world: World, scored: Scored) -> None:
    origin = {"Origin": "https://dashboard.example"}
    with serving(
        world.stores, world.clock, settings=ApiSettings(cors_origins=("https://dashboard.example",))
    ) as client:
        assert client.get("/models", headers=origin).headers["access-control-allow-origin"] == origin["Origin"]
        assert (
            "access-control-allow-origin"
            not in client.get("/models", headers={"Origin": "https://evil.example"}).headers
        )


def test_a_window_that_was_not_flagged(client: httpx.Client, world: World, scored: Scored) -> None:
    (window_set,) = world.stores.warehouse.window_sets(SPEC.digest, recordings=["200"])
    first = window_set.id_range(0, 0)[0]
    window = client.get(f"/windows/{first + 3}", params={"model_version": scored.model_version}).json()
    assert (window["score"], window["anomalous"], window["review_status"]) == (pytest.approx(0.3), False, "unreviewed")
    assert (window["previous_window_id"], window["next_window_id"]) == (first + 2, first + 4)
    assert (window["template_mv"], window["familiarity"]) == (None, None)
    assert window["lead_usable"] == [True, False]
    assert window["reference_label"] == LABELS[3]


# --- exports ---------------------------------------------------------------------------------------------------------


def test_exports_as_csv_and_parquet(client: httpx.Client, scored: Scored) -> None:
    params = {"model_version": scored.model_version}
    lines = client.get("/exports/anomalies", params=params).text.splitlines()
    assert lines[0].startswith("model_version,window_id,recording_id,recording,recorded_at")
    assert len(lines) == 1 + len(scored.expected)
    answer = client.get("/exports/anomalies", params={**params, "format": "parquet", "recording": "200"})
    assert answer.headers["content-disposition"] == f'attachment; filename="anomalies-{scored.model_version}.parquet"'
    table = pq.read_table(io.BytesIO(answer.content))
    expected = [one for one in scored.expected if one["recording"] == "200"]
    assert table.num_rows == len(expected)
    assert table["recorded_at"][0].as_py() == expected[0]["time"]
    assert client.get("/exports/reviews").headers["content-type"].startswith("text/csv")


def test_formulas_in_exports_are_text(client: httpx.Client, world: World) -> None:
    version = world.add_model()
    world.add_scores(version, world.add_recording("=1+1", 2), np.full(2, 2, np.float32))
    assert ",'=1+1," in client.get("/exports/anomalies", params={"model_version": version}).text


@pytest.mark.parametrize("fhir", ["R4", "R5"])
def test_an_episode_as_fhir(client: httpx.Client, scored: Scored, fhir: str) -> None:
    episode = items(client, "/episodes", model_version=scored.model_version, recording="200")[0]
    answer = client.get(f"/exports/episodes/{episode['id']}/fhir", params={"version": fhir})
    assert answer.headers["content-type"].startswith("application/fhir+json")
    resource = answer.json()
    assert (resource["resourceType"], resource["status"]) == ("Observation", "preliminary")
    assert resource["subject"]["identifier"]["value"] == "pseudonym"
    data = resource["component"][0]["valueSampledData"]
    assert data.get("period", data.get("interval")) == pytest.approx(1000 / 180)
    assert ("period" in data, "interval" in data) == (fhir == "R4", fhir == "R5")
    values = data["data"].split()
    seconds = episode["end_s"] - episode["start_s"] + 4
    assert len(values) == pytest.approx(seconds * 180, abs=2)
    assert set(values) - {"E"} <= {str(i) for i in range(1000)}
    # The official structure: R5 5.0.0; R4B 4.3.0 for R4, whose Observation and SampledData are those of R4 4.0.1.
    official = {"R4": R4BObservation, "R5": Observation}[fhir]
    parsed = official.model_validate_json(answer.content)
    assert parsed.component[0].valueSampledData.data == data["data"]
    assert (parsed.effectivePeriod.end - parsed.effectivePeriod.start).total_seconds() == pytest.approx(
        seconds, abs=0.02
    )
    other = {"R4": Observation, "R5": R4BObservation}[fhir]
    with pytest.raises(ValidationError):  # period and interval are not each other's
        other.model_validate_json(answer.content)
