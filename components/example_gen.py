"""ExampleGen on the warehouse: Beam workers read blocks of windows, never one query for all.

A split's pattern is a query of this module's own, `span=3 digest=... split=train block_windows=4096`: the span (see
`Warehouse.freeze_span`) fixes which window sets are read and how many windows of each, so that a run says exactly which
data it saw, and TFX's cache knows when that has not changed. Where the warehouse is comes from the environment
(`ECG_WAREHOUSE_URL`), never from a pipeline parameter: a password must not end in the metadata store.
"""

import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tfx.components.example_gen.base_example_gen_executor import BaseExampleGenExecutor
from tfx.components.example_gen.component import QueryBasedExampleGen
from tfx.dsl.components.base import executor_spec
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import ConfigurationError, DataInvalidError
from warehouse.store.records import DataSpan, LabelUse, WindowSet, blocks_of
from warehouse.store.warehouse import Warehouse
from warehouse.store.window_block import WindowBlock

WAREHOUSE_URL_VARIABLE = "ECG_WAREHOUSE_URL"


class PostgresExampleGen(QueryBasedExampleGen):
    """Reads the windows of a data span into tf.Examples, one TFX split a patient split.

    Args:
        span: what to read.
        block_windows: windows a warehouse read.
    """

    def __init__(self, span: DataSpan, *, block_windows: int) -> None:
        splits = [
            example_gen_pb2.Input.Split(
                name=split, pattern=f"span={span.span} digest={span.digest} split={split} block_windows={block_windows}"
            )
            for split in contract.SPLITS
        ]
        super().__init__(
            input_config=example_gen_pb2.Input(splits=splits),
            range_config=range_config_pb2.RangeConfig(
                static_range=range_config_pb2.StaticRange(start_span_number=span.span, end_span_number=span.span)
            ),
            custom_executor_spec=executor_spec.BeamExecutorSpec(Executor),
        )


class Executor(BaseExampleGenExecutor):
    """Runs `ReadWindows` for each split."""

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:  # noqa: N802 (TFX's name)
        return _read_windows


@beam.ptransform_fn
@beam.typehints.with_input_types(beam.Pipeline)
@beam.typehints.with_output_types(bytes)
def _read_windows(pipeline: beam.Pipeline, exec_properties: dict[str, Any], split_pattern: str) -> beam.PCollection:
    del exec_properties
    query = dict(part.split("=", 1) for part in split_pattern.split())
    url = warehouse_url()
    warehouse = Warehouse.open(url, pool_size=1)
    try:
        span = warehouse.data_span(int(query["span"]))
        spec = warehouse.feature_spec(span.content["feature_version"])
        ranges = plan_ranges(warehouse, span, query["split"], int(query["block_windows"]))
    finally:
        warehouse.close()
    if not ranges:
        raise DataInvalidError(
            f"split {query['split']}", "has no windows", "Ingest recordings of at least three patients, one a split."
        )
    read = ReadBlock(spec.model_dump(mode="json"), span.content.get("labels"))
    return pipeline | beam.Create(ranges) | beam.Reshuffle() | beam.ParDo(read)


def warehouse_url() -> str:
    """Where this process, or this Beam worker, finds the warehouse.

    Raises:
        ConfigurationError: the variable is not set.
    """
    url = os.environ.get(WAREHOUSE_URL_VARIABLE)
    if not url:
        raise ConfigurationError(WAREHOUSE_URL_VARIABLE, "is not set on this worker", "Set it to the warehouse's URL.")
    return url


def plan_ranges(
    warehouse: Warehouse, span: DataSpan, split: str, block_windows: int
) -> list[tuple[dict[str, str], int, int]]:
    """Id ranges of a split, each with what its window set says of the patient and recording.

    With `max_windows` in the span, every recording gives its first windows up to an equal share.
    """
    chosen = {e["window_set_id"]: e.get("ranges") for e in span.content["window_sets"] if e["split"] == split}
    sets = [
        s for s in warehouse.window_sets(span.content["feature_version"], splits=[split]) if s.window_set_id in chosen
    ]
    share = span.share(split)
    ranges = []
    for window_set in sets:
        limit = window_set.id_range(0, share)[1] if share else window_set.id_range(0, window_set.n_beats)[1]
        for beats in chosen[window_set.window_set_id] or [[0, window_set.n_beats]]:
            for first, stop in blocks_of(window_set, beats[0], beats[1], block_windows):
                if first < limit:
                    ranges.append((_context(window_set), first, min(stop, limit)))
    return ranges


def _context(window_set: WindowSet) -> dict[str, str]:
    return {
        contract.RECORDING: window_set.recording,
        contract.SEX: window_set.sex,
        contract.AGE_BAND: window_set.age_band,
        contract.LEADS: ",".join(window_set.lead_slots),
    }


class ReadBlock(beam.DoFn):
    """Reads one id range and gives its windows as serialized tf.Examples.

    Args:
        labels: how reviewers' labels are used (fields of `LabelUse`); None: not at all.
    """

    def __init__(self, spec: dict[str, Any], labels: dict[str, Any] | None = None) -> None:
        self._spec_values = spec
        self._labels = None if labels is None else LabelUse(**labels)

    def setup(self) -> None:
        self._spec = FeatureSpec.model_validate(self._spec_values)
        self._warehouse = Warehouse.open(warehouse_url(), pool_size=2)
        self._encoder = RecordBatchToExamplesEncoder()

    def process(self, element: tuple[dict[str, str], int, int]) -> Iterator[bytes]:
        context, first, stop = element
        if self._labels is None:
            block = self._warehouse.read_block(self._spec, first, stop)
        else:
            block = self._warehouse.read_labelled_block(self._spec, first, stop, self._labels)
        if len(block):
            yield from self._encoder.encode(to_record_batch(block, context))

    def teardown(self) -> None:
        self._warehouse.close()


def to_record_batch(block: WindowBlock, context: dict[str, str]) -> pa.RecordBatch:
    """A block as the Arrow form of tf.Examples: one list column a feature, keys of `configs.contract`.

    Args:
        context: recording, sex, age band and leads of the block's recording.
    """
    n = len(block)
    columns = {name: _float_lists(values.reshape(n, -1)) for name, values in block.model_inputs().items()}
    labelled = block.aami_class != b"U"
    columns[contract.LABEL_WEIGHT] = _float_lists(labelled.astype(np.float32)[:, None])
    columns[contract.IS_ANOMALY] = _lists(pa.array((labelled & (block.aami_class != b"N")).astype(np.int64)), 1)
    columns[contract.AAMI_CLASS] = _lists(pa.array(block.aami_class.tolist(), pa.binary()), 1)
    for name, value in context.items():
        columns[name] = _lists(pa.array([value.encode()] * n, pa.binary()), 1)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _float_lists(values: np.ndarray[Any, np.dtype[np.float32]]) -> pa.Array:
    return _lists(pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1)), values.shape[1])


def _lists(flat: pa.Array, width: int) -> pa.Array:
    offsets = np.arange(0, len(flat) + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
