"""`python -m pipelines.bootstrap`: what an installation needs before it can answer: recordings, and a model."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
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


class Step(StrEnum):
    """Half of the work, for who gives each half a database user of its own."""

    RECORDINGS = "recordings"
    MODEL = "model"


def main(
    step: Annotated[
        Step | None,
        typer.Argument(help="Only recordings (as the database user ecg_ingest), or only the model (as ecg_trainer)."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Ingest the recordings that `bootstrap.source` names; train and push a first model when there is none.

    For the start of a stack: run again, it adds what is new in bootstrap.folder and changes nothing else. At the end of
    its second step models.config is there, which a model server starts with.

    Exit codes: 0 there is a model to serve, 2 bad configuration, 3 recordings cannot be used, 4 the first model was
    not blessed, 5 a database, the disk or PhysioNet is not available.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if step is not Step.MODEL:
            first_recordings(settings, stores)
        if step is not Step.RECORDINGS:
            cli.note(f"Version {first_model(settings, stores).stable} serves.")


def first_recordings(settings: Settings, stores: Stores) -> None:
    """Ingests the configured source as long as no model serves; a folder always.

    Raises:
        ConfigurationError: the source is a folder, and none is named.
        DataInvalidError: nothing of the source could be ingested, and there is nothing to train on.
        UnavailableError: a database, the disk or PhysioNet.
    """
    serves = _release(stores) is not None
    if serves and settings.bootstrap.source != "folder":
        return
    sources, failures, splits = _sources(settings)
    report = ingest(sources, settings, stores, failures=failures, splits_by_name=splits)
    for failure in report.failures:
        cli.note(f"Not ingested: {failure}")
    cli.note(
        f"{settings.bootstrap.source}: {report.added} recordings added, {report.unchanged} unchanged, "
        f"{report.failed} failed"
    )
    if not serves and not stores.warehouse.totals(settings.features.digest)["windows"]:
        raise DataInvalidError(
            f"bootstrap.source {settings.bootstrap.source}",
            "gave no window to train on",
            "Name a folder of recordings in bootstrap.folder, or set bootstrap.source to physionet or simulator.",
        )


def first_model(settings: Settings, stores: Stores) -> Release:
    """Trains and pushes a model when none serves; returns the release that does.

    Raises:
        DataInvalidError: it is too little to train on.
        NotBlessedError: the first model did not pass its gates.
        UnavailableError: a database or the disk.
    """
    release = _release(stores)
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
            "Set bootstrap.source (STACK_SOURCE of docker-compose.yml) to folder, or to simulator to try things.",
        ) from error
    return *find_sources([str(cache / name) for name in SPLITS]), SPLITS


if __name__ == "__main__":
    cli.run(main)
