"""`python -m warehouse.ingest SOURCE...`: reads recordings, cuts them into windows, and stores both.

Each recording is one transaction: an interrupted ingest leaves no half recording, and the next one goes on with what
is missing. What is in already, by content, is not touched.
"""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from os import cpu_count
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress, TaskID

from configs import cli, contract
from configs.contract import FeatureSpec
from configs.errors import EXIT_DATA, ConfigurationError, EcgError, SourceError, UnavailableError
from configs.settings import IngestSettings, Settings, load_settings
from warehouse.privacy import age_band, load_key, pseudonym
from warehouse.signal.ecg import Reason, RecordingHeader, RejectedBeat, SignalSource, UnusableSpan, WindowChunk, Windows
from warehouse.signal.readers import PrecutSource, SourceRef, find_sources, open_source, read_ucr
from warehouse.signal.quality import recording_notes
from warehouse.signal.windows import choose_leads, cut_windows
from warehouse.store import Stores, open_stores
from warehouse.store.warehouse import Ingested, Patient, Warehouse

#: A recording, or where to find one: a simulated one is handed over open.
Source = SourceRef | SignalSource


@dataclass
class IngestReport:
    """What an ingest did."""

    added: int = 0
    unchanged: int = 0
    failed: int = 0
    windows: int = 0
    unusable_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return {
            "recordings": {"added": self.added, "unchanged": self.unchanged, "failed": self.failed},
            "windows": self.windows,
            "unusable_seconds": round(self.unusable_seconds, 3),
            "failures": self.failures,
        }


@dataclass(frozen=True)
class _Job:
    """One recording to write: everything a worker process needs."""

    source: Source
    header: RecordingHeader
    patient: Patient
    spec: FeatureSpec
    settings: IngestSettings
    now: datetime


