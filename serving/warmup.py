"""Warm-up requests that a version carries, so that its first caller does not pay for what a first call sets up.

TensorFlow Serving replays `assets.extra/tf_serving_warmup_requests` before it says that a version is available; the
client in this process does the same (https://www.tensorflow.org/tfx/serving/saved_model_warmup). What they ask about is
drawn, and nobody's: a model's folder travels further than patients' data may.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from configs import contract
from serving.model_client import OUTPUTS, FloatArray
from serving.model_files import EXTRA
from serving.tensorflow_serving import to_proto

WARMUP_FILE = "tf_serving_warmup_requests"


def drawn_windows(shapes: Mapping[str, tuple[int | None, ...]], n: int) -> dict[str, FloatArray]:
    """Raw inputs of n windows with a drawn beat: P, QRS and T as bells of slightly different sizes, at 75 a minute.

    Args:
        shapes: of the raw inputs by name, the batch first.
    """
    _, width, leads = (int(size or 1) for size in shapes[contract.SAMPLES])
    at = np.arange(width) / width
    waves = ((0.25, 0.03, 0.12), (0.42, 0.01, -0.1), (0.44, 0.012, 1.0), (0.46, 0.01, -0.2), (0.75, 0.06, 0.25))
    beat = sum(height * np.exp(-0.5 * ((at - centre) / spread) ** 2) for centre, spread, height in waves)
    template = np.repeat((beat[:, np.newaxis] / np.arange(1, leads + 1))[np.newaxis], n, axis=0)  # millivolts
    sizes = np.linspace(0.8, 1.2, n)[:, np.newaxis, np.newaxis]
    found = {
        contract.SAMPLES: template * sizes,
        contract.TEMPLATE: template,
        contract.TEMPLATE_BEATS: np.full((n, 1), 40.0),
        contract.LEAD_MASK: np.ones((n, leads)),
        contract.RR: np.tile([0.8, 0.8, 0.8, 0.85, 0.03], (n, 1)),
    }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}


def write_warmup(directory: Path, model_name: str, inputs: Mapping[str, FloatArray]) -> None:
    """Writes requests of each signature that clients call: one window, and all of them in a batch.

    Args:
        directory: of the SavedModel.
        inputs: raw inputs of the windows to ask about.
    """
    path = directory / EXTRA / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in OUTPUTS:
            for n in sorted({1, len(inputs[contract.SAMPLES])}):
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature
                for name in contract.MODEL_INPUTS:
                    request.inputs[name].CopyFrom(to_proto(inputs[name][:n]))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())


def read_warmup(directory: Path) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """Signature and inputs of each warm-up request a version carries; none when it has no such file."""
    path = directory / EXTRA / WARMUP_FILE
    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        yield request.model_spec.signature_name, inputs
