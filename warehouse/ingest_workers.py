"""Cuts recordings and stores each in one transaction; in processes of their own where there are several."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import EXIT_UNEXPECTED, SourceError, StorageError, UnavailableError
from configs.settings import IngestSettings
from warehouse.signal.blocks import Plan
from warehouse.signal.ecg import Reason, RecordingHeader, RejectedBeat, SignalSource, UnusableSpan, WindowChunk, Windows
from warehouse.signal.prepared import Preparation, PrepareAll, Prepared
from warehouse.signal.quality import recording_notes
from warehouse.signal.readers import PrecutSource, SourceRef, open_source, read_ucr
from warehouse.signal.windows import choose_leads, cut_windows
from warehouse.store.database import free_bytes
from warehouse.store.records import Ingested, Patient
from warehouse.store.warehouse import Warehouse

#: Of a recording: from here on its blocks are prepared in processes of their own, which take seconds to start.
LONG_S = 2 * 3600.0

_BEATS_PER_S = 1.5
_ROW_BYTES = 200
_RESERVE_BYTES = 48 * 2**20  # WAL segments, and what PostgreSQL writes when it stops

#: A recording, or where to find one: a simulated one is handed over open.
Source = SourceRef | SignalSource


@dataclass(frozen=True)
class Job:
    """One recording to write: everything a worker process needs.

    Attributes:
        now: stands in for an unknown start time.
        disk: where the embedded database keeps its data; None when the database is somebody else's.
        origin: what stands in for the path of a file that came without one of its own.
    """

    source: Source
    header: RecordingHeader
    patient: Patient
    spec: FeatureSpec
    settings: IngestSettings
    now: datetime
    disk: Path | None
    origin: str | None = None


def run_jobs(jobs: Sequence[Job], warehouse: Warehouse) -> Iterator[Ingested | SourceError]:
    """Writes all recordings and gives each one's result as it is committed, in no particular order.

    Raises:
        UnavailableError: the database or the disk gives up, or a worker process died; what was committed stays.
    """
    if not jobs:
        return
    files = [job for job in jobs if isinstance(job.source, SourceRef)]
    workers = min(jobs[0].settings.workers or os.cpu_count() or 1, len(files))
    if workers < 2 or len(files) < 3:  # starting processes would take longer
        for job in jobs:
            yield write(job, warehouse)
        return
    for job in jobs:
        if not isinstance(job.source, SourceRef):
            yield write(job, warehouse)
    yield from _in_processes(files, workers, warehouse.url)


def _in_processes(jobs: Sequence[Job], workers: int, url: str) -> Iterator[Ingested | SourceError]:
    context = multiprocessing.get_context("spawn")  # not forked: this process has threads
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, _open_worker, (url, stop)) as pool:
        try:
            with _ctrl_c_held():
                pending: list[Future[Ingested | SourceError]] = [pool.submit(_write_in_worker, job) for job in jobs]
            for done in as_completed(pending):
                yield done.result()
        except BrokenProcessPool as error:
            raise _died() from error
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)  # waits: a worker that starts now still needs `stop`
            raise


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Holds Ctrl-C back until the end. A terminal sends it to all processes: those started meanwhile never take it."""
    held: list[int] = []
    handler = None
    if threading.current_thread() is threading.main_thread():  # any thread may take the signal; this one handles it
        handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit this
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


_worker_warehouse: Warehouse | None = None
_worker_stop: Event | None = None


def _open_worker(url: str, stop: Event) -> None:
    global _worker_stop, _worker_warehouse
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_stop = stop
    _worker_warehouse = Warehouse.open(url, pool_size=1)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(EXIT_UNEXPECTED)  # the open transaction ends with its connection


def _write_in_worker(job: Job) -> Ingested | SourceError:
    assert _worker_warehouse is not None, "the pool's initializer opens it"
    return write(job, _worker_warehouse)


def write(job: Job, warehouse: Warehouse) -> Ingested | SourceError:
    """Cuts and stores one recording; a file that turns out damaged half way is returned as its error."""
    _check_space(job)
    try:
        if isinstance(job.source, SourceRef) and job.source.format == "ucr":
            precut = read_ucr(job.source)
            _check_unchanged(job, job.source, precut.header)
            return _write_precut(job, precut, warehouse)
        source = open_source(job.source) if isinstance(job.source, SourceRef) else job.source
        if isinstance(job.source, SourceRef):
            _check_unchanged(job, job.source, source.header)
        return _write_signal(job, source, warehouse)
    except SourceError as error:
        return error


def _check_space(job: Job) -> None:
    """A database that runs into the end of its disk stops and cannot be read until there is space: stop before."""
    if job.disk is None:
        return
    window_bytes = 2 * 2 * job.spec.window_samples * job.spec.n_leads + _ROW_BYTES  # samples and template, int16
    needed = _RESERVE_BYTES + 2 * window_bytes * _BEATS_PER_S * job.header.duration_s  # twice: table and WAL
    if (free := free_bytes(job.disk)) < needed:
        raise StorageError(
            str(job.disk),
            f"the disk is full: {free // 2**20} MB left, {job.header.name} takes up to {needed / 2**20:.0f}",
            "Free space, or set ECG_DATA_DIR elsewhere, and run again: it goes on where it stopped.",
        )


def _check_unchanged(job: Job, ref: SourceRef, header: RecordingHeader) -> None:
    if header.checksum != job.header.checksum:
        raise SourceError(str(ref.path), "was changed while it was ingested", "Run again when it is whole.")


