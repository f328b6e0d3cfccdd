"""TensorFlow Serving over REST: for processes without TensorFlow, such as the API's."""

from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np

from configs.errors import ModelUnavailableError
from serving.model_client import FloatArray
from serving.remote import Array, TooSlowError, TransientError

_BUSY = {429, 502, 503}  # the server's own, or those of a proxy in front of it


class RestTransport:
    """A `serving.remote.Transport` by TensorFlow Serving's REST API (column format). Connections are kept and reused.

    Args:
        url: of the server's REST port, http://HOST:PORT.
        model_name: served name.
        model_version: is asked for by number, so that a promotion never changes it under way.
        connections: kept open, and used at once, at most.
    """

    def __init__(self, url: str, model_name: str, model_version: int, *, connections: int) -> None:
        self._address = url.rstrip("/")
        self._version = model_version
        self._path = f"/v1/models/{model_name}/versions/{model_version}"
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(base_url=self._address, limits=limits, trust_env=False)

    @property
    def address(self) -> str:
        return self._address

    def signatures(self, timeout_s: float) -> Mapping[str, tuple[set[str], set[str]]]:
        answer = self._ask("GET", f"{self._path}/metadata", timeout_s)
        found = answer.get("metadata", {}).get("signature_def", {}).get("signature_def", {})
        return {name: (set(one.get("inputs", {})), set(one.get("outputs", {}))) for name, one in found.items()}

    def predict(self, signature: str, inputs: Mapping[str, FloatArray], timeout_s: float) -> Mapping[str, Array]:
        body = {"signature_name": signature, "inputs": {name: values.tolist() for name, values in inputs.items()}}
        answer = self._ask("POST", f"{self._path}:predict", timeout_s, body).get("outputs")
        if not isinstance(answer, dict):
            raise self._gone("its answer has no outputs by name")
        return {name: np.asarray(values) for name, values in answer.items()}

    def check(self, timeout_s: float) -> None:
        states = self._ask("GET", self._path, timeout_s).get("model_version_status", [])
        if not any(int(one["version"]) == self._version and one["state"] == "AVAILABLE" for one in states):
            raise self._gone("it is not loaded")

    def close(self) -> None:
        self._http.close()

    def _ask(self, method: str, path: str, timeout_s: float, body: Any = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body, timeout=httpx.Timeout(timeout_s))
        except httpx.TimeoutException as error:
            if isinstance(error, httpx.ConnectTimeout):
                raise TransientError("no connection in time") from error
            raise TooSlowError(str(error)) from error
        except httpx.TransportError as error:  # refused, reset, or a kept connection that the server has closed
            raise TransientError(str(error) or type(error).__name__) from error
        if answer.status_code in _BUSY:
            raise TransientError(f"HTTP {answer.status_code}")
        try:
            content = answer.json()
        except ValueError as error:
            raise self._gone(f"HTTP {answer.status_code}, and no JSON") from error
        if answer.status_code != 200 or not isinstance(content, dict):
            detail = content.get("error", "") if isinstance(content, dict) else ""
            raise self._gone(f"HTTP {answer.status_code}: {str(detail).splitlines()[0] if detail else 'no reason'}")
        return content

    def _gone(self, reason: str) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"model version {self._version} on {self._address}",
            f"cannot be asked ({reason})",
            "`python -m serving.release list` says which versions the server should have.",
        )
