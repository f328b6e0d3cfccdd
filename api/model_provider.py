"""Which model versions are released, and a client for each version that is asked for.

Loading a model takes seconds, so it happens in the background: the service answers at once, and a promoted model is
used without a restart, from the moment it is loaded. Whoever needs a model that is still loading waits a little, then
is told so.
"""

import gc
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
from configs.settings import ServingSettings
from monitoring.model_metrics import ModelMetrics
from serving.combining import CombiningClient
from serving.connect import ModelSource, call_policy
from serving.model_client import ModelClient
from serving.model_files import verified_dir
from serving.observed import open_observed
from warehouse.store.records import ModelVersion, Release

Loader = Callable[[ModelVersion], ModelClient]

REFRESH = timedelta(seconds=2)
RETRY = timedelta(seconds=10)
WAIT_S = 15.0
_BATCH = 256  # windows a call; requests ask about one
KEPT_MODELS = 3  # stable, canary, and the one to roll back to


class ModelRegistry(Protocol):
    """Where pushed models are registered and released: `warehouse.store.results.Results`."""

    def release(self, release_id: int | None = None) -> Release: ...

    def models(self, model_version: int | None = None) -> list[ModelVersion]: ...


class ModelProvider:
    """Hands out model clients. Safe to share between threads.

    Args:
        registry: which versions there are.
        load: makes a client; may take long, raises ModelUnavailableError when there is nothing to load.
        clock: now, timezone-aware.
        wait_s: how long a request waits for a model that is being loaded.
        forget: is told of each version that is no longer kept.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        load: Loader,
        clock: Clock,
        *,
        wait_s: float = WAIT_S,
        forget: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._registry = registry
        self._load = load
        self._clock = clock
        self._wait_s = wait_s
        self._forget = forget
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")
        self._clients: OrderedDict[int, Future[ModelClient]] = OrderedDict()  # least recently used first
        self._failed_at: dict[int, datetime] = {}
        self._known: dict[int, ModelVersion] = {}
        self._release: tuple[Release, datetime] | None = None

    def release(self) -> Release:
        """Which versions serve now, read anew at most every `REFRESH`.

        A release takes effect when its models are loaded; until then, and if one cannot be loaded, the one before
        serves.

        Raises:
            ModelUnavailableError: none was ever pushed.
            DatabaseUnavailableError: the results database does not answer.
        """
        with self._lock:
            known = self._release
        now = self._clock()
        if known is not None and timedelta(0) <= now - known[1] < REFRESH:
            return known[0]
        found = self._registry.release()
        shown = [version for version in (found.stable, found.canary) if version is not None]
        futures = [self._future(self.version(version)) for version in shown]
        if known is not None and found.release_id != known[0].release_id and not all(map(_is_loaded, futures)):
            return known[0]  # and looked at again when somebody next asks
        with self._lock:
            self._release = (found, now)
        return found

    def stable(self) -> ModelVersion:
        """The version that serves, but for the recordings of a canary; raises as `release`."""
        return self.version(self.release().stable)

    def serving(self, recording: str) -> ModelVersion:
        """The version that serves a recording; raises as `release`."""
        return self.version(self.release().version_for(recording))

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

    def client(self, model_version: int, *, wait_s: float | None = None) -> ModelClient:
        """A client for a version, loaded if it must be.

        Args:
            wait_s: how long to wait for a model that is being loaded, where not as long as others do.

        Raises:
            NotFoundError: it was never registered.
            ModelUnavailableError: it cannot be loaded, or not within that time.
        """
        future = self._future(self.version(model_version))
        try:
            return future.result(timeout=self._wait_s if wait_s is None else wait_s)
        except TimeoutError as error:
            raise _still_loading(model_version) from error

    def at_hand(self, model_version: int | None) -> tuple[ModelVersion, ModelClient] | None:
        """A version, the stable one for None, and its client, where that takes no look at a database and no loading."""
        with self._lock:
            if model_version is None:
                known = self._release
                if known is None or not timedelta(0) <= self._clock() - known[1] < REFRESH:
                    return None
                model_version = known[0].stable
            future = self._clients.get(model_version)
            model = self._known.get(model_version)
            if model is None or future is None or not _is_loaded(future):
                return None
            self._clients.move_to_end(model_version)
        return model, future.result()

    def check(self) -> int:
        """Returns the version that answers: the stable one, or while that loads, one that is loaded.

        Raises:
            ModelUnavailableError: none answers.
            DatabaseUnavailableError: the results database does not answer.
        """
        stable = self.stable()
        future = self._future(stable)
        client = future.result() if future.done() else self._loaded()
        if client is None:
            raise _still_loading(stable.model_version)
        client.check()
        return client.model_version

    def preload(self) -> None:
        """Starts loading the stable version; when there is none yet, requests will find it later."""
        try:
            self.release()
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
                if self._clients[kept].done() and (self._release is None or kept not in self._release[0].versions):
                    del self._clients[kept]
                    self._forget(kept)
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


def load_from(models_dir: Path, serving: ServingSettings, metrics: ModelMetrics) -> Loader:
    """A loader of pushed versions: into this process, or from the model server that the settings name.

    Args:
        models_dir: where the Pusher puts versions.
        metrics: count what the models do.
    """

    def load(model: ModelVersion) -> ModelClient:
        here = models_dir / model.model_name / str(model.model_version)
        source = ModelSource(
            model_name=model.model_name,
            model_version=model.model_version,
            directory=here if serving.server else verified_dir(models_dir, model),
            server=serving.server,
            batch_size=_BATCH,
            policy=call_policy(serving),
        )
        client = open_observed(source, metrics)
        if serving.server:
            return client  # the server makes batches itself
        gc.collect()
        gc.freeze()  # TensorFlow is a million objects that stay: no pause to look at each again
        return CombiningClient(client, batch_size=_BATCH)

    return load


def _is_loaded(future: Future[ModelClient]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _still_loading(model_version: int) -> ModelUnavailableError:
    return ModelUnavailableError(f"model version {model_version}", "is still loading", "Ask again in some seconds.")
