"""Runs a TFX pipeline with progress that a person can follow, and finds what came out of it."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging as absl_logging

from configs.errors import EcgError

_STAGE = re.compile(r"^Component (\S+) is (running|finished)\.$")


@contextmanager
def logs_to(path: Path, report: Callable[[str], None] | None = None) -> Iterator[dict[str, float]]:
    """Sends the logs of TFX, Beam and TensorFlow to a file; reports each pipeline stage as it ends.

    Must be entered before TensorFlow is imported for its native logs to be quiet too.

    Yields:
        Seconds of each stage, filled as stages end.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    saved = root.handlers[:], root.level
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    watcher = _StageWatcher(report)
    root.handlers[:] = [handler, watcher]
    root.setLevel(logging.INFO)
    absl = logging.getLogger("absl")
    saved_absl = absl.handlers[:], absl.propagate, absl_logging.get_verbosity()
    absl.handlers[:] = []
    absl.propagate = True
    # By absl's own switch: libraries save and restore that one, and would undo a plain setLevel.
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield watcher.seconds
    finally:
        root.handlers[:], level = saved
        root.setLevel(level)
        absl.handlers[:], absl.propagate, verbosity = saved_absl
        absl_logging.set_verbosity(verbosity)
        handler.close()


class _StageWatcher(logging.Handler):
    def __init__(self, report: Callable[[str], None] | None) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self._report = report
        self._started = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        match = _STAGE.match(record.getMessage())
        if match is None:
            return
        stage, event = match.groups()
        if event == "running":
            self._started = time.monotonic()
        else:
            took = time.monotonic() - self._started
            # A stage that ran before, for the first run's schema, comes from cache the second time: its time adds up.
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + took, 1)
            if self._report is not None:
                self._report(f"  {stage:<20} {took:6.1f} s")


def find_error(error: BaseException) -> EcgError | None:
    """The platform's own error behind a framework's, if there is one."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, EcgError):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def outputs_of_last_run(metadata_path: Path) -> dict[tuple[str, str], Any]:
    """Output artifacts of the newest run in a metadata store: (stage, output key) to TFX artifact.

    Stages that came from cache are there with the artifacts they reused.
    """
    from ml_metadata import proto
    from tfx.types import artifact_utils

    found: dict[tuple[str, str], Any] = {}
    with _last_run(metadata_path) as (store, executions):
        types = {a.id: a for a in store.get_artifact_types()}
        for execution, stage in executions:
            for event in store.get_events_by_execution_ids([execution.id]):
                if event.type != proto.Event.OUTPUT:
                    continue
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                key = event.path.steps[0].key
                found[stage, key] = artifact_utils.deserialize_artifact(types[artifact.type_id], artifact)
    return found


def lineage_of_last_run(metadata_path: Path) -> list[dict[str, Any]]:
    """What each stage of the newest run read and made, in the order they ran: plain values, for the model card.

    Artifact and execution ids are ML Metadata's own, so that its tools find the rest.
    """
    from ml_metadata import proto

    stages = []
    with _last_run(metadata_path) as (store, executions):
        types = {a.id: a.name for a in store.get_artifact_types()}
        states = {value.number: value.name for value in proto.Execution.State.DESCRIPTOR.values}
        for execution, stage in sorted(executions, key=lambda pair: pair[0].id):
            events = store.get_events_by_execution_ids([execution.id])
            artifacts = {a.id: a for a in store.get_artifacts_by_id(sorted({e.artifact_id for e in events}))}
            sides: dict[int, list[dict[str, Any]]] = {proto.Event.INPUT: [], proto.Event.OUTPUT: []}
            for event in events:
                artifact = artifacts[event.artifact_id]
                sides.setdefault(event.type, []).append(
                    {
                        "key": event.path.steps[0].key if event.path.steps else "",
                        "artifact_id": artifact.id,
                        "type": types[artifact.type_id],
                        "uri": artifact.uri,
                    }
                )
            stages.append(
                {
                    "stage": stage,
                    "execution_id": execution.id,
                    "state": states.get(execution.last_known_state, "UNKNOWN"),
                    "inputs": sides[proto.Event.INPUT],
                    "outputs": sides[proto.Event.OUTPUT],
                }
            )
    return stages


@contextmanager
def _last_run(metadata_path: Path) -> Iterator[tuple[Any, list[tuple[Any, str]]]]:
    """The metadata store, and the executions of its newest run with their stages."""
    from tfx.orchestration import metadata

    config = metadata.sqlite_metadata_connection_config(str(metadata_path))
    with metadata.Metadata(config) as handle:
        store = handle.store
        run = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
        nodes = {c.id: c.name for c in store.get_contexts_by_type("node")}
        yield (
            store,
            [
                (
                    execution,
                    next(
                        nodes[c.id].split(".")[-1]
                        for c in store.get_contexts_by_execution(execution.id)
                        if c.id in nodes
                    ),
                )
                for execution in store.get_executions_by_context(run.id)
            ],
        )
