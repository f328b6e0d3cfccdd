"""What the service's tests put into real databases, and a way to serve and ask it. Only the model is a stand-in."""

import itertools
import os
import re
import subprocess
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
import uvicorn

from api.access import Access, RateLimits
from api.deps import Services
from api.main import create_app
from api.model_provider import ModelProvider
from api.oidc import OidcVerifier
from api.server import listen
from api.uploads import Uploads
from configs import contract
from configs.contract import FeatureSpec
from configs.settings import ApiSettings, Settings
from monitoring.metrics import new_registry
from serving.combining import CombiningClient
from serving.model_client import Explanation, FloatArray, ModelClient, Scores
from warehouse.signal.ecg import Reason, RecordingHeader, RejectedBeat, UnusableSpan, WindowChunk, Windows
from warehouse.store import Stores, open_stores
from warehouse.store.records import BlockScores, ModelVersion, Patient, WindowSet

ROOT = Path(__file__).parents[2]
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
        parts = np.tile(np.float32([1.25, 0.75, -0.5]), (len(half), 1))
        return Explanation(self.score(inputs), threshold, parts, half, np.abs(half) * 10)

    def check(self) -> None:
        """It can always answer."""

    def close(self) -> None:
        """Nothing is held."""


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
                "datasheet": {"composition": {"recordings": 2}},
            }
        )
        release = self.stores.results.release()
        if release.stable != version:
            promotion = {"operator": "test", "action": "promote", "reason": "", "previous": release.stable}
            self.stores.results.add_release(release, {**promotion, "model_version": version, "stable": version})
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
    rr = np.tile(np.float32([RR_S, RR_S, 0.75, 0.9, 0.02]), (n, 1))
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
    stores: Stores,
    clock: Clock,
    load: Callable[[ModelVersion], ModelClient] | None = None,
    *,
    settings: ApiSettings | None = None,
    uploads: Uploads | None = None,
    oidc: OidcVerifier | None = None,
) -> Iterator[httpx.Client]:
    """The service on a free port, and a client of it."""
    settings = settings or ApiSettings()
    models = ModelProvider(
        stores.results, load or (lambda model: CombiningClient(HalvingModel(model.model_version))), clock, wait_s=0.5
    )
    access = Access(stores.results, settings, "main", clock, oidc)
    limits = RateLimits(settings.requests_per_minute, time.monotonic)
    app = create_app(Services(stores, models, settings, clock, new_registry(), access, limits, uploads))
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                assert thread.is_alive(), "it ended before it served"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
            models.close()


def new_world(stores: Stores) -> World:
    """Puts a patient into new databases."""
    stores.warehouse.ensure_feature_version(SPEC)
    shares = {"train": 0.5, "calibration": 0.2, "test": 0.3}
    return World(stores, stores.warehouse.ensure_patients([("pseudonym", "male", "65-79")], shares)["pseudonym"])


@contextmanager
def open_world(data_dir: Path) -> Iterator[World]:
    """A PostgreSQL of its own in `data_dir`; the fixture `world` needs none."""
    with open_stores(None, None, data_dir) as stores:
        yield new_world(stores)


def pages(
    client: httpx.Client, url: str, *, headers: dict[str, str] | None = None, **params: Any
) -> Iterator[dict[str, Any]]:
    """All pages of a listing."""
    token: dict[str, str] = {}
    while True:
        response = client.get(url, params={**params, **token}, headers=headers)
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


def score_two_recordings(world: World) -> Scored:
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


def doc_examples() -> list[str]:
    """The shell blocks of docs/api.md, in order."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "curl -s" in block or "json" in block]


def run_examples(shell: list[str], client: httpx.Client, folder: Path, **variables: str) -> list[tuple[str, str]]:
    """Runs shell blocks as they stand: curl itself is told where port 8000 is, and where to note the status.

    Returns:
        Status and address of each request.
    """
    here = f"{client.base_url.host}:{client.base_url.port}"
    (folder / ".curlrc").write_text(
        f'connect-to = "127.0.0.1:8000:{here}"\nwrite-out = "%{{stderr}}%{{http_code}} %{{url}}\\n"\n'
    )
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "\n".join(shell)], capture_output=True, text=True, timeout=60,
        cwd=folder, env={**os.environ, "HOME": str(folder), "CURL_HOME": str(folder), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(line.split()[0], line.split()[1]) for line in done.stderr.splitlines()]


@contextmanager
def serving_uploads(world: World, settings: Settings) -> Iterator[httpx.Client]:
    """The service, ready, with a place for uploads."""
    uploads = Uploads(world.stores, settings, world.clock)
    try:
        with serving(world.stores, world.clock, settings=settings.api, uploads=uploads) as client:
            until(lambda: client.get("/health/ready").status_code == 200)
            yield client
    finally:
        uploads.close()


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)
