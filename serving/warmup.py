"""Warm-up requests that a version carries, so that its first caller does not pay for what a first call sets up.

TensorFlow Serving replays `assets.extra/tf_serving_warmup_requests` before it says that a version is available; the
client in this process does the same (https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from configs import contract
from serving.model_client import OUTPUTS, FloatArray
from serving.model_files import EXTRA
from serving.tensorflow_serving import to_proto

WARMUP_FILE = "tf_serving_warmup_requests"


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
