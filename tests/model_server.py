"""A stand-in for TensorFlow Serving where its binary cannot be had: the official protos over gRPC, and REST.

It serves the SavedModels of a folder, newest and older versions alike, with labels and reloads of its configuration,
and replays warm-up requests. It can be told to be slow or to fail. `python tests/model_server.py BASE_PATH [PORT
REST_PORT]` runs it as a process, which prints its addresses as JSON. Where it and the real server differ, the real
server is right: the same tests run against one with `--model-server-grpc` and `--model-server-rest`.
"""

import json
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

STATES = get_model_status_pb2.ModelVersionStatus
REST_PATH = re.compile(r"/v1/models/(\w+)(?:/versions/(\d+)|/labels/(\w+))?(/metadata|:predict)?")


class WrongError(Exception):
    """What the caller asked for is wrong: a gRPC status and a text."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class ModelServer:
    """Serves `base_path/<version>/` as `name` until `close`; a context manager.

    Attributes:
        delay_s: seconds every prediction waits.
        failures: gRPC status codes that the next predictions end with, one each.
        predictions: how many were answered.
        labels: version labels.
    """

    def __init__(self, base_path, name, port=0, rest_port=0):
        self.base_path, self.name = Path(base_path), name
        self.delay_s, self.failures, self.predictions = 0.0, [], 0
        self.labels, self.wanted = {}, None
        self._models, self._lock = {}, threading.Lock()
        self._grpc = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Predictions(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self._grpc)
        self.grpc_address = f"grpc://127.0.0.1:{self._grpc.add_insecure_port(f'127.0.0.1:{port}')}"
        self._http = ThreadingHTTPServer(("127.0.0.1", rest_port), _rest_handler(self))
        self._http.daemon_threads = True
        self.rest_address = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        self.poll()
        self._grpc.start()
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._grpc.stop(0)
        self._http.shutdown()
        self._http.server_close()

    def poll(self):
        """Loads versions that are new in the folder, and lets go of those that are gone."""
        there = {
            int(path.parent.name) for path in self.base_path.glob("*/saved_model.pb") if path.parent.name.isdigit()
        }
        if self.wanted is not None:
            there &= self.wanted
        for version in there - set(self._models):
            self._models[version] = self._load(self.base_path / str(version))
        for version in set(self._models) - there:
            del self._models[version]

    def reload(self, config):
        """Takes a ModelServerConfig."""
        (model,) = [one for one in config.model_config_list.config if one.name == self.name]
        policy = model.model_version_policy
        self.wanted = set(policy.specific.versions) if policy.HasField("specific") else None
        self.poll()
        self.labels = dict(model.version_labels)

    def _load(self, directory):
        model = tf.saved_model.load(str(directory))
        warmup = directory / "assets.extra" / "tf_serving_warmup_requests"
        for record in tf.data.TFRecordDataset(str(warmup)) if warmup.is_file() else ():
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            model.signatures[request.model_spec.signature_name](**inputs)
        return model

    def find(self, name, version=None, label=None):
        if name != self.name or not self._models:
            raise WrongError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({name})")
        if label is not None and label not in self.labels:
            raise WrongError(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        version = self.labels[label] if label is not None else version or max(self._models)
        if version not in self._models:
            raise WrongError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {version})")
        return version, self._models[version]

    def find_spec(self, spec):
        which = spec.WhichOneof("version_choice")
        return self.find(
            spec.name,
            spec.version.value if which == "version" else None,
            spec.version_label if which == "version_label" else None,
        )

    def versions(self):
        return sorted(self._models, reverse=True)

    def predict(self, model, signature_name, tensors):
        with self._lock:
            failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise WrongError(failure, "as the test wants it")
        time.sleep(self.delay_s)
        if signature_name not in model.signatures:
            raise WrongError(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.'
            )
        signature = model.signatures[signature_name]
        wanted = signature.structured_input_signature[1]
        if set(wanted) != set(tensors):
            raise WrongError(
                grpc.StatusCode.INVALID_ARGUMENT, f"inputs must be {sorted(wanted)}, not {sorted(tensors)}"
            )
        try:
            answer = signature(**{key: tf.constant(value, wanted[key].dtype) for key, value in tensors.items()})
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise WrongError(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:500]) from error
        with self._lock:
            self.predictions += 1
        return {key: value.numpy() for key, value in answer.items()}


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self._server = server

    def Predict(self, request, context):  # noqa: N802
        with _aborting(context):
            version, model = self._server.find_spec(request.model_spec)
            signature = request.model_spec.signature_name or "serving_default"
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            answer = self._server.predict(model, signature, inputs)
            response = predict_pb2.PredictResponse(model_spec=request.model_spec)
            response.model_spec.version.value = version
            for key, value in answer.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        with _aborting(context):
            version, model = self._server.find_spec(request.model_spec)
            if list(request.metadata_field) != ["signature_def"]:
                raise WrongError(grpc.StatusCode.INVALID_ARGUMENT, "metadata_field must be signature_def")
            found = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in model.signatures.items():
                one = found.signature_def[name]
                one.method_name = "tensorflow/serving/predict"
                for side, specs in _sides(signature):
                    for key, spec in specs.items():
                        getattr(one, side)[key].dtype = spec.dtype.as_datatype_enum
                        getattr(one, side)[key].tensor_shape.CopyFrom(spec.shape.as_proto())
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version
            response.metadata["signature_def"].Pack(found)
            return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server):
        self._server = server

    def GetModelStatus(self, request, context):  # noqa: N802
        with _aborting(context):
            which = request.model_spec.WhichOneof("version_choice")
            versions = [self._server.find_spec(request.model_spec)[0]] if which else self._server.versions()
            response = get_model_status_pb2.GetModelStatusResponse()
            for version in versions:
                response.model_version_status.add(version=version, state=STATES.AVAILABLE)
            return response

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        self._server.reload(request.config)
        return model_management_pb2.ReloadConfigResponse()


class _aborting:  # noqa: N801
    def __init__(self, context):
        self._context = context

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, WrongError):
            self._context.abort(error.code, str(error))


def _sides(signature):
    return ("inputs", signature.structured_input_signature[1]), ("outputs", signature.structured_outputs)


def _rest_handler(server):
    status = {
        grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def answer(self, code, body):
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def respond(self, method):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            match = REST_PATH.fullmatch(self.path)
            try:
                if match is None or (method == "POST") != (match[4] == ":predict"):
                    raise WrongError(grpc.StatusCode.NOT_FOUND, f"Malformed request: {method} {self.path}")
                version, model = server.find(match[1], int(match[2]) if match[2] else None, match[3])
                self.answer(200, self.content(match[4], version, model, body, bool(match[2] or match[3])))
            except WrongError as error:
                self.answer(status.get(error.code, 400), {"error": str(error)})

        def content(self, rest, version, model, body, one_version):
            if rest == ":predict":
                request = json.loads(body)
                outputs = server.predict(model, request.get("signature_name", "serving_default"), request["inputs"])
                return {"outputs": {key: value.tolist() for key, value in outputs.items()}}
            if rest == "/metadata":
                found = {
                    name: {
                        side: {
                            key: {
                                "dtype": f"DT_{spec.dtype.name.upper().replace('FLOAT32', 'FLOAT')}",
                                "tensor_shape": {"dim": [{"size": str(d or -1)} for d in spec.shape.as_list()]},
                            }
                            for key, spec in specs.items()
                        }
                        for side, specs in _sides(signature)
                    }
                    for name, signature in model.signatures.items()
                }
                spec = {"name": server.name, "signature_name": "", "version": str(version)}
                return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": found}}}
            versions = [version] if one_version else server.versions()
            return {"model_version_status": [{"version": str(one), "state": "AVAILABLE"} for one in versions]}

        def do_GET(self):
            self.respond("GET")

        def do_POST(self):
            self.respond("POST")

    return Handler


def main(base_path, port="0", rest_port="0"):
    with ModelServer(base_path, Path(base_path).name, int(port), int(rest_port)) as server:
        print(json.dumps({"grpc": server.grpc_address, "rest": server.rest_address}), flush=True)
        while True:
            time.sleep(0.5)
            server.poll()


if __name__ == "__main__":
    main(*sys.argv[1:])
