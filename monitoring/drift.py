"""`python -m monitoring.drift`: are the windows that come in still like those that the model was trained on?"""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry, Counter, Gauge
from rich.table import Table

from configs import cli
from configs.contract import FeatureSpec
from configs.errors import EcgError, RequestError
from configs.settings import Settings, load_settings
from monitoring.database_metrics import DatabaseMetrics
from monitoring.drift_concept import concept_candidates
from monitoring.drift_encoder import ENCODER_FILE, Encoder, load_encoder
from monitoring.drift_features import Stream
from monitoring.drift_live import read_stream
from monitoring.drift_reference import EXTRA, REFERENCE_FILE, Reference, load_reference
from monitoring.drift_report import write_report
from monitoring.drift_tests import RECORDING, Detection, Finding, detect
from monitoring.http import serve_metrics_if_free
from monitoring.metrics import new_registry
from warehouse.store import Stores, open_stores
from warehouse.store.drift_queries import LiveRecording
from warehouse.store.records import ModelVersion

COMPARED, NO_DATA, NO_REFERENCE = "compared", "no_data", "no_reference"
_CLOCK_AHEAD = timedelta(hours=1)

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Comparison:
    """What came of looking at one site: a row of drift_runs, with its findings and what they were found in.

    Attributes:
        status: compared, no_data or no_reference.
        gaps: what could not be compared, or is odd: reason to how often.
    """

    drift_run_id: int
    site: str
    model_version: int
    at: datetime
    arrived_after: datetime
    status: str
    windows: int
    tests: int
    gaps: dict[str, int]
    findings: tuple[Finding, ...]
    streams: tuple[Stream, ...]
    reference: Reference | None

    def to_json(self) -> dict[str, Any]:
        """All but the windows themselves."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("streams", "reference")}
        return kept | {
            "recordings": len(self.streams),
            "findings": [asdict(finding) for finding in self.findings],
        }


class DriftMonitor:
    """Compares what came in with the reference of the version that serves; remembers what it has read.

    Args:
        clock: now, timezone-aware.
    """

    def __init__(self, settings: Settings, stores: Stores, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._stores = stores
        self._clock = clock
        self._read: dict[tuple[int, int, int], Stream] = {}  # by version, window set, and how many scores it has

    def compare(self) -> list[Comparison]:
        """Looks at every site, and stores what it found.

        Raises:
            ModelUnavailableError: no version was ever pushed, or what travels with it is damaged.
        """
        model = self._stores.results.models(self._stores.results.release().stable)[0]
        folder = self._settings.models_dir / model.model_name / str(model.model_version) / EXTRA
        reference, encoder = load_reference(folder / REFERENCE_FILE), load_encoder(folder / ENCODER_FILE)
        now = self._clock()
        since = now - timedelta(hours=self._settings.drift.look_back_h)
        made_of = set(reference.window_sets) if reference is not None else set()
        by_site: dict[str, list[LiveRecording]] = {run["site"]: [] for run in self._stores.results.latest_drift_runs()}
        by_site.setdefault(self._settings.site, [])
        for recording in self._stores.warehouse.live_recordings(model.feature_version, arrived_after=since):
            of_site = by_site.setdefault(recording.window_set.site, [])
            if recording.window_set.window_set_id not in made_of:
                of_site.append(recording)
        streams = self._streams(model, encoder, [r for of_site in by_site.values() for r in of_site], reference)
        return [
            self._compare_site(site, model, reference, of_site, streams, since) for site, of_site in by_site.items()
        ]

    def _streams(
        self, model: ModelVersion, encoder: Encoder | None, live: Sequence[LiveRecording], reference: Reference | None
    ) -> dict[int, Stream]:
        """By window set; those that were read before, and have no new scores, are not read again."""
        if reference is None:
            return {}
        spec = FeatureSpec.model_validate(model.feature_spec)
        kept: dict[tuple[int, int, int], Stream] = {}
        found = {}
        for recording in live:
            window_set = recording.window_set
            scores = self._stores.results.scores_of(model.model_version, window_set)
            what = (model.model_version, window_set.window_set_id, len(scores[0]))
            kept[what] = self._read.get(what) or read_stream(
                self._stores,
                spec,
                recording,
                windows=self._settings.drift.windows_per_recording,
                encoder=encoder,
                scores=scores if len(scores[0]) else None,
                threshold=model.threshold,
            )
            found[window_set.window_set_id] = kept[what]
        self._read = kept
        return found

    def _compare_site(
        self,
        site: str,
        model: ModelVersion,
        reference: Reference | None,
        live: Sequence[LiveRecording],
        read: dict[int, Stream],
        since: datetime,
    ) -> Comparison:
        started, at = time.monotonic(), self._clock()
        streams = tuple(read[r.window_set.window_set_id] for r in live) if reference is not None else ()
        detection, gaps = Detection((), 0, {}), _clock_gaps(live, self._settings.drift.look_back_h)
        if reference is not None:
            judged = self._stores.results.judged_beats(model.model_version, site)
            least = self._settings.drift.least_reviews
            candidates = list(concept_candidates(judged, site=site, recent_since=since, least_reviews=least, gaps=gaps))
            detection = detect(reference, streams, false_alarms=self._settings.drift.false_alarms, others=candidates)
        gaps |= detection.gaps
        status = NO_REFERENCE if reference is None else COMPARED if live else NO_DATA
        run = {
            "site": site,
            "model_version": model.model_version,
            "at": at,
            "arrived_after": since,
            "status": status,
            "recordings": len(live),
            "windows": sum(map(len, streams)),
            "tests": detection.tests,
            "gaps": gaps,
            "seconds": time.monotonic() - started,
        }
        number = self._stores.results.add_drift_run(run, [_row(finding) for finding in detection.findings])
        return Comparison(
            number, site, model.model_version, at, since, status, sum(map(len, streams)), detection.tests, gaps,
            detection.findings, streams, reference,
        )  # fmt: skip


def _clock_gaps(live: Sequence[LiveRecording], look_back_h: float) -> dict[str, int]:
    """Recordings whose own clock cannot be right, or that come long after they were made: they count all the same."""
    ahead = sum(r.window_set.start_time > r.arrived + _CLOCK_AHEAD for r in live)
    late = sum(r.window_set.start_time < r.arrived - timedelta(hours=look_back_h) for r in live)
    return {name: n for name, n in (("clock_ahead", ahead), ("late", late)) if n}


def _row(finding: Finding) -> dict[str, Any]:
    row = asdict(finding)
    row["recording_id"] = finding.recordings[0] if finding.scope == RECORDING else None
    return row | {name: list(row[name]) for name in ("recordings", "devices", "examples")}


def main(
    watch: Annotated[
        bool,
        typer.Option("--watch/--once", help="Every drift.every_s seconds until SIGTERM or Ctrl-C, or once."),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found here.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write the report here: one file, with its plots.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Compare the windows that came in lately with the reference of the model version that serves.

    Findings are stored, and counted in the metrics; finding some is no error.

    Exit codes: 0 done, 2 bad configuration, 5 database, disk or model not available.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        monitor = DriftMonitor(settings, stores)
        if watch:
            if json_file or html_file:
                raise RequestError("--watch", "writes no files", "Leave out --json and --html, or run it once.")
            registry = new_registry(settings.data_dir)
            DatabaseMetrics(registry).watch(stores)
            chosen = settings.monitoring
            with serve_metrics_if_free(registry, chosen.host, chosen.drift_port, "monitoring.drift_port"):
                _watch(monitor, settings.drift.every_s, registry)
            return
        comparisons = monitor.compare()
        if html_file is not None:
            write_report(html_file, comparisons, stores)
    cli.write_json(json_file, [comparison.to_json() for comparison in comparisons])
    _show(comparisons)


def _watch(monitor: DriftMonitor, every_s: float, registry: CollectorRegistry) -> None:
    duration = Gauge("ecg_drift_last_comparison_duration_seconds", "Comparing all sites.", registry=registry)
    failures = Counter("ecg_drift_failures", "Comparisons that failed.", ("error",), registry=registry)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while True:
        try:
            with duration.time():
                for comparison in monitor.compare():
                    cli.note(_summary(comparison))
        except EcgError as error:  # what is not there now may be there in ten minutes
            failures.labels(type(error).__name__).inc()
            cli.note(f"not compared: {error}")
        if stop.wait(every_s):
            return


def _summary(comparison: Comparison) -> str:
    c = comparison
    gaps = "".join(f"; {reason} {n}" for reason, n in sorted(c.gaps.items()))
    said = {
        NO_REFERENCE: f"version {c.model_version} has no reference: python -m pipelines.reference makes one",
        NO_DATA: f"no recording came since {c.arrived_after:%Y-%m-%d %H:%M}",
        COMPARED: f"{len(c.findings)} findings in {c.windows} windows of {len(c.streams)} recordings, {c.tests} tests",
    }
    return f"Site {c.site}: {said[c.status]}{gaps}"


def _show(comparisons: Sequence[Comparison]) -> None:
    table = Table("site", "kind", "drift", "where", "what, by how much", "spreads", "adjusted p", "since")
    for comparison in comparisons:
        cli.note(_summary(comparison))
        for f in comparison.findings:
            since = f"{f.since:%Y-%m-%d %H:%M:%S}" if f.since else ""
            where = f"{f.scope} {f.subject or '(unnamed)'}"
            table.add_row(
                comparison.site, f.kind, f.drift, where, f.detail, f"{f.effect:+.1f}", f"{f.adjusted:.1g}", since
            )
    if table.row_count:
        cli.show(table)


if __name__ == "__main__":
    cli.run(main)
