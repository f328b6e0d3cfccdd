"""`python -m pipelines.score --watch`: scores what arrives, in arrival order, until it is told to stop.

What arrives comes first; what was there before, and what a version in shadow scores, fills the time between, a block at
a time. A promotion is followed as soon as its models are loaded, which happens beside the work.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry

from configs.errors import EcgError, UnavailableError
from configs.settings import Settings
from monitoring.model_metrics import ModelMetrics
from monitoring.scorer_metrics import ScorerMetrics
from pipelines.score import Task, find_pending, model_source, plan_blocks, scoring_job
from pipelines.scoring_blocks import BlockReader, BlockWriter, ScoredBlock, score_block
from serving.model_client import ModelClient
from serving.observed import open_observed
from warehouse.store import Stores
from warehouse.store.notifications import RELEASES_CHANNEL, WINDOWS_CHANNEL, Listener
from warehouse.store.records import ModelVersion, Release, WindowSet
from warehouse.summaries import summarise, summary_rules

_WAIT_S = 0.25  # at most between looks at whether to stop
_BLOCKS = 16  # of what arrived, before looking what else has
_LONGEST_PAUSE_S = 30.0  # after something was not available

#: Window sets whose numbers are so far below the newest seen are committed: numbers are given before the commit.
_STILL_OPEN = 1000


@dataclass
class _Lane:
    """Window sets that one version scores, and what it takes: a turn at the queue at a time."""

    settings: Settings
    stores: Stores
    model: ModelVersion
    client: ModelClient
    shadow: bool
    metrics: ScorerMetrics
    sets: dict[int, WindowSet] = field(default_factory=dict)
    scored: int = 0
    _parts: tuple[BlockReader, BlockWriter, int] | None = None

    def add(self, window_sets: Iterable[WindowSet]) -> None:
        """Puts window sets into the queue, unless this version has scored them."""
        pending = [s for s, _ in find_pending(self.stores.results, Task(self.model, list(window_sets), self.shadow))]
        self.sets |= {s.window_set_id: s for s in pending}
        plan_blocks(self.settings, self.stores.results, Task(self.model, pending, self.shadow), pending)

    def work(self, stop: threading.Event, limit: int) -> bool:
        """Scores up to `limit` blocks, and summarises what is complete; returns whether there was anything to do."""
        if not self.sets:
            return False
        reader, writer, _ = self._open()
        found = False
        for unscored in reader.blocks(limit):
            found = True
            scored = score_block(unscored, self.client)
            self._count(writer.write(scored), scored)
            if stop.is_set():
                break
        self._count(writer.flush())
        self._finish()
        return found

    def close(self, error: str | None = None) -> None:
        """Gives back what was taken and not finished."""
        if self._parts is not None:
            reader, writer, run_id = self._parts
            self._parts = None
            reader.close()
            writer.close()
            with suppress(EcgError):  # a database that is gone keeps the run as running
                self.stores.results.finish_run(run_id, seconds=0.0, error=error)

    def _count(self, committed: tuple[int, int], block: ScoredBlock | None = None) -> None:
        version, shadow = self.model.model_version, self.shadow
        self.scored += committed[0]
        self.metrics.committed(version, *committed, shadow=shadow)
        if block is not None:
            said, unreadable = block.scores, len(block.unscored.failures)
            self.metrics.block(version, said.score, said.verdict, unreadable, shadow=shadow)
            self.metrics.stage(version, "model", block.model_seconds, shadow=shadow)

    def _open(self) -> tuple[BlockReader, BlockWriter, int]:
        if self._parts is None:
            run_id = self.stores.results.start_run(self.model.model_version, 0, 0, shadow=self.shadow)
            task = Task(self.model, (), self.shadow)
            job = scoring_job(
                self.settings, self.stores, task, model_source(self.settings, self.model), run_id, self.sets
            )
            on_stage = partial(self.metrics.stage, self.model.model_version, shadow=self.shadow)
            self._parts = BlockReader(job, on_stage), BlockWriter(job, on_stage), run_id
        return self._parts

    def _finish(self) -> None:
        version = self.model.model_version
        left = self.stores.results.work_left(version, shadow=self.shadow, window_set_ids=self.sets.keys())
        gone = [self.sets.pop(one) for one in list(self.sets) if one not in left]
        if self.shadow or not gone:
            return
        summarised = self.stores.results.finished_window_sets(version, [s.window_set_id for s in gone])
        rules = summary_rules(self.settings.scoring)
        for window_set in gone:  # those without any block, or whose last block another scorer had
            if summarised.get(window_set.window_set_id) != window_set.n_windows:
                summarise(self.stores.warehouse, self.stores.results, version, window_set, rules)


@dataclass
class _Lanes:
    """What a release makes of the work: arrivals by version, what was there before, and the shadow."""

    release: Release
    feature_version: str
    fresh: dict[int, _Lane]
    behind: list[_Lane]

    def all(self) -> list[_Lane]:
        return [*self.fresh.values(), *self.behind]

    def close(self, error: str | None = None) -> None:
        for lane in self.all():
            lane.close(error)


class Watcher:
    """Scores what arrives.

    Args:
        report: is told of promotions, and of what is not available.
        registry: counts what it does.
    """

    def __init__(
        self, settings: Settings, stores: Stores, report: Callable[[str], None], registry: CollectorRegistry
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._report = report
        self._models = ModelMetrics(registry)
        self._metrics = ScorerMetrics(registry)
        self._clients: dict[int, ModelClient] = {}
        self._lanes: _Lanes | None = None
        self._seen: set[int] = set()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")
        self._next: tuple[Release, Future[dict[int, ModelClient]]] | None = None
        self._scored = 0

    def run(self, stop: threading.Event) -> int:
        """Works until `stop` is set; the block under way is finished. Returns how many windows were scored.

        What is not available for a while (a database, the model server) is waited for.
        """
        pause = 1.0
        channels = {self._stores.warehouse.url: WINDOWS_CHANNEL, self._stores.results.url: RELEASES_CHANNEL}
        while not stop.is_set():
            try:
                with Listener(channels) as listener:
                    while not stop.is_set():
                        if not self._turn(stop):
                            listener.wait(_WAIT_S)
                        pause = 1.0
            except UnavailableError as error:
                self._metrics.interrupted(type(error).__name__)
                self._report(f"{error} Trying again in {pause:.0f} s.")
                self._drop(str(error))
                stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._drop(None)
        self._loader.shutdown(wait=True, cancel_futures=True)
        for client in self._clients.values():
            client.close()
        return self._scored

    def _turn(self, stop: threading.Event) -> bool:
        """One look at everything; returns whether there may be more to do at once."""
        self._follow_release()
        if self._lanes is None:
            return False
        self._take_in()
        busy = sum(lane.work(stop, _BLOCKS) for lane in self._lanes.fresh.values()) > 0  # each gets its turn
        if not busy and not stop.is_set():
            busy = any(lane.work(stop, 1) for lane in self._lanes.behind)
        return busy

    def _follow_release(self) -> None:
        """Loads the models of a new release beside the work, and goes over to it when they are loaded."""
        release = self._stores.results.release()
        now = self._lanes.release if self._lanes else None
        if now is not None and _same_work(now, release):
            self._next = None
            return
        if self._next is None or not _same_work(self._next[0], release):
            self._next = (release, self._loader.submit(self._load, release))
        if now is not None and not self._next[1].done():
            return
        wanted, future = self._next
        try:
            clients = future.result()
        except UnavailableError as error:
            self._next = None
            if now is None:
                raise
            self._report(f"Staying with version {now.stable}: {error}")
            time.sleep(1.0)  # before it is tried again
            return
        self._next = None
        self._begin(wanted, clients)

    def _load(self, release: Release) -> dict[int, ModelClient]:
        loaded = dict(self._clients)
        for version in (release.stable, release.canary, release.shadow):
            if version is not None and version not in loaded:
                loaded[version] = open_observed(model_source(self._settings, self._model(version)), self._models)
        return loaded

    def _begin(self, release: Release, clients: dict[int, ModelClient]) -> None:
        self._drop(None)
        kept = {version: client for version, client in clients.items() if version in release.versions}
        for version in set(clients) - set(kept):
            clients[version].close()
            self._models.forget(version)
            self._metrics.forget(version)
        self._clients = kept
        stable = self._model(release.stable)
        shown = [version for version in (release.stable, release.canary) if version is not None]
        fresh = {version: self._lane(version) for version in shown}
        before = {version: self._lane(version) for version in shown}
        sets = self._stores.warehouse.window_sets(stable.feature_version)
        for version, lane in before.items():
            lane.add(s for s in sets if release.version_for(s.recording) == version)
        behind = list(before.values())
        if release.shadow is not None and self._model(release.shadow).feature_version == stable.feature_version:
            shadow = self._lane(release.shadow, shadow=True)
            shadow.add(sets)
            behind.append(shadow)
        self._lanes = _Lanes(release, stable.feature_version, fresh, behind)
        self._seen = {s.window_set_id for s in sets}
        parts = {"stable": release.stable, "canary": release.canary, "shadow": release.shadow}
        named = ", ".join(f"{label} {version}" for label, version in parts.items() if version is not None)
        self._report(f"Scoring with {named}; {sum(len(lane.sets) for lane in self._lanes.all())} recordings wait.")

    def _take_in(self) -> None:
        """Hands recordings that have arrived to the version that serves them."""
        assert self._lanes is not None
        lanes, newest = self._lanes, max(self._seen, default=0)
        arrived = [
            s
            for s in self._stores.warehouse.window_sets(lanes.feature_version, after_id=newest - _STILL_OPEN)
            if s.window_set_id not in self._seen
        ]
        for window_set in arrived:
            lanes.fresh[lanes.release.version_for(window_set.recording)].add([window_set])
        for lane in lanes.behind:
            if lane.shadow:
                lane.add(arrived)
        self._seen |= {s.window_set_id for s in arrived}

    def _lane(self, version: int, *, shadow: bool = False) -> _Lane:
        self._metrics.begin(version, shadow=shadow)
        return _Lane(self._settings, self._stores, self._model(version), self._clients[version], shadow, self._metrics)

    def _model(self, version: int) -> ModelVersion:
        return self._stores.results.models(version)[0]

    def _drop(self, error: str | None) -> None:
        if self._lanes is not None:
            self._scored += sum(lane.scored for lane in self._lanes.all())
            self._lanes.close(error)
            self._lanes = None


def _same_work(a: Release, b: Release) -> bool:
    return (a.stable, a.canary, a.canary_percent, a.shadow) == (b.stable, b.canary, b.canary_percent, b.shadow)
