"""What scoring does with a block: take it from the queue, read it, and commit its scores. No Beam."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Queue
from typing import Any

import numpy as np

from configs.contract import FeatureSpec
from serving.connect import ModelSource
from serving.model_client import ModelClient, Scores
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse
from warehouse.store.window_block import WindowBlock
from warehouse.store.work_queries import Holder, Taken
from warehouse.summaries import SummaryRules, summarise

NOT_FINITE = "the model's score is not finite"

#: Is told how many seconds a block was in a stage: read, model or commit.
OnStage = Callable[[str, float], None]

#: Blocks that are read ahead of the model, and that wait behind it to be written: two keep it busy, more cost memory.
AHEAD = 2

#: Threads that commit: while one waits for the database's answer, another has its statement there.
WRITERS = 2


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def one_thread_an_operation() -> None:
    """Has TensorFlow, where it is not loaded yet, run an operation in one thread unless the environment says otherwise.

    Cores are shared by batches instead: an operation of a thousand windows that is shared by several threads costs
    more, and waits for the one whose core the database or a writer has at that moment.
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


@dataclass(frozen=True)
class ScoringJob:
    """Where to read, what to score with, where to write: what every worker needs.

    Attributes:
        sets: window sets to score, by id; blocks of others in the queue are left alone.
        rules: how its verdicts become summaries.
        shadow: into shadow_scores.
    """

    warehouse_url: str
    results_url: str
    source: ModelSource
    spec: Mapping[str, Any]
    run_id: int
    sets: Mapping[int, WindowSet]
    rules: SummaryRules
    shadow: bool = False

    @property
    def model_version(self) -> int:
        return self.source.model_version


@dataclass(frozen=True)
class UnscoredBlock:
    """What of a block has no score yet; `failures` are (window_id, reason) of windows that cannot be read."""

    window_set: WindowSet
    first_id: int
    block: WindowBlock
    failures: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ScoredBlock:
    """A block and what the model said of it, in how many seconds."""

    unscored: UnscoredBlock
    scores: Scores
    model_seconds: float


