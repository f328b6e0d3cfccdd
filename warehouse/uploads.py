"""`python -m warehouse.uploads`: ingests recordings that were posted to the API.

The API keeps what is posted in a folder each, and adds its row once all files are on disk: what a row speaks of is
whole. Ingest adds a recording whole or not at all, so whoever takes an upload that another left half way finishes it.
"""

import importlib.util
import shutil
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from configs import cli
from configs.errors import ConfigurationError, EcgError, UnavailableError
from configs.logging import configure_logging, get_logger
from configs.settings import Settings, load_settings
from warehouse.ingest import ingest
from warehouse.signal.readers import find_sources
from warehouse.store import Stores, open_stores
from warehouse.store.connection import ALL_SITES, at_site

_LOOK_AGAIN_S = 1.0  # for uploads that another process took in
_LONGEST_PAUSE_S = 30.0  # before what was not available is tried again


class UploadIngester:
    """Ingests uploads, the oldest first, each in one process at a time however many there are.

    Args:
        settings: where data is, how windows are cut.
        clock: now, timezone-aware.

    Raises:
        ConfigurationError: this installation has no readers, as the API's image has none.
    """

    def __init__(self, stores: Stores, settings: Settings, clock: Callable[[], datetime]) -> None:
        if importlib.util.find_spec("wfdb") is None:
            raise ConfigurationError(
                "api.ingest_uploads", "recordings cannot be read here: wfdb is not installed",
                "Set it to false, and run python -m warehouse.uploads --watch where it is.",
            )  # fmt: skip
        self._stores = stores
        self._settings = settings
        self._clock = clock
        self._closing = False
        self._woken = threading.Event()

    def follow(self) -> None:
        """Ingests what comes, until `close`; however long a database or the disk is away, it goes on afterwards."""
        pause_s = _LOOK_AGAIN_S
        while not self._closing:
            self._woken.clear()
            try:
                while not self._closing and self.ingest_next():
                    pass
                pause_s = _LOOK_AGAIN_S
            except UnavailableError as error:
                get_logger("uploads").warning("uploads_wait", error=str(error))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if not self._closing:
                self._woken.wait(pause_s)

    def wake(self) -> None:
        """There is a new upload."""
        self._woken.set()

    def close(self) -> None:
        """Lets `follow` return, after the upload that is being ingested; the others wait for who comes next."""
        self._closing = True
        self._woken.set()

    def ingest_next(self) -> bool:
        """Ingests the oldest upload that nobody has; whether there was one.

        Raises:
            UnavailableError: a database or the disk is away; the upload waits.
        """
        with at_site(ALL_SITES), self._stores.warehouse.claimed_upload() as row:
            if row is None:
                return False
            with at_site(row["site"]):
                self._ingest(row)
            return True

    def _ingest(self, row: dict[str, Any]) -> None:
        log = get_logger("uploads").bind(upload_id=row["upload_id"])
        folder = self._settings.data_dir / "uploads" / row["upload_id"]
        try:
            self._stores.warehouse.update_upload(row["upload_id"], {"status": "ingesting"})
            values = self._ingest_folder(row, folder)
        except UnavailableError:
            raise
        except EcgError as error:
            log.warning("upload_failed", error=str(error))
            values = {"status": "failed", "problem": f"{error.problem}. {error.hint}".strip()}
        except Exception:  # whatever it is, the poster must not wait for ever
            log.error("upload_crashed", exc_info=True)
            values = {"status": "failed", "problem": "Something failed that should not have; the log has it."}
        # Where this fails it is ingested again, which adds nothing twice.
        self._stores.warehouse.update_upload(row["upload_id"], values, finished_at=self._clock())
        log.info("upload_finished", status=values["status"])
        shutil.rmtree(folder, ignore_errors=True)

    def _ingest_folder(self, row: dict[str, Any], folder: Path) -> dict[str, Any]:
        if not folder.is_dir():
            return {"status": "failed", "problem": "The files are gone. Send them again."}
        sources, failures = find_sources([str(folder)])
        one_process = self._settings.ingest.model_copy(update={"workers": 1})
        settings = self._settings.model_copy(update={"site": row["site"], "ingest": one_process})
        report = ingest(
            sources, settings, self._stores, failures=failures, now=row["created_at"], only_patients=row["patients"],
            origin=f"upload {row['created_by']}",
        )  # fmt: skip
        named = self._stores.warehouse.names_of(report.recording_ids)
        recordings = [{"recording_id": number, "name": name} for number, name in named.items()]
        problem = "; ".join(report.failures).replace(f"{folder}/", "").replace(str(folder), "upload") or None
        return {"status": "failed" if problem else "done", "problem": problem, "recordings": recordings}


def main(
    watch: Annotated[bool, typer.Option("--watch", help="Go on with what comes, until SIGTERM or Ctrl-C.")] = False,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Ingest recordings that were posted to the API.

    `python -m api` does so itself unless `api.ingest_uploads` is false. Then run this beside it, with the same
    `data_dir`/uploads, as often as you like: each upload is ingested by one of them. What one leaves half way,
    because it was killed, another finishes.

    Exit codes: 0 nothing is left, or ended by a signal, 2 bad configuration, 5 a database or the disk is not available.
    """
    settings = load_settings(profile)
    configure_logging(settings.log_level)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        ingester = UploadIngester(stores, settings, lambda: datetime.now(UTC))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ingester.close())
        if watch:
            ingester.follow()
        else:
            taken = 0
            while ingester.ingest_next():
                taken += 1
            cli.note(f"Uploads taken: {taken}. None waits now")


if __name__ == "__main__":
    cli.run(main)