def _prepare_all(job: Job) -> PrepareAll | None:
    """Several processes for the blocks of one long recording; None where that gains nothing."""
    workers = job.settings.workers or os.cpu_count() or 1
    alone = _worker_warehouse is None  # this is no worker itself: each core has its own recording then
    if alone and isinstance(job.source, SourceRef) and workers > 1 and job.header.duration_s > LONG_S:
        return blocks_in_processes(job.source, workers)
    return None


def blocks_in_processes(ref: SourceRef, workers: int) -> PrepareAll:
    """For `cut_windows`: prepares the blocks of a file in processes, a little ahead of the one who takes them."""

    def prepare_all(prepare: Preparation, plans: Sequence[Plan]) -> Iterator[Prepared]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(plans)), context, _open_preparer, (ref,)) as pool:
            pending: deque[Future[Prepared]] = deque()
            try:
                for plan in plans:
                    with _ctrl_c_held():
                        pending.append(pool.submit(_prepare_in_worker, prepare, plan))
                    if len(pending) > workers + 1:  # no further: memory stays flat
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            except BrokenProcessPool as error:
                raise _died() from error
            finally:
                pool.shutdown(cancel_futures=True)

    return prepare_all


_prepared_source: SignalSource | None = None


def _open_preparer(ref: SourceRef) -> None:
    global _prepared_source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all: the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _prepared_source = open_source(ref)


def _prepare_in_worker(prepare: Preparation, plan: Plan) -> Prepared:
    assert _prepared_source is not None, "the pool's initializer opens it"
    return prepare(_prepared_source, plan)


def _died() -> UnavailableError:
    return UnavailableError(
        "ingest", "a worker process died (out of memory?)", "Run again: it goes on where it stopped."
    )


def _write_signal(job: Job, source: SignalSource, warehouse: Warehouse) -> Ingested:
    annotated = job.settings.use_annotations and source.annotations() is not None
    slots = ["" if lead is None else job.header.leads[lead] for lead in choose_leads(job.header.leads, job.spec)]
    first: list[Windows] = []

    def chunks() -> Iterator[WindowChunk]:
        for chunk in cut_windows(
            source,
            job.spec,
            block_s=job.settings.block_s,
            detector=job.settings.detector,
            use_annotations=job.settings.use_annotations,
            prepare_all=_prepare_all(job),
        ):
            if _worker_stop is not None and _worker_stop.is_set():
                raise KeyboardInterrupt
            if not first and len(chunk.windows):
                first.append(chunk.windows)
            yield chunk

    def suspect_inverted() -> list[str]:
        return list(recording_notes(first[0], slots, job.spec).suspect_inverted) if first else []

    labels = "simulator" if job.header.simulated else "reference"
    return warehouse.write_recording(
        job.header,
        patient=job.patient,
        source_key=source_key(job.header, job.origin),
        spec=job.spec,
        lead_slots=slots,
        r_peak_source="annotations" if annotated else job.settings.detector,
        label_source=labels if annotated else "none",
        suspect_inverted=suspect_inverted,
        now=job.now,
        chunks=chunks(),
    )


def _write_precut(job: Job, precut: PrecutSource, warehouse: Warehouse) -> Ingested:
    return warehouse.write_recording(
        job.header,
        patient=job.patient,
        source_key=source_key(job.header, job.origin),
        spec=job.spec,
        lead_slots=["ECG"],
        r_peak_source="precut",
        label_source="reference",
        suspect_inverted=list,
        now=job.now,
        chunks=[precut_chunk(precut)],
    )


def precut_chunk(precut: PrecutSource) -> WindowChunk:
    """Windows that came cut: no context, one second each; those the store cannot hold are rejected with a reason."""
    window_samples = precut.samples.shape[1]
    counts = precut.samples / contract.MV_PER_COUNT
    finite = np.isfinite(counts).all(axis=(1, 2))
    held = finite & (np.abs(np.where(np.isfinite(counts), counts, 0.0)).max(axis=(1, 2)) <= np.iinfo(np.int16).max)
    kept = np.flatnonzero(held)
    rejected = [
        RejectedBeat(int(i), float(i), Reason.AMPLITUDE if finite[i] else Reason.GAP, str(precut.label[i]))
        for i in np.flatnonzero(~held)
    ]
    windows = Windows(
        beat_index=kept.astype(np.int64),
        r_peak_s=kept.astype(np.float64),
        samples=np.rint(counts[kept]).astype(np.int16),
        lead_mask=np.ones((len(kept), 1), dtype=bool),
        rr=np.zeros((len(kept), len(contract.RR_COLUMNS)), dtype=np.float32),
        template=np.zeros((len(kept), window_samples, 1), dtype=np.int16),
        template_beats=np.zeros(len(kept), dtype=np.int16),
        quality=np.ones(len(kept), dtype=np.float32),
        symbol=precut.label[kept],
        aami_class=precut.aami_class[kept],
    )
    unusable = [UnusableSpan(beat.r_peak_s, beat.r_peak_s + 1.0, beat.reason) for beat in rejected]
    return WindowChunk(windows, unusable, rejected)


def source_key(header: RecordingHeader, origin: str | None = None) -> str:
    """What the versions of a recording share: a digest of where it is read from, since a path may name a patient.

    Args:
        origin: of recordings that came without a path of their own: they are told by origin and name.
    """
    place = header.source_uri if origin is None else f"{origin}:{header.name}"
    return sha256(f"{header.source_format}:{place}".encode()).hexdigest()[:32]
