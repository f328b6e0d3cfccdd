"""The Beam pipeline that scores: read a block, score it, commit it. Blocks travel, not windows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from configs.contract import FeatureSpec
from serving.connect import ModelSource, open_client
from serving.model_client import ModelClient, Scores
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse
from warehouse.store.window_block import WindowBlock

NOT_FINITE = "the model's score is not finite"


@dataclass(frozen=True)
class BlockRange:
    """A block to score: window ids [first_id, stop_id) of one window set."""

    window_set: WindowSet
    first_id: int
    stop_id: int


@dataclass(frozen=True)
class UnscoredBlock:
    """What of a block has no score yet; `failures` are (window_id, reason) of windows that cannot be read."""

    range: BlockRange
    block: WindowBlock
    failures: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ScoringJob:
    """Where to read, what to score with, where to write: what every Beam worker needs."""

    warehouse_url: str
    results_url: str
    source: ModelSource
    spec: Mapping[str, Any]
    run_id: int


def run_scoring(job: ScoringJob, ranges: Sequence[BlockRange], beam_args: Sequence[str]) -> None:
    """Runs the pipeline and waits for it.

    Raises:
        Exception: what a stage raised, as the runner gives it.
    """
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        (
            pipeline
            | "Blocks" >> beam.Create(ranges)
            | "Spread" >> beam.Reshuffle()
            | "ReadUnscored" >> beam.ParDo(ReadUnscored(job))
            | "Score" >> RunInference(BlockModelHandler(job))
            | "Write" >> beam.ParDo(WriteScores(job))
        )


class ReadUnscored(beam.DoFn):
    """Reads a block's windows, without those that have a score or a failure already."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job

    def setup(self) -> None:
        self._spec = FeatureSpec.model_validate(self._job.spec)
        self._warehouse = Warehouse.open(self._job.warehouse_url, pool_size=2)
        self._results = Results.open(self._job.results_url, pool_size=2)

    def process(self, element: BlockRange) -> Iterator[UnscoredBlock]:
        failures: list[tuple[int, str]] = []
        try:
            block = self._warehouse.read_block(self._spec, element.first_id, element.stop_id)
        except ValueError:  # one damaged window must not stop the others
            block = self._warehouse.read_block(self._spec, element.first_id, element.stop_id, well_formed=True)
            bad = self._warehouse.misshapen_windows(self._spec, element.first_id, element.stop_id)
            failures = [(window_id, detail) for window_id, _, detail in bad]
        done = self._results.done_ids(self._job.source.model_version, element.first_id, element.stop_id)
        if len(done):
            block = block.select(~np.isin(block.window_id, done, assume_unique=True))
            failures = [failure for failure in failures if failure[0] not in set(done.tolist())]
        if len(block) or failures:
            yield UnscoredBlock(element, block, tuple(failures))

    def teardown(self) -> None:
        self._warehouse.close()
        self._results.close()


class BlockModelHandler(ModelHandler[UnscoredBlock, tuple[UnscoredBlock, Scores], ModelClient]):
    """Beam's model handler for blocks: one element is a whole block, so Beam itself need not batch."""

    def __init__(self, job: ScoringJob) -> None:
        super().__init__()
        self._job = job

    def load_model(self) -> ModelClient:
        return open_client(self._job.source)

    def run_inference(
        self, batch: Sequence[UnscoredBlock], model: ModelClient, inference_args: dict[str, Any] | None = None
    ) -> Iterator[tuple[UnscoredBlock, Scores]]:
        del inference_args
        for element in batch:
            yield element, model.score(element.block.model_inputs())

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_metrics_namespace(self) -> str:
        return "ecg_scoring"


class WriteScores(beam.DoFn):
    """Commits a block's scores in one transaction; a score that is not finite becomes a failure."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job
        self._scored = Metrics.counter("ecg_scoring", "windows_scored")
        self._failed = Metrics.counter("ecg_scoring", "windows_failed")

    def setup(self) -> None:
        self._results = Results.open(self._job.results_url, pool_size=2)

    def process(self, element: tuple[UnscoredBlock, Scores]) -> None:
        unscored, scores = element
        finite = np.isfinite(scores.score)
        failures = list(unscored.failures)
        failures += [(int(window_id), NOT_FINITE) for window_id in unscored.block.window_id[~finite]]
        scored, failed = self._results.write_scores(
            self._job.run_id,
            self._job.source.model_version,
            unscored.range.window_set,
            unscored.block.select(finite),
            BlockScores(scores.score[finite], scores.verdict[finite], scores.lead_slot[finite]),
            failures,
        )
        self._scored.inc(scored)
        self._failed.inc(failed)

    def teardown(self) -> None:
        self._results.close()
