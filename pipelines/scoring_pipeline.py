"""The Beam pipeline that scores: blocks from the queue are read, scored and committed. Blocks travel, not windows.

Its elements are turns at the queue, so that workers that are faster take more. A worker reads ahead of its model and
commits behind it: the three overlap.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.scoring_blocks import (
    BlockReader,
    BlockWriter,
    ScoredBlock,
    ScoringJob,
    UnscoredBlock,
    cores,
    score_block,
)
from serving.connect import open_client
from serving.model_client import ModelClient

#: Blocks a turn: enough for reading and writing to overlap, few enough to share work between workers.
BLOCKS_A_TURN = 32


def run_scoring(job: ScoringJob, n_blocks: int, beam_args: Sequence[str]) -> None:
    """Runs the pipeline and waits for it.

    Args:
        n_blocks: in the queue for this job.

    Raises:
        Exception: what a stage raised, as the runner gives it.
    """
    turns = -(-n_blocks // BLOCKS_A_TURN)
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        (
            pipeline
            | "Turns" >> beam.Create(range(turns))
            | "Spread" >> beam.Reshuffle()
            | "ReadUnscored" >> beam.ParDo(ReadUnscored(job))
            | "Score" >> RunInference(BlockModelHandler(job))
            | "Write" >> beam.ParDo(WriteScores(job))
        )


class ReadUnscored(beam.DoFn):
    """Takes blocks from the queue and gives what of them has no score."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job
        self._reader: BlockReader | None = None

    def setup(self) -> None:
        self._reader = BlockReader(self._job)

    def process(self, element: int) -> Iterator[UnscoredBlock]:
        del element
        if self._reader is None:  # after a failure, when Beam tries again
            self.setup()
        assert self._reader is not None
        try:
            yield from self._reader.blocks(BLOCKS_A_TURN)
        except BaseException:
            self.teardown()  # what it had taken is free for the next attempt
            raise

    def teardown(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class BlockModelHandler(ModelHandler[UnscoredBlock, ScoredBlock, ModelClient]):
    """Beam's model handler for blocks: one element is a whole block, so Beam itself need not batch."""

    def __init__(self, job: ScoringJob) -> None:
        super().__init__()
        self._job = job

    def load_model(self) -> ModelClient:
        client = open_client(self._job.source, warm_up=False, threads=cores())
        gc.freeze()  # TensorFlow is a million objects that stay: no pause to look at each again
        return client

    def run_inference(
        self, batch: Sequence[UnscoredBlock], model: ModelClient, inference_args: dict[str, Any] | None = None
    ) -> Iterator[ScoredBlock]:
        del inference_args
        for element in batch:
            yield score_block(element, model)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_num_bytes(self, batch: Sequence[UnscoredBlock]) -> int:
        """For Beam's metrics; it would pickle each block to know."""
        return sum(element.block.samples.nbytes + element.block.template.nbytes for element in batch)

    def get_metrics_namespace(self) -> str:
        return "ecg_scoring"


class WriteScores(beam.DoFn):
    """Commits each block in one transaction, behind the model."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job
        self._scored = Metrics.counter("ecg_scoring", "windows_scored")
        self._failed = Metrics.counter("ecg_scoring", "windows_failed")

    def setup(self) -> None:
        self._writer = BlockWriter(self._job)

    def process(self, element: ScoredBlock) -> None:
        self._count(self._writer.write(element))

    def finish_bundle(self) -> None:
        self._count(self._writer.flush())

    def teardown(self) -> None:
        self._writer.close()

    def _count(self, counts: tuple[int, int]) -> None:
        self._scored.inc(counts[0])
        self._failed.inc(counts[1])
