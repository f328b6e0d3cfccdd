"""`python -m pipelines.skew`: training/serving skew of what came in lately, by TensorFlow Data Validation."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from configs import cli
from configs.contract import TRAIN, FeatureSpec
from configs.errors import ModelUnavailableError
from configs.settings import Settings, load_settings
from monitoring.drift import COMPARED, NO_DATA
from monitoring.drift_features import SKEW
from monitoring.drift_tests import GRADUAL, SITE
from pipelines.stages import logs_to
from warehouse.store import Stores, open_stores
from warehouse.store.drift_queries import BY_SKEW, LiveRecording
from warehouse.store.records import ModelVersion, WindowSet
from warehouse.store.window_block import WindowBlock


@dataclass(frozen=True)
class SkewReport:
    """What came of one site: how many windows, how many features were compared, and the findings as they are stored."""

    site: str
    model_version: int
    status: str
    windows: int
    tests: int
    findings: list[dict[str, Any]]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found here.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Compare the model's inputs of what came in lately with those of the training run, and with its schema.

    Findings are stored beside those of python -m monitoring.drift; finding some is no error.

    Exit codes: 0 done, 2 bad configuration, 5 a database, or what the training run left, is not available.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        reports = compare_with_training(settings, stores, now=datetime.now(UTC))
    cli.write_json(json_file, [asdict(report) for report in reports])
    for report in reports:
        cli.note(
            f"Site {report.site}: {report.windows} windows, {report.tests} features, {len(report.findings)} findings"
        )
        for finding in report.findings:
            cli.note(f"  {finding['detail']}")


def compare_with_training(settings: Settings, stores: Stores, *, now: datetime) -> list[SkewReport]:
    """Compares site by site, and stores what it found.

    Raises:
        ModelUnavailableError: what the training run left is gone.
    """
    model = stores.results.models(stores.results.release().stable)[0]
    with logs_to(settings.data_dir.resolve() / "logs" / "skew.log"):
        from components.skew import training_statistics

        statistics, schema = (
            _left(model, settings, name) for name in ("StatisticsGen.statistics", "ImportSchemaGen.schema")
        )
        training = training_statistics(statistics)
        if TRAIN not in training:
            raise _gone(model, statistics)
        since = now - timedelta(hours=settings.drift.look_back_h)
        by_site: dict[str, list[LiveRecording]] = {settings.site: []}
        trained_on = {
            entry["window_set_id"] for entry in stores.warehouse.data_span(model.data_span).content["window_sets"]
        }
        for recording in stores.warehouse.live_recordings(model.feature_version, arrived_after=since):
            if recording.window_set.window_set_id not in trained_on:
                by_site.setdefault(recording.window_set.site, []).append(recording)
        return [
            _compare_site(settings, stores, model, site, live, training, schema / "schema.pbtxt", now, since)
            for site, live in by_site.items()
        ]


def _compare_site(
    settings: Settings,
    stores: Stores,
    model: ModelVersion,
    site: str,
    live: Sequence[LiveRecording],
    training: Any,
    schema_file: Path,
    now: datetime,
    since: datetime,
) -> SkewReport:
    from components.skew import find_skew, serving_statistics

    started = time.monotonic()
    spec = FeatureSpec.model_validate(model.feature_spec)
    blocks = list(_sample(stores, spec, live, settings.drift.skew_windows))
    windows = sum(len(block) for _, block in blocks)
    found, tests = find_skew(training, serving_statistics(blocks), schema_file) if windows else ([], 0)
    status = COMPARED if windows else NO_DATA
    run = {
        "site": site, "method": BY_SKEW, "model_version": model.model_version, "at": now, "arrived_after": since,
        "status": status, "recordings": len(live), "windows": windows, "tests": tests, "gaps": {},
        "seconds": time.monotonic() - started,
    }  # fmt: skip
    recordings = [r.window_set.recording_id for r in live]
    devices = list(dict.fromkeys(r.window_set.device for r in live))
    examples = [int(block.window_id[len(block) // 2]) for _, block in blocks[:5]]
    rows = [
        {
            "kind": GRADUAL, "drift": SKEW, "feature": skew.feature, "lead": "", "scope": SITE, "subject": site,
            "recording_id": None, "before": skew.limit, "after": skew.distance, "unit": "",
            "effect": skew.distance / skew.limit if skew.limit else 0.0, "p_value": None, "adjusted": None,
            "windows": windows, "recordings": recordings, "devices": devices, "examples": examples, "since": None,
            "detail": f"{skew.feature}: {skew.problem}" if skew.problem else
            f"{skew.feature}: {skew.distance:.3f} from training, at most {skew.limit:.3f} is usual",
        }
        for skew in found
    ]  # fmt: skip
    stores.results.add_drift_run(run, rows)
    return SkewReport(site, model.model_version, status, windows, tests, rows)


def _sample(
    stores: Stores, spec: FeatureSpec, live: Sequence[LiveRecording], windows: int
) -> Iterator[tuple[WindowSet, WindowBlock]]:
    """Windows from the middle of every recording, an equal share each."""
    share = max(1, windows // max(1, len(live)))
    for recording in live:
        window_set = recording.window_set
        start = max(0, (window_set.n_beats - share) // 2)
        first, stop = window_set.id_range(start, min(start + share, window_set.n_beats))
        block = stores.warehouse.read_block(spec, first, stop, well_formed=True)
        if len(block):
            yield window_set, block


def _left(model: ModelVersion, settings: Settings, artifact: str) -> Path:
    path = Path(str(model.card.get("artifacts", {}).get(artifact, "")))
    if not path.is_dir() or not path.name:
        raise _gone(model, path)
    return path


def _gone(model: ModelVersion, path: Path) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"model version {model.model_version}",
        f"has no statistics of its training run in {path}",
        "Run this where it was trained, or train again.",
    )


if __name__ == "__main__":
    cli.run(main)
