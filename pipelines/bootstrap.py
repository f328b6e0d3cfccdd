"""`python -m pipelines.bootstrap`: what an installation needs before it can answer: recordings, and a model."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import httpx
import typer

from configs import cli
from configs.errors import (
    ConfigurationError,
    DataInvalidError,
    ModelUnavailableError,
    SourceError,
    UnavailableError,
)
from configs.settings import Settings, load_settings
from pipelines.demo import SIMULATED_SPLITS, SPLITS
from pipelines.training_run import train
from serving.server_config import publish
from warehouse.ingest import Source, ingest
from warehouse.signal.download import fetch_mitdb
from warehouse.signal.readers import find_sources
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores, open_stores
from warehouse.store.records import Release

_SIMULATED_S = 600.0


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Ingest the recordings that `bootstrap.source` names; train and push a first model when there is none.

    For the start of a stack: run again, it adds what is new in bootstrap.folder and changes nothing else. At its end
    models.config is there, which a model server starts with.

    Exit codes: 0 there is a model to serve, 2 bad configuration, 3 recordings cannot be used, 4 the first model was
    not blessed, 5 a database, the disk or PhysioNet is not available.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        release = bootstrap(settings, stores)
    cli.note(f"Version {release.stable} serves.")


def bootstrap(settings: Settings, stores: Stores) -> Release:
    """Does what is missing; returns the release that serves.

    Raises:
        ConfigurationError: the source is a folder, and none is named.
        DataInvalidError: nothing of the source could be ingested, or it is too little to train on.
        NotBlessedError: the first model did not pass its gates.
        UnavailableError: a database, the disk or PhysioNet.
    """
    release = _release(stores)
    if release is None or settings.bootstrap.source == "folder":
        _ingest(settings, stores, must_have_some=release is None)
    if release is None:
        train(settings, stores)
        release = stores.results.release()
    publish(settings, release)
    return release


def _release(stores: Stores) -> Release | None:
    try:
        return stores.results.release()
    except ModelUnavailableError:
        return None


def _ingest(settings: Settings, stores: Stores, *, must_have_some: bool) -> None:
    sources, failures, splits = _sources(settings)
    report = ingest(sources, settings, stores, failures=failures, splits_by_name=splits)
    for failure in report.failures:
        cli.note(f"Not ingested: {failure}")
    cli.note(
        f"{settings.bootstrap.source}: {report.added} recordings added, {report.unchanged} unchanged, "
        f"{report.failed} failed"
    )
    if must_have_some and not stores.warehouse.totals(settings.features.digest)["windows"]:
        raise DataInvalidError(
            f"bootstrap.source {settings.bootstrap.source}",
            "gave no window to train on",
            "Name a folder of recordings in bootstrap.folder, or set bootstrap.source to physionet or simulator.",
        )


def _sources(settings: Settings) -> tuple[Sequence[Source], Sequence[SourceError], Mapping[str, str]]:
    """Recordings, what could not be found, and the splits of patients whose recordings are known by name."""
    kind, folder = settings.bootstrap.source, settings.bootstrap.folder
    if kind == "none":
        return [], [], {}
    if kind == "simulator":
        cohort = simulate_cohort(len(SIMULATED_SPLITS), duration_s=_SIMULATED_S, sampling_rate_hz=360, seed=1)
        names = (source.header.name for source in cohort)
        return cohort, [], dict(zip(names, SIMULATED_SPLITS, strict=True))
    if kind == "folder":
        if folder is None:
            raise ConfigurationError("bootstrap.folder", "is not set", "Name a folder of WFDB, EDF or CSV files.")
        return *find_sources([str(folder)]), {}
    try:
        with httpx.Client(timeout=httpx.Timeout(30, connect=5), follow_redirects=True) as client:
            cache = fetch_mitdb(list(SPLITS), settings.data_dir / "cache" / "mitdb", client=client, report=cli.note)
    except UnavailableError as error:
        raise type(error)(
            error.subject,
            error.problem,
            "Set ECG_BOOTSTRAP__SOURCE to folder (with ECG_BOOTSTRAP__FOLDER), or to simulator to try things.",
        ) from error
    return *find_sources([str(cache / name) for name in SPLITS]), SPLITS


if __name__ == "__main__":
    cli.run(main)
