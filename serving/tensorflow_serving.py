"""TensorFlow Serving over gRPC: for batches."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from configs.errors import ModelUnavailableError
from serving.model_client import FloatArray
from serving.remote import Array, TooSlowError, TransientError

#: A batch of explanations is above gRPC's 4 MiB; the server's own limit holds for what it takes.
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
)
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED}


class GrpcTransport:
    """A `serving.remote.Transport` by the official protos. One channel, which reconnects by itself.

    Args:
        host: HOST:PORT of the server's gRPC port.
        model_name: served name.
        model_version: is asked for by number, so that a promotion never changes it under way.
    """

    def __init__(self, host: str, model_name: str, model_version: int) -> None:
        self._address = f"grpc://{host}"
        self._spec = model_pb2.ModelSpec(name=model_name)
        self._spec.version.value = model_version
        self._channel = grpc.insecure_channel(host, options=CHANNEL_OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    @property
    def address(self) -> str:
        return self._address

    def signatures(self, timeout_s: float) -> Mapping[str, tuple[set[str], set[str]]]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=["signature_def"]
        )
        answer = self._ask(self._predictions.GetModelMetadata, request, timeout_s)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return {name: (set(one.inputs), set(one.outputs)) for name, one in found.signature_def.items()}

    def predict(self, signature: str, inputs: Mapping[str, FloatArray], timeout_s: float) -> Mapping[str, Array]:
        request = predict_pb2.PredictRequest(model_spec=self._spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(to_proto(values))
        answer = self._ask(self._predictions.Predict, request, timeout_s)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def check(self, timeout_s: float) -> None:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        answer = self._ask(self._models.GetModelStatus, request, timeout_s)
        states = get_model_status_pb2.ModelVersionStatus
        for status in answer.model_version_status:
            if status.version == self._spec.version.value and status.state == states.AVAILABLE:
                return
        raise self._gone("it is not loaded")

    def close(self) -> None:
        self._channel.close()

    def _ask(self, method: Any, request: Any, timeout_s: float) -> Any:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            code, detail = error.code(), (error.details() or "").splitlines()[:1]
            reason = f"{code.name}{': ' + detail[0] if detail else ''}"
            if code in _TRANSIENT:
                raise TransientError(reason) from error
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TooSlowError(reason) from error
            raise self._gone(reason) from error

    def _gone(self, reason: str) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"model version {self._spec.version.value} on {self._address}",
            f"cannot be asked ({reason})",
            "`python -m serving.release list` says which versions the server should have.",
        )


def to_proto(values: FloatArray) -> tensor_pb2.TensorProto:
    """A float32 array as a TensorProto: its bytes, without a step per value."""
    values = np.ascontiguousarray(values, dtype="<f4")
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=values.tobytes())
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def reload_config(server: str, text: str, timeout_s: float) -> None:
    """Tells a running server which versions to serve, and their labels.

    Args:
        server: grpc://HOST:PORT.
        text: a ModelServerConfig.

    Raises:
        ModelUnavailableError: it cannot be reached, or does not take it.
    """
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    with grpc.insecure_channel(server.removeprefix("grpc://"), options=CHANNEL_OPTIONS) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            answer = stub.HandleReloadConfigRequest(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _not_taken(server, f"{error.code().name}: {error.details()}") from error
    if answer.status.error_code != 0:
        raise _not_taken(server, answer.status.error_message)


def _not_taken(server: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"model server {server}", f"does not take its new configuration ({reason})", "See the server's log."
    )
