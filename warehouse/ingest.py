"""`python -m warehouse.ingest SOURCE...`: reads recordings, cuts them into windows, and stores both.

Each recording is one transaction: an interrupted ingest leaves no half recording, and the next one goes on with what
is missing. What is in already, by content, is not touched.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from configs import cli, contract
from configs.command_metrics import CommandMetrics, command_metrics
from configs.contract import FeatureSpec
from configs.errors import EXIT_DATA, ConfigurationError, EcgError, SourceError
from configs.settings import Settings, load_settings
from warehouse.ingest_workers import Job, run_jobs, source_key
from warehouse.ingest_workers import Source as Source  # part of this module's interface
from warehouse.pseudonyms import age_band, key_of, pseudonym
from warehouse.signal.ecg import RecordingHeader
from warehouse.signal.readers import SourceRef, find_sources, open_source, read_ucr
from warehouse.store import Stores, open_stores
from warehouse.store.warehouse import Warehouse


@dataclass
class IngestReport:
    """What an ingest did."""

    added: int = 0
    unchanged: int = 0
    failed: int = 0
    windows: int = 0
    unusable_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    recording_ids: list[int] = field(default_factory=list, compare=False)  # all that are in now, in any order

    def as_json(self) -> dict[str, object]:
        return {
            "recordings": {"added": self.added, "unchanged": self.unchanged, "failed": self.failed},
            "windows": self.windows,
            "unusable_seconds": round(self.unusable_seconds, 3),
            "failures": self.failures,
        }


def main(
    sources: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, or WFDB record names without extension.")
    ],
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Put patients that are new into this split: train, calibration or test.")
    ] = None,
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
    with command_metrics("ingest", settings.monitoring) as metrics:
        with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
            report = ingest(found, settings, stores, split=split, failures=failures)
        _measure(metrics, report)
        cli.write_json(json_file, report.as_json())
        cli.note(
            f"Recordings: {report.added} added, {report.unchanged} unchanged, {report.failed} failed. "
            f"Windows: {report.windows}. Unusable: {report.unusable_seconds:.1f} s."
        )
        if report.failed:
            cli.fail(f"{report.failed} of the sources could not be ingested; the others are in", EXIT_DATA)
    cli.note("Next: python -m pipelines.train")


def _measure(metrics: CommandMetrics, report: "IngestReport") -> None:
    for outcome in ("added", "unchanged", "failed"):
        text = "Recordings of the last run."
        metrics.set("ecg_ingest_last_recordings", text, getattr(report, outcome), outcome=outcome)
    metrics.set("ecg_ingest_last_windows", "Windows added by the last run.", report.windows)
    metrics.set("ecg_ingest_last_unusable_seconds", "Signal without a window.", report.unusable_seconds)


def ingest(
    sources: Sequence[Source],
    settings: Settings,
    stores: Stores,
    *,
    split: str | None = None,
    splits_by_name: Mapping[str, str] | None = None,
    failures: Sequence[SourceError] = (),
    now: datetime | None = None,
    only_patients: Collection[str] | None = None,
    origin: str | None = None,
) -> IngestReport:
    """Ingests recordings, in parallel where there are several.

    Args:
        sources: in the order in which new patients are given their splits.
        split: for all new patients; None balances them by `settings.ingest.split_shares`.
        splits_by_name: recording name to split, for the new patients named; goes before `split`.
        failures: what could not even be found; reported with the rest.
        now: stands in for unknown start times; the clock's when None.
        only_patients: pseudonyms; a recording of another patient fails. None takes all.
        origin: what stands in for the path of a file when the versions of a recording are told; None for the path.

    Raises:
        ConfigurationError: `settings.ingest` cannot be followed.
        UnavailableError: the database or the disk gives up; what was committed stays.
    """
    _check_shares(settings.ingest.split_shares)
    report = IngestReport()
    for failure in failures:
        _fail(report, stores.warehouse, failure)
    moment = now or datetime.now(UTC)
    allowed = None if only_patients is None else frozenset(only_patients)
    jobs = _plan(sources, settings, stores, split, splits_by_name or {}, report, moment, allowed, origin)
    with cli.progress() as progress:
        task = progress.add_task("ingest", total=len(jobs))
        for ingested in run_jobs(jobs, stores.warehouse):
            progress.advance(task)
            if isinstance(ingested, SourceError):
                _fail(report, stores.warehouse, ingested)
                continue
            report.recording_ids.append(ingested.recording_id)
            if ingested.unchanged:
                report.unchanged += 1
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
    allowed: frozenset[str] | None,
    origin: str | None,
) -> list[Job]:
    """Reads all headers, leaves out what is in already, and registers patients in order."""
    key = key_of(settings.pseudonym_key, settings.data_dir)
    opened: list[tuple[Source, RecordingHeader, FeatureSpec, str]] = []
    seen: set[tuple[str, str]] = set()
    for source in sources:
        try:
            header, spec = _header_and_spec(source, settings.features)
        except SourceError as error:
            _fail(report, stores.warehouse, error)
            continue
        alias = pseudonym(key, header.patient_key)
        if allowed is not None and alias not in allowed:
            problem = "is of a patient that this device may not post recordings of"
            hint = "Make a key for this patient: python -m api.keys add --patient."
            _fail(report, stores.warehouse, SourceError(header.source_uri or header.name, problem, hint))
            continue
        if (header.checksum, spec.digest) in seen or stores.warehouse.has_windows(
            header.checksum, spec.digest, site=settings.site
        ):
            report.unchanged += 1
            report.recording_ids += stores.warehouse.recordings_of(header.checksum, settings.site)
            stores.warehouse.make_current(header.checksum, source_key(header, origin), site=settings.site)
            continue
        seen.add((header.checksum, spec.digest))
        opened.append((source, header, spec, alias))
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
        site=settings.site,
    )
    disk = None if settings.warehouse_url else settings.data_dir
    return [
        Job(source, header, patients[alias], spec, settings.ingest, now, disk, origin)
        for source, header, spec, alias in opened
    ]


def _check_shares(shares: Mapping[str, float]) -> None:
    wrong = sorted(set(shares) - set(contract.SPLITS))
    if wrong or not any(share > 0 for share in shares.values()) or min(shares.values()) < 0:
        problem = f"{wrong[0]} is not a split" if wrong else "must be positive"
        raise ConfigurationError("ingest.split_shares", problem, f"Give shares of {', '.join(contract.SPLITS)}.")


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


def _fail(report: IngestReport, warehouse: Warehouse, error: EcgError) -> None:
    report.failed += 1
    report.failures.append(str(error))
    source, detail = Path(error.subject), error.problem
    for folder in (source.absolute().parent, source.parent):  # libraries quote the path, which may name a patient
        detail = detail.replace(f"{folder}/", "")
    warehouse.add_failed_source(source.name, detail)
    cli.note(f"failed: {error}")


if __name__ == "__main__":
    cli.run(main)
