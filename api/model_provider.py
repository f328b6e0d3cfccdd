"""Which model version is the newest, and a client for each version that is asked for.

Loading a model takes seconds, so it happens in the background: the service answers at once, and a newly pushed
model is used without a restart. Whoever needs a model that is still loading waits a little, then is told so.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from api.paging import Clock
from configs.errors import ModelUnavailableError, UnavailableError
from configs.logging import get_logger
from serving.model_client import ModelClient
from serving.model_files import version_dir
from warehouse.store.records import ModelVersion

Loader = Callable[[ModelVersion], ModelClient]

REFRESH = timedelta(seconds=2)
RETRY = timedelta(seconds=10)
WAIT_S = 15.0
KEPT_MODELS = 2


class ModelRegistry(Protocol):
    """Where pushed models are registered: `warehouse.store.results.Results`."""

    def newest_model_version(self) -> int | None: ...

    def models(self, model_version: int | None = None) -> list[ModelVersion]: ...


class ModelProvider:
    """Hands out model clients. Safe to share between threads.

    Args:
        registry: which versions there are.
        load: makes a client; may take long, raises ModelUnavailableError when there is nothing to load.
        clock: now, timezone-aware.
        wait_s: how long a request waits for a model that is being loaded.
    """

    def __init__(self, registry: ModelRegistry, load: Loader, clock: Clock, *, wait_s: float = WAIT_S) -> None:
        self._registry = registry
        self._load = load
        self._clock = clock
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")
        self._clients: OrderedDict[int, Future[ModelClient]] = OrderedDict()  # least recently used first
        self._failed_at: dict[int, datetime] = {}
        self._known: dict[int, ModelVersion] = {}
        self._newest: tuple[int, datetime] | None = None

    def newest(self) -> ModelVersion:
        """The newest pushed version, read anew at most every `REFRESH`; starts loading it when it is new.

        Raises:
            ModelUnavailableError: none was ever pushed.
            DatabaseUnavailableError: the results database does not answer.
        """
        with self._lock:
            read = self._newest
        now = self._clock()
        if read is None or not timedelta(0) <= now - read[1] < REFRESH:
            version = self._registry.newest_model_version()
            if version is None:
                raise ModelUnavailableError(
                    "newest model version", "none was pushed yet", "Run `python -m pipelines.train` first."
                )
            model = self.version(version)
            with self._lock:
                self._newest = (version, now)
            self._future(model)
            return model
        return self.version(read[0])

    def version(self, model_version: int) -> ModelVersion:
        """A registered version.

        Raises:
            NotFoundError: it was never registered.
            DatabaseUnavailableError: the results database does not answer.
        """
        with self._lock:
            known = self._known.get(model_version)
        if known is None:
            known = self._registry.models(model_version)[0]
            with self._lock:
                self._known[model_version] = known
        return known

    def client(self, model_version: int) -> ModelClient:
        """A client for a version, loaded if it must be.

        Raises:
            NotFoundError: it was never registered.
            ModelUnavailableError: it cannot be loaded, or not within `wait_s`.
        """
        future = self._future(self.version(model_version))
        try:
            return future.result(timeout=self._wait_s)
        except TimeoutError as error:
            raise _still_loading(model_version) from error

    def check(self) -> int:
        """Returns the version that answers: the newest, or while that one loads, one that is loaded.

        Raises:
            ModelUnavailableError: none answers.
            DatabaseUnavailableError: the results database does not answer.
        """
        newest = self.newest()
        future = self._future(newest)
        client = future.result() if future.done() else self._loaded()
        if client is None:
            raise _still_loading(newest.model_version)
        client.check()
        return client.model_version

    def preload(self) -> None:
        """Starts loading the newest version; when there is none yet, requests will find it later."""
        try:
            self.newest()
        except UnavailableError as error:
            get_logger("api").warning("model_preload_skipped", error=str(error))

    def close(self) -> None:
        """Loads nothing more, and waits for a load under way: TensorFlow cannot be left half imported."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    def _loaded(self) -> ModelClient | None:
        with self._lock:
            futures = reversed(list(self._clients.values()))
        return next((f.result() for f in futures if f.done() and not f.cancelled() and f.exception() is None), None)

    def _future(self, model: ModelVersion) -> Future[ModelClient]:
        version = model.model_version
        with self._lock:
            failed_at = self._failed_at.get(version)
            if failed_at is not None and self._clock() - failed_at >= RETRY:
                del self._failed_at[version]
                self._clients.pop(version, None)
            if version not in self._clients:
                self._clients[version] = self._loader.submit(self._load_logged, model)
            self._clients.move_to_end(version)
            for kept in list(self._clients)[:-KEPT_MODELS]:
                if self._clients[kept].done() and (self._newest is None or kept != self._newest[0]):
                    del self._clients[kept]
            return self._clients[version]

    def _load_logged(self, model: ModelVersion) -> ModelClient:
        log = get_logger("api").bind(model_version=model.model_version)
        started = time.perf_counter()
        try:
            client = self._load(model)
        except Exception as error:  # whatever it is, it must not end the service; it is logged and told as unavailable
            log.error("model_load_failed", error=str(error), exc_info=not isinstance(error, UnavailableError))
            with self._lock:
                self._failed_at[model.model_version] = self._clock()
            raise ModelUnavailableError(
                f"model version {model.model_version}", "cannot be loaded", "The service's log says why."
            ) from error
        log.info("model_loaded", seconds=round(time.perf_counter() - started, 3))
        return client


def load_in_process(models_dir: Path) -> Loader:
    """A loader of pushed SavedModels into this process.

    Args:
        models_dir: where the Pusher puts versions.
    """

    def load(model: ModelVersion) -> ModelClient:
        directory = version_dir(models_dir, model.model_name, model.model_version)
        try:
            # Here, in the background: TensorFlow takes seconds to import, and listing works without it.
            from serving.in_process import InProcessModelClient

            return InProcessModelClient(directory)
        except ImportError as error:
            raise ModelUnavailableError(
                f"model version {model.model_version}",
                f"needs {error.name}, which is not installed",
                "Run `make setup`.",
            ) from error

    return load


def _still_loading(model_version: int) -> ModelUnavailableError:
    return ModelUnavailableError(f"model version {model_version}", "is still loading", "Ask again in some seconds.")
