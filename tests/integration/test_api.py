"""The service over real PostgreSQL and a real socket; only the model is a stand-in, with answers that are known."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import sqlalchemy as sa
import uvicorn

from api.deps import Services
from api.main import create_app
from api.model_provider import ModelProvider
from api.paging import LIFETIME
from api.server import listen
from configs import contract
from configs.contract import FeatureSpec
from configs.settings import ApiSettings
from monitoring.metrics import new_registry
from serving.model_client import Explanation, FloatArray, ModelClient, Scores
from warehouse.signal.ecg import Reason, RecordingHeader, RejectedBeat, UnusableSpan, WindowChunk, Windows
from warehouse.store import Stores, open_stores
from warehouse.store.results import BlockScores, ModelVersion, Results
from warehouse.store.warehouse import Patient, WindowSet

pytestmark = pytest.mark.integration

SPEC = FeatureSpec()
START = datetime(2026, 1, 31, 8, tzinfo=UTC)
RR_S = 0.8
THRESHOLD = 1.5
LEADS = ("MLII", "V1")
LABELS = ("N", "S", "V", "F", "Q", "U")


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


class HalvingModel:
    """Expects half of every sample; the error is ten times what is missing."""

    def __init__(self, model_version: int) -> None:
        self._version = model_version

    @property
    def model_version(self) -> int:
        return self._version

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        n = len(inputs[contract.SAMPLES])
        return Scores(np.full(n, 2.0, np.float32), np.ones(n, bool), np.zeros(n, np.int16))

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        half = inputs[contract.SAMPLES] / 2
        threshold = np.full(len(half), THRESHOLD, np.float32)
        return Explanation(self.score(inputs), threshold, half, np.abs(half) * 10)

    def check(self) -> None:
        """It can always answer."""


@dataclass
class World:
    """Both databases, and short ways to put something in."""

    stores: Stores
    patient: Patient
    clock: Clock = field(default_factory=Clock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add_model(self) -> int:
        version = next(self.numbers)
        self.stores.results.register_model(
            {
                "model_version": version,
                "model_name": "ecg_autoencoder",
                "feature_version": SPEC.digest,
                "feature_spec": SPEC.model_dump(mode="json"),
                "threshold": THRESHOLD,
                "digest": f"digest {version}",
                "data_span": 1,
                "run_key": f"run {version}",
                "card": {"metrics": {"roc_auc": 0.97}},
            }
        )
        return version

    def add_recording(
        self, name: str, n_beats: int, start: datetime = START, *, source: str = "", slots: tuple[str, ...] = LEADS
    ) -> WindowSet:
        """A recording with a beat every 0.8 s from 1 s on; sample i of beat b is b + i microvolts in slot 0."""
        header = RecordingHeader(
            name, "wfdb", f"{name}.dat", "p", 360.0, ("MLII", "V1"), int((n_beats + 2) * RR_S * 360),
            checksum=f"{name} {source} {n_beats} {start}", start_time=start,
        )  # fmt: skip
        chunk = WindowChunk(
            make_windows(n_beats),
            [UnusableSpan(0.0, 0.5, Reason.EDGE), UnusableSpan(2.0, 3.0, Reason.NOISE, "V1")],
            [RejectedBeat(n_beats, 1 + n_beats * RR_S, Reason.EDGE, "N")],
        )
        done = self.stores.warehouse.write_recording(
            header, patient=self.patient, source_key=source or name, spec=SPEC, lead_slots=slots,
            r_peak_source="annotations", label_source="reference", suspect_inverted=lambda: ["V1"], now=START,
            chunks=[chunk],
        )  # fmt: skip
        sets = self.stores.warehouse.window_sets(SPEC.digest, recordings=[name])
        return next(s for s in sets if s.recording_id == done.recording_id)

    def add_scores(self, model_version: int, window_set: WindowSet, score: npt.NDArray[np.float32]) -> None:
        """Scores all windows of a set; odd beats point to the second lead slot."""
        block = self.stores.warehouse.read_block(SPEC, *window_set.id_range(0, window_set.n_beats))
        lead_slot = (np.arange(len(block)) % 2).astype(np.int16)
        run = self.stores.results.start_run(model_version, len(block), 0)
        scored = BlockScores(score, score >= THRESHOLD, lead_slot)
        self.stores.results.write_scores(run, model_version, window_set, block, scored)


def make_windows(n: int) -> Windows:
    ramp = np.arange(SPEC.window_samples)[None, :, None] + np.arange(n)[:, None, None]
    rr = np.tile(np.float32([RR_S, RR_S, 0.75, 0.9]), (n, 1))
    rr[0] = 0
    mask = np.ones((n, 2), bool)
    mask[3::10, 1] = False
    return Windows(
        beat_index=np.arange(n),
        r_peak_s=1 + np.arange(n) * RR_S,
        samples=(ramp * np.array([1, -1])).astype(np.int16),
        lead_mask=mask,
        rr=rr,
        template=np.zeros((n, SPEC.window_samples, 2), np.int16),
        template_beats=np.zeros(n, np.int16),
        quality=np.full(n, 0.875, np.float32),
        symbol=np.full(n, "N"),
        aami_class=np.array([LABELS[i % len(LABELS)] for i in range(n)]),
    )


@contextmanager
def serving(
    stores: Stores, clock: Clock, load: Callable[[ModelVersion], ModelClient] | None = None
) -> Iterator[httpx.Client]:
    """The service on a free port, and a client of it."""
    models = ModelProvider(stores.results, load or (lambda model: HalvingModel(model.model_version)), clock, wait_s=0.5)
    app = create_app(Services(stores, models, ApiSettings(), clock, new_registry()))
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
            models.close()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def world(data_dir: Path) -> Iterator[World]:
    with open_stores(None, None, data_dir) as stores:
        stores.warehouse.ensure_feature_version(SPEC)
        shares = {"train": 0.5, "calibration": 0.2, "test": 0.3}
        yield World(stores, stores.warehouse.ensure_patients([("pseudonym", "male", "65-79")], shares)["pseudonym"])


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    with serving(world.stores, world.clock) as client:
        yield client


def pages(client: httpx.Client, url: str, **params: Any) -> Iterator[dict[str, Any]]:
    """All pages of a listing."""
    token: dict[str, str] = {}
    while True:
        response = client.get(url, params={**params, **token})
        assert response.status_code == 200, response.text
        yield response.json()
        if response.json()["next_page_token"] is None:
            return
        token = {"page_token": response.json()["next_page_token"]}


def items(client: httpx.Client, url: str, **params: Any) -> list[dict[str, Any]]:
    return [item for page in pages(client, url, **params) for item in page["items"]]


def check_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:ecg:problem:{slug}"
    return dict(response.json())


def ramp_scores(n: int) -> npt.NDArray[np.float32]:
    """0, 0.1, ... 2.9, and again: half of them at or above the threshold."""
    return (np.arange(n) % 30 / 10).astype(np.float32)


@dataclass(frozen=True)
class Scored:
    """Two recordings that overlap in time, scored by one model version, and what it should have found."""

    model_version: int
    expected: list[dict[str, Any]]


@pytest.fixture(scope="module")
def scored(world: World) -> Scored:
    version = world.add_model()
    expected = []
    for name, start in (("200", START), ("201", START + timedelta(seconds=40))):
        window_set = world.add_recording(name, 120, start)
        world.add_scores(version, window_set, ramp_scores(120))
        world.stores.results.summarise(version, window_set, 75.0, gap_beats=1)
        for beat, score in enumerate(ramp_scores(120)):
            if score >= THRESHOLD:
                expected.append(
                    {
                        "id": f"{version}-{window_set.id_range(beat, beat)[0]}",
                        "recording": name,
                        "time": start + timedelta(seconds=1 + beat * RR_S),
                        "lead": LEADS[beat % 2],
                        "score": float(str(score)),
                        "beat": beat,
                    }
                )
    return Scored(version, sorted(expected, key=lambda one: (one["time"], int(one["id"].split("-")[1]))))


def test_listing_is_by_time_and_says_what_is_known(client: httpx.Client, scored: Scored) -> None:
    page = client.get("/anomalies", params={"model_version": scored.model_version, "page_size": 1000}).json()
    assert page["next_page_token"] is None
    assert page["model_version"] == scored.model_version
    found = page["items"]
    assert [one["id"] for one in found] == [one["id"] for one in scored.expected]
    for one, expected in zip(found, scored.expected, strict=True):
        assert datetime.fromisoformat(one["time"]) == expected["time"]
        assert one["time"].endswith("Z")
        assert one["r_peak_s"] == pytest.approx(1 + expected["beat"] * RR_S)
        assert (one["recording"], one["lead"], one["score"]) == (
            expected["recording"], expected["lead"], expected["score"],
        )  # fmt: skip
        assert one["threshold"] == THRESHOLD
        label = LABELS[expected["beat"] % len(LABELS)]
        assert one["reference_label"] == (None if label == "U" else label)
        assert one["episode_id"] <= int(one["id"].split("-")[1])


AFTER = START + timedelta(seconds=60)
BEFORE = START + timedelta(seconds=100)
FILTERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "start": ({"start": AFTER.isoformat()}, lambda one: one["time"] >= AFTER),
    "end": ({"end": BEFORE.isoformat()}, lambda one: one["time"] < BEFORE),
    "recording": ({"recording": "201"}, lambda one: one["recording"] == "201"),
    "lead": ({"lead": "V1"}, lambda one: one["lead"] == "V1"),
    "min_score": ({"min_score": 2.3}, lambda one: one["score"] >= 2.3),
}


@pytest.mark.parametrize("names", [c for n in range(1, 6) for c in itertools.combinations(FILTERS, n)], ids="+".join)
def test_filters_compose(client: httpx.Client, scored: Scored, names: tuple[str, ...]) -> None:
    params = {key: value for name in names for key, value in FILTERS[name][0].items()}
    expected = [one["id"] for one in scored.expected if all(FILTERS[name][1](one) for name in names)]
    assert expected, "the combination should find something"
    found = items(client, "/anomalies", model_version=scored.model_version, page_size=7, **params)
    assert [one["id"] for one in found] == expected


def test_bounds_of_times(client: httpx.Client, scored: Scored) -> None:
    third, fourth = scored.expected[2]["time"], scored.expected[3]["time"]
    span = {"start": third.isoformat().replace("+00:00", "Z"), "end": fourth.isoformat()}
    (found,) = items(client, "/anomalies", model_version=scored.model_version, **span)
    assert found["id"] == scored.expected[2]["id"]  # start is included, end is not
    shifted = {"start": third.astimezone(UTC).replace(tzinfo=None).isoformat() + "-00:30"}
    later = items(client, "/anomalies", model_version=scored.model_version, **shifted)
    assert later == []  # half an hour later in UTC


def test_every_listed_score_finds_itself(client: httpx.Client, scored: Scored) -> None:
    for one in items(client, "/anomalies", model_version=scored.model_version)[:15]:
        found = items(client, "/anomalies", model_version=scored.model_version, min_score=one["score"])
        assert one["id"] in [other["id"] for other in found]


def test_nothing_found_is_no_error(client: httpx.Client, scored: Scored) -> None:
    assert items(client, "/anomalies", model_version=scored.model_version, recording="nobody") == []


@pytest.mark.parametrize("page_size", [1, 7, 58])
def test_paging_gives_each_exactly_once_while_rows_are_inserted(
    client: httpx.Client, world: World, page_size: int
) -> None:
    version, name = world.add_model(), f"paging {page_size}"
    first = world.add_recording(name, 59, START)
    world.add_scores(version, first, np.full(59, 2, np.float32))
    base = first.id_range(0, 0)[0]
    found, inserted = [], 0
    for number, page in enumerate(pages(client, "/anomalies", model_version=version, page_size=page_size)):
        found += [one["id"] for one in page["items"]]
        if number < 2:  # as many beats at the same moments, before and after the position of the page
            other = world.add_recording(f"{name} {number}", 59, START)
            world.add_scores(version, other, np.full(59, 2, np.float32))
            inserted += 59
    assert len(found) == len(set(found))
    assert [one for one in found if int(one.split("-")[1]) - base < 59] == [f"{version}-{base + i}" for i in range(59)]
    assert len(items(client, "/anomalies", model_version=version, page_size=1000)) == 59 + inserted


def test_listing_stays_on_its_version_when_a_newer_one_is_pushed(client: httpx.Client, world: World) -> None:
    old = world.add_model()
    window_set = world.add_recording("pushed", 30)
    world.add_scores(old, window_set, np.full(30, 2, np.float32))
    world.clock.now += timedelta(minutes=1)
    first = client.get("/anomalies", params={"page_size": 10}).json()
    assert first["model_version"] == old
    new = world.add_model()
    world.add_scores(new, window_set, np.full(30, 3, np.float32))
    world.clock.now += timedelta(minutes=1)
    second = client.get("/anomalies", params={"page_size": 10, "page_token": first["next_page_token"]}).json()
    assert second["model_version"] == old
    assert {one["score"] for one in second["items"]} == {2.0}
    assert client.get("/anomalies").json()["model_version"] == new
    assert client.get("/health/ready").json()["parts"]["model"]["model_version"] in (old, new)
    assert client.get(f"/anomalies/{new}-{window_set.id_range(0, 0)[0]}").status_code == 200


def test_tokens_of_others_are_refused(client: httpx.Client, world: World, scored: Scored) -> None:
    params = {"model_version": scored.model_version, "page_size": 5, "lead": "MLII"}
    token = client.get("/anomalies", params=params).json()["next_page_token"]
    middle = len(token) // 2
    altered = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for other in ({**params, "lead": "V1"}, {"model_version": scored.model_version}, {**params, "page_token": altered}):
        body = check_problem(client.get("/anomalies", params={"page_token": token, **other}), 422, "invalid-request")
        assert [found["parameter"] for found in body["errors"]] == ["page_token"]
    check_problem(client.get("/recordings", params={"page_token": token}), 422, "invalid-request")
    resized = client.get("/anomalies", params={**params, "page_size": 6, "page_token": token})
    assert len(resized.json()["items"]) == 6  # the size of a page is no filter
    world.clock.now += LIFETIME + timedelta(seconds=1)
    body = check_problem(client.get("/anomalies", params={**params, "page_token": token}), 422, "invalid-request")
    assert "expired" in body["detail"]


def test_one_anomaly_with_its_signal(client: httpx.Client, world: World, scored: Scored) -> None:
    listed = items(client, "/anomalies", model_version=scored.model_version, recording="200")
    beat = 23  # score 2.3, in the episode of beats 15 to 29; its second lead is not usable
    one = next(item for item in listed if round((item["r_peak_s"] - 1) / RR_S) == beat)
    detail = client.get(f"/anomalies/{one['id']}").json()
    assert {key: detail[key] for key in one} == one
    assert (detail["sampling_rate_hz"], detail["r_peak_index"], detail["feature_version"]) == (180.0, 70, SPEC.digest)
    assert (detail["leads"], detail["lead_usable"]) == (["MLII", "V1"], [True, False])
    ramp = (np.arange(SPEC.window_samples) + beat) / 1000
    np.testing.assert_allclose(detail["samples_mv"], [ramp, -ramp], atol=1e-9)
    np.testing.assert_allclose(detail["reconstruction_mv"], [ramp / 2, -ramp / 2], atol=1e-4)
    np.testing.assert_allclose(detail["sample_error"], [ramp * 5, ramp * 5], atol=1e-4)
    assert detail["rr"] == {"rr_prev_s": 0.8, "rr_next_s": 0.8, "rr_median_s": 0.75, "rr_p90_s": 0.9}
    assert detail["quality"] == 0.875
    episode = detail["episode"]
    assert (episode["n_beats"], episode["label"]) == (15, None)
    assert episode["peak_score"] == pytest.approx(2.9)
    assert (episode["start_s"], episode["end_s"]) == pytest.approx((1 + 15 * RR_S, 1 + 29 * RR_S))
    assert datetime.fromisoformat(episode["start"]) == START + timedelta(seconds=1 + 15 * RR_S)
    assert episode["episode_id"] == one["episode_id"]


def test_an_anomaly_before_its_recording_is_summarised(client: httpx.Client, world: World) -> None:
    version = world.add_model()
    window_set = world.add_recording("one lead", 3, slots=("MLII", ""))
    world.add_scores(version, window_set, np.full(3, 2, np.float32))
    first, second, _ = items(client, "/anomalies", model_version=version)
    assert (first["lead"], second["lead"]) == ("MLII", None)
    detail = client.get(f"/anomalies/{first['id']}").json()
    assert (detail["episode_id"], detail["episode"]) == (None, None)
    assert detail["leads"] == ["MLII", None]
    assert detail["rr"] == dict.fromkeys(("rr_prev_s", "rr_next_s", "rr_median_s", "rr_p90_s"))


def test_an_anomaly_whose_window_was_dropped(client: httpx.Client, world: World) -> None:
    version = world.add_model()
    window_set = world.add_recording("dropped", 2)
    world.add_scores(version, window_set, np.full(2, 2, np.float32))
    with world.stores.warehouse.transaction() as connection:
        connection.execute(sa.text("DELETE FROM windows WHERE window_id = :id"), {"id": window_set.id_range(0, 0)[0]})
    gone, there = items(client, "/anomalies", model_version=version)
    body = check_problem(client.get(f"/anomalies/{gone['id']}"), 404, "not-found")
    assert "no longer in the warehouse" in body["detail"]
    assert client.get(f"/anomalies/{there['id']}").status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "/anomalies/1-1",
        "/anomalies/999999-1",
        "/anomalies?model_version=999999",
        "/recordings/999999",
        "/models/999999",
    ],
)
def test_what_does_not_exist(client: httpx.Client, scored: Scored, url: str) -> None:
    assert "does not exist" in check_problem(client.get(url), 404, "not-found")["detail"]


def test_model_that_still_loads_or_cannot_be_loaded(world: World, scored: Scored) -> None:
    may_load, broken = threading.Event(), threading.Event()

    def load(model: ModelVersion) -> ModelClient:
        may_load.wait(10)
        if broken.is_set():
            raise RuntimeError("no such file")
        return HalvingModel(model.model_version)

    url = f"/anomalies/{scored.expected[0]['id']}"
    with serving(world.stores, world.clock, load) as client:
        assert client.get("/anomalies").status_code == 200  # listing needs no model
        for path, slug in ((url, "model-unavailable"), ("/health/ready", "not-ready")):
            response = client.get(path)
            assert "is still loading" in check_problem(response, 503, slug)["detail"]
            assert response.headers["retry-after"] == "5"
        broken.set()
        may_load.set()
        _until(lambda: "cannot be loaded" in client.get("/health/ready").text)
        assert "no such file" not in client.get(url).text


def test_recordings_page_by_page(client: httpx.Client, world: World) -> None:
    for number in range(3):
        world.add_recording("same name", 2, START + timedelta(days=number), source=f"source {number}")
    newest = world.add_recording("same name", 3, START + timedelta(days=2), source="source 2")  # replaces the third
    found = items(client, "/recordings", name="same name", page_size=2)
    assert [one["start_time"] for one in found] == [f"2026-0{m}T08:00:00Z" for m in ("1-31", "2-01", "2-02")]
    assert (found[-1]["recording_id"], found[-1]["version"]) == (newest.recording_id, 2)
    everything = [one["recording_id"] for one in items(client, "/recordings", page_size=3)]
    assert everything == sorted(set(everything))
    assert len(everything) > 5
    token = client.get("/recordings", params={"name": "same name", "page_size": 1}).json()["next_page_token"]
    check_problem(client.get("/recordings", params={"name": "200", "page_token": token}), 422, "invalid-request")


def test_one_recording(client: httpx.Client, scored: Scored) -> None:
    (listed,) = items(client, "/recordings", name="200")
    detail = client.get(f"/recordings/{listed['recording_id']}").json()
    assert {key: detail[key] for key in listed} == listed
    assert (detail["pseudonym"], detail["sex"], detail["age_band"]) == ("pseudonym", "male", "65-79")
    assert (detail["sampling_rate_hz"], detail["leads"], detail["duration_s"]) == (360.0, ["MLII", "V1"], 97.6)
    (window_set,) = detail["window_sets"]
    assert (window_set["n_windows"], window_set["n_rejected"], window_set["lead_slots"]) == (120, 1, ["MLII", "V1"])
    assert window_set["windowed_s"] + window_set["unusable_s"] == pytest.approx(97.6)
    assert [(s["start_s"], s["end_s"], s["lead"], s["reason"]) for s in detail["unusable_spans"]] == [
        (0.0, 0.5, None, "edge"),
        (2.0, 3.0, "V1", "noise"),
    ]
    (summary,) = detail["summaries"]
    assert (summary["model_version"], summary["scored"], summary["anomalous"]) == (scored.model_version, 120, 60)
    assert (summary["episodes"], summary["burden_percent"], summary["mean_heart_rate_bpm"]) == (4, 50.0, 75.0)


def test_models_newest_first(client: httpx.Client, world: World) -> None:
    world.add_model()
    newest = world.add_model()
    found = items_of(client.get("/models"))
    versions = [one["model_version"] for one in found]
    assert versions == sorted(versions, reverse=True)
    assert versions[0] == newest
    assert found[0] == client.get(f"/models/{newest}").json()
    assert (found[0]["name"], found[0]["threshold"], found[0]["data_span"]) == ("ecg_autoencoder", THRESHOLD, 1)
    assert found[0]["card"] == {"metrics": {"roc_auc": 0.97}}


def items_of(response: httpx.Response) -> list[dict[str, Any]]:
    return list(response.json()["items"])


def test_ready(client: httpx.Client, scored: Scored) -> None:
    _until(lambda: client.get("/health/ready").status_code == 200)
    body = client.get("/health/ready").json()
    assert body["status"] == "ready"
    assert {name: part["state"] for name, part in body["parts"].items()} == {
        "warehouse": "ok", "results": "ok", "model": "ok",
    }  # fmt: skip


def test_not_ready_when_a_database_goes_away(world: World, scored: Scored) -> None:
    closed = sa.make_url(world.stores.results.url).set(host="127.0.0.1", port=1, query={})
    gone = Results.open(closed.render_as_string(hide_password=False))
    with serving(Stores(world.stores.warehouse, gone), world.clock) as client:
        response = client.get("/health/ready")
        parts = check_problem(response, 503, "not-ready")["parts"]
        assert {name: part["state"] for name, part in parts.items()} == {
            "warehouse": "ok", "results": "missing", "model": "missing",
        }  # fmt: skip
        assert response.headers["retry-after"] == "5"
        check_problem(client.get("/anomalies"), 503, "database-unavailable")
        assert client.get("/recordings").status_code == 200
        assert client.get("/health/live").status_code == 200


def test_metrics_after_requests(world: World, scored: Scored) -> None:
    with serving(world.stores, world.clock) as client:
        for _ in range(3):
            client.get("/anomalies", params={"recording": "200"})
        client.get("/anomalies", params={"min_score": "nan"})
        client.get(f"/anomalies/{scored.expected[0]['id']}")
        client.get("/recordings/999999")
        client.get("/nowhere/200")
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    for line in (
        'ecg_api_requests_total{method="GET",route="/anomalies",status="2xx"} 3.0',
        'ecg_api_requests_total{method="GET",route="/anomalies",status="4xx"} 1.0',
        'ecg_api_requests_total{method="GET",route="/anomalies/{anomaly_id}",status="2xx"} 1.0',
        'ecg_api_requests_total{method="GET",route="/recordings/{recording_id}",status="4xx"} 1.0',
        'ecg_api_requests_total{method="GET",route="unmatched",status="4xx"} 1.0',
        'ecg_api_request_duration_seconds_count{method="GET",route="/anomalies",status="2xx"} 3.0',
        "ecg_api_requests_in_progress 1.0",  # this one
    ):
        assert line in lines
    assert "200" not in "".join(line.split("}")[0] for line in lines if "{" in line and "le=" not in line)
    assert any(line.startswith("ecg_build_info{") for line in lines)


def test_many_requests_at_once(client: httpx.Client, scored: Scored) -> None:
    statuses: list[int] = []

    def ask(number: int) -> None:
        one = scored.expected[number % len(scored.expected)]
        for url in (f"/anomalies/{one['id']}", f"/anomalies?model_version={scored.model_version}"):
            statuses.append(client.get(url).status_code)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 120


def test_command_serves_until_sigterm(world: World, scored: Scored, data_dir: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "ECG_DATA_DIR": str(data_dir), "ECG_LOG_LEVEL": "INFO"}
    command = [sys.executable, "-m", "api", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                _until(lambda: _answers(client), timeout_s=60)
                found = items(client, "/anomalies", model_version=scored.model_version)
                # No model was ever saved: what needs it says so, and the rest works.
                _until(lambda: "cannot be loaded" in client.get("/health/ready").text)
        finally:
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert len(found) == len(scored.expected)
    first, *lines = stderr.splitlines()
    assert first.startswith(f"http://127.0.0.1:{port} - ")
    logged = [json.loads(line) for line in lines]
    assert {"request", "model_load_failed"} <= {line["event"] for line in logged}


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)