def main(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs, or WFDB record names without extension.")],
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")] = None,
    split: Annotated[str | None, typer.Option(help="Put patients that are new into this split: train, calibration or test.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: ingest.workers.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Ingest WFDB, EDF/EDF+, CSV and UCR files into the warehouse.

    The same content twice adds nothing; a changed file becomes a new version of its recording. Every second is either
    in a window or reported as unusable, with the reason. Files that cannot be read are listed; the others still go in.

    Exit codes: 0 all in, 2 bad configuration, 3 some files failed, 5 a database or the disk is not available.
    """
    if split is not None and split not in contract.SPLITS:
        raise ConfigurationError("--split", f"{split} is not a split", f"One of {', '.join(contract.SPLITS)}.")
    settings = load_settings(profile, {"ingest": {"workers": workers}})
    found, failures = find_sources(sources)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        report = ingest(found, settings, stores, split=split, failures=failures)
    cli.write_json(json_file, report.as_json())
    cli.note(
        f"Recordings: {report.added} added, {report.unchanged} unchanged, {report.failed} failed. "
        f"Windows: {report.windows}. Unusable: {report.unusable_seconds:.1f} s."
    )
    if report.failed:
        cli.fail(f"{report.failed} of the sources could not be ingested; the others are in", EXIT_DATA)
    cli.note("Next: python -m pipelines.train")


def ingest(
    sources: Sequence[Source],
    settings: Settings,
    stores: Stores,
    *,
    split: str | None = None,
    splits_by_name: Mapping[str, str] | None = None,
    failures: Sequence[SourceError] = (),
    now: datetime | None = None,
) -> IngestReport:
    """Ingests recordings, in parallel where there are several.

    Args:
        sources: in the order in which new patients are given their splits.
        split: for all new patients; None balances them by `settings.ingest.split_shares`.
        splits_by_name: recording name to split, for the new patients named; goes before `split`.
        failures: what could not even be found; reported with the rest.
        now: stands in for unknown start times; the clock's when None.

    Raises:
        UnavailableError: the database or the disk gives up; what was committed stays.
    """
    report = IngestReport()
    for failure in failures:
        _fail(report, stores.warehouse, failure)
    moment = now or datetime.now(UTC)
    jobs = _plan(sources, settings, stores, split, splits_by_name or {}, report, moment)
    with cli.progress() as progress:
        task = progress.add_task("ingest", total=len(jobs))
        for ingested in _run(jobs, settings, stores.warehouse, progress, task):
            if isinstance(ingested, SourceError):
                _fail(report, stores.warehouse, ingested)
            else:
                report.added += 1
                report.windows += ingested.n_windows
                report.unusable_seconds += ingested.unusable_s
    return report


def _plan(
    sources: Sequence[Source],
    settings: Settings,
    stores: Stores,
    split: str | None,
    splits_by_name: Mapping[str, str],
    report: IngestReport,
    now: datetime,
) -> list[_Job]:
    """Reads all headers, leaves out what is in already, and registers patients in order."""
    secret = settings.pseudonym_key
    key = secret.get_secret_value().encode() if secret is not None else load_key(settings.data_dir)
    opened: list[tuple[Source, RecordingHeader, FeatureSpec, str]] = []
    seen: set[tuple[str, str]] = set()
    for source in sources:
        try:
            header, spec = _header_and_spec(source, settings.features)
        except SourceError as error:
            _fail(report, stores.warehouse, error)
            continue
        if (header.checksum, spec.digest) in seen or stores.warehouse.has_windows(header.checksum, spec.digest):
            report.unchanged += 1
            continue
        seen.add((header.checksum, spec.digest))
        opened.append((source, header, spec, pseudonym(key, header.patient_key)))
    for spec in {spec.digest: spec for _, _, spec, _ in opened}.values():
        stores.warehouse.ensure_feature_version(spec)
    forced = {
        alias: chosen
        for _, header, _, alias in opened
        if (chosen := splits_by_name.get(header.name) or split) is not None
    }
    patients = stores.warehouse.ensure_patients(
        [(alias, header.sex, age_band(header.age_years)) for _, header, _, alias in opened],
        settings.ingest.split_shares,
        forced,
    )
    return [
        _Job(source, header, patients[alias], spec, settings.ingest, now) for source, header, spec, alias in opened
    ]


def _header_and_spec(source: Source, spec: FeatureSpec) -> tuple[RecordingHeader, FeatureSpec]:
    if not isinstance(source, SourceRef):
        return source.header, spec
    if source.format == "ucr":
        precut = read_ucr(source)
        return precut.header, ucr_spec(precut.samples.shape[1])
    return open_source(source).header, spec


def ucr_spec(window_samples: int) -> FeatureSpec:
    """The geometry of UCR windows: one lead, cut by somebody else; amplitude as given, in thousandths."""
    return FeatureSpec(name=f"ucr-{window_samples}", precut_samples=window_samples, lead_slots=(("ECG",),))


def _run(
    jobs: Sequence[_Job], settings: Settings, warehouse: Warehouse, progress: Progress, task: TaskID
) -> Iterator[Ingested | SourceError]:
    """Writes all jobs and gives each one's result as it is committed."""
    workers = settings.ingest.workers or cpu_count() or 1
    files = [job for job in jobs if isinstance(job.source, SourceRef)]
    if workers == 1 or len(files) < 3:  # starting processes would take longer
        for job in jobs:
            yield _write(job, warehouse)
            progress.advance(task)
        return
    for job in jobs:
        if not isinstance(job.source, SourceRef):
            yield _write(job, warehouse)
            progress.advance(task)
    # Not forked: the parent has threads (progress bar, database pool).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(files)), context, _open_worker, (warehouse.url,)) as pool:
        pending: list[Future[Ingested | SourceError]] = [pool.submit(_write_in_worker, job) for job in files]
        try:
            for done in as_completed(pending):
                yield done.result()
                progress.advance(task)
        except BrokenProcessPool as error:
            raise UnavailableError(
                "ingest", "a worker process died (out of memory?)", "Run again: it goes on where it stopped."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker_warehouse: Warehouse | None = None


def _open_worker(url: str) -> None:
    global _worker_warehouse
    _worker_warehouse = Warehouse.open(url, pool_size=1)


def _write_in_worker(job: _Job) -> Ingested | SourceError:
    assert _worker_warehouse is not None, "the pool's initializer opens it"
    return _write(job, _worker_warehouse)


def _write(job: _Job, warehouse: Warehouse) -> Ingested | SourceError:
    """Cuts and stores one recording; a file that turns out damaged half way is returned as its error."""
    try:
        if isinstance(job.source, SourceRef) and job.source.format == "ucr":
            return _write_precut(job, read_ucr(job.source), warehouse)
        source = open_source(job.source) if isinstance(job.source, SourceRef) else job.source
        return _write_signal(job, source, warehouse)
    except SourceError as error:
        return error


def _write_signal(job: _Job, source: SignalSource, warehouse: Warehouse) -> Ingested:
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
        ):
            if not first and len(chunk.windows):
                first.append(chunk.windows)
            yield chunk

    def suspect_inverted() -> list[str]:
        return list(recording_notes(first[0], slots, job.spec).suspect_inverted) if first else []

    labels = "simulator" if job.header.simulated else "reference"
    return warehouse.write_recording(
        job.header,
        patient=job.patient,
        source_key=source_key(job.header),
        spec=job.spec,
        lead_slots=slots,
        r_peak_source="annotations" if annotated else job.settings.detector,
        label_source=labels if annotated else "none",
        suspect_inverted=suspect_inverted,
        now=job.now,
        chunks=chunks(),
    )


def _write_precut(job: _Job, precut: PrecutSource, warehouse: Warehouse) -> Ingested:
    return warehouse.write_recording(
        job.header,
        patient=job.patient,
        source_key=source_key(job.header),
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
    n, window_samples, _ = precut.samples.shape
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


def source_key(header: RecordingHeader) -> str:
    """What the versions of a recording share: a digest of where it is read from, since a path may name a patient."""
    return sha256(f"{header.source_format}:{header.source_uri}".encode()).hexdigest()[:32]


def _fail(report: IngestReport, warehouse: Warehouse, error: EcgError) -> None:
    report.failed += 1
    report.failures.append(str(error))
    warehouse.add_failed_source(Path(error.subject).name, error.problem)
    cli.note(f"failed: {error}")


if __name__ == "__main__":
    cli.run(main)