class BlockReader:
    """Takes blocks from the queue and reads them, some ahead of whoever asks, in a thread of its own.

    Its blocks are its own until they are committed or it is closed.
    """

    def __init__(self, job: ScoringJob, on_stage: OnStage = lambda *_: None) -> None:
        self._job = job
        self._on_stage = on_stage
        self._spec = FeatureSpec.model_validate(job.spec)
        self._warehouse = Warehouse.open(job.warehouse_url, pool_size=2)
        self._results = Results.open(job.results_url, pool_size=2)
        self._holder = Holder(job.results_url)

    def blocks(self, limit: int | None = None) -> Iterator[UnscoredBlock]:
        """Blocks until the queue has no more to take, at most `limit`."""
        queue: Queue[UnscoredBlock | BaseException | None] = Queue(maxsize=AHEAD)
        stop = threading.Event()

        def fill() -> None:
            try:
                taken = 0
                while not stop.is_set() and (limit is None or taken < limit):
                    unscored = self.next_block()
                    if unscored is None:
                        break
                    taken += 1
                    queue.put(unscored)
                queue.put(None)
            except BaseException as error:  # noqa: BLE001 - raised again where the blocks are asked for
                queue.put(error)

        thread = threading.Thread(target=fill, name="block-reader", daemon=True)
        thread.start()
        try:
            while (found := queue.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            stop.set()
            while thread.is_alive():  # it may wait for room
                if not queue.empty():
                    queue.get()
                thread.join(0.05)

    def next_block(self) -> UnscoredBlock | None:
        """Takes one block and reads what of it has no score."""
        job = self._job
        taken = self._results.take_work(
            job.model_version, shadow=job.shadow, holder=self._holder.number, window_set_ids=job.sets.keys()
        )
        if taken is None:
            return None
        started = time.perf_counter()
        block, failures = read_unscored(self._warehouse, self._spec, taken)
        self._on_stage("read", time.perf_counter() - started)
        return UnscoredBlock(job.sets[taken.window_set_id], taken.first_id, block, failures)

    def close(self) -> None:
        """Frees what was not committed."""
        self._holder.close()
        self._warehouse.close()
        self._results.close()


def read_unscored(
    warehouse: Warehouse, spec: FeatureSpec, taken: Taken
) -> tuple[WindowBlock, tuple[tuple[int, str], ...]]:
    """Windows of a block without a score or a failure, and those that cannot be read, with the reason."""
    first, stop, done = taken.first_id, taken.stop_id, taken.done
    failures: list[tuple[int, str]] = []
    try:
        block = warehouse.read_block(spec, first, stop)
    except ValueError:  # one damaged window must not stop the others
        block = warehouse.read_block(spec, first, stop, well_formed=True)
        failures = [(window_id, detail) for window_id, _, detail in warehouse.misshapen_windows(spec, first, stop)]
    if len(done):
        block = block.select(~np.isin(block.window_id, done, assume_unique=True))
        failures = [failure for failure in failures if failure[0] not in set(done.tolist())]
    return block, tuple(failures)


class BlockWriter:
    """Commits blocks in threads of its own, a few behind whoever hands them over; a score that is not finite becomes a
    failure.
    """

    def __init__(self, job: ScoringJob, on_stage: OnStage = lambda *_: None) -> None:
        self._job = job
        self._on_stage = on_stage
        self._warehouse = Warehouse.open(job.warehouse_url, pool_size=2)
        self._results = Results.open(job.results_url, pool_size=2)
        self._gap_beats = None if job.rules.own_thresholds else job.rules.gap_beats  # episodes follow verdicts
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="block-writer")
        self._pending: list[Future[tuple[int, int]]] = []

    def write(self, scored: ScoredBlock) -> tuple[int, int]:
        """Hands a block over; returns how many scores and failures were new in blocks that are committed by now.

        Raises:
            EcgError: a block before this one could not be committed.
        """
        self._pending.append(self._pool.submit(self._commit, scored))
        return self._collect(leave=AHEAD)

    def flush(self) -> tuple[int, int]:
        """Waits until all is committed; returns as `write` does."""
        return self._collect(leave=0)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._warehouse.close()
        self._results.close()

    def _collect(self, leave: int) -> tuple[int, int]:
        n_scored = n_failed = 0
        while len(self._pending) > leave:
            scored, failed = self._pending.pop(0).result()
            n_scored, n_failed = n_scored + scored, n_failed + failed
        return n_scored, n_failed

    def _commit(self, scored: ScoredBlock) -> tuple[int, int]:
        started = time.perf_counter()
        unscored, scores = scored.unscored, scored.scores
        finite = np.isfinite(scores.score)
        failures = list(unscored.failures)
        failures += [(int(window_id), NOT_FINITE) for window_id in unscored.block.window_id[~finite]]
        whole = bool(finite.all())
        done = self._results.write_scores(
            self._job.run_id,
            self._job.model_version,
            unscored.window_set,
            unscored.block if whole else unscored.block.select(finite),
            BlockScores(scores.score[finite], scores.verdict[finite], scores.lead_slot[finite]),
            failures,
            shadow=self._job.shadow,
            work=unscored.first_id,
            model_seconds=scored.model_seconds,
            gap_beats=self._gap_beats,
        )
        if self._gap_beats is None or done[0] < unscored.window_set.n_windows:  # else its summary is made
            self._summarise_if_complete(unscored.window_set)
        self._on_stage("commit", time.perf_counter() - started)
        return done

    def _summarise_if_complete(self, window_set: WindowSet) -> None:
        """Makes a recording's summary with the commit of its last block, whoever commits that."""
        job = self._job
        ids = [window_set.window_set_id]
        if not job.shadow and not self._results.work_left(job.model_version, shadow=False, window_set_ids=ids):
            summarise(self._warehouse, self._results, job.model_version, window_set, job.rules)


def score_block(unscored: UnscoredBlock, model: ModelClient) -> ScoredBlock:
    """What a model says of a block."""
    started = time.perf_counter()
    if len(unscored.block):
        scores = model.score(unscored.block.model_inputs())
    else:
        scores = Scores(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.int16))
    return ScoredBlock(unscored, scores, time.perf_counter() - started)
