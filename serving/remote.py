"""A model on a server: batches, deadlines, retries and back-pressure, whatever the protocol."""

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from configs import contract
from configs.errors import ModelUnavailableError
from serving.model_client import OUTPUTS, Explanation, FloatArray, Scores

T = TypeVar("T")
Array = npt.NDArray[Any]


class TransientError(Exception):
    """The server could not answer just now: it was not reached, or it is busy. Asking again may help."""


class TooSlowError(Exception):
    """The server did not answer within the time it was given. Asking again would only add to its load."""


@dataclass(frozen=True)
class CallPolicy:
    """How a server is called.

    Attributes:
        deadline_s: seconds a call may take, with all its attempts.
        attempts: times it is sent at most; only transient failures are tried again.
        first_pause_s: before the second attempt; doubles from then on, and is jittered.
        max_in_flight: batches under way at once; more wait here, not in the server's queue.
    """

    deadline_s: float = 30.0
    attempts: int = 5
    first_pause_s: float = 0.1
    max_in_flight: int = 2


class Transport(Protocol):
    """One protocol to one model version on one server. Keeps its connections open; safe to share between threads.

    All calls may raise TransientError, TooSlowError, or ModelUnavailableError for what asking again cannot mend.
    """

    @property
    def address(self) -> str: ...

    def signatures(self, timeout_s: float) -> Mapping[str, tuple[set[str], set[str]]]:
        """Input and output names by signature."""
        ...

    def predict(self, signature: str, inputs: Mapping[str, FloatArray], timeout_s: float) -> Mapping[str, Array]: ...

    def check(self, timeout_s: float) -> None:
        """Returns when the server has the version loaded."""
        ...

    def close(self) -> None: ...


class RemoteModelClient:
    """A `serving.model_client.ModelClient` of a model server.

    Args:
        transport: how it is reached.
        model_version: the version that is asked for, and no other.
        batch_size: windows a request.
        policy: of each request.
        on_retry: is called before a request is sent again.

    Raises:
        ModelUnavailableError: the server is down, does not have the version, or it has another signature.
    """

    def __init__(
        self,
        transport: Transport,
        model_version: int,
        *,
        batch_size: int,
        policy: CallPolicy | None = None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport = transport
        self._version = model_version
        self._batch_size = batch_size
        self._policy = policy or CallPolicy()
        self._on_retry = on_retry
        self._pool = ThreadPoolExecutor(self._policy.max_in_flight, thread_name_prefix="model-server")
        try:
            self._check_signatures(self._calling(self._transport.signatures))
        except BaseException:
            self.close()
            raise

    @property
    def model_version(self) -> int:
        return self._version

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        return Scores.from_answer(self._call(contract.SIGNATURE_SCORE, inputs))

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        return Explanation.from_answer(self._call(contract.SIGNATURE_DEFAULT, inputs))

    def check(self) -> None:
        self._calling(self._transport.check)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._transport.close()

    def _call(self, signature: str, inputs: Mapping[str, FloatArray]) -> dict[str, Array]:
        n = len(inputs[contract.SAMPLES])
        batches = [
            {name: inputs[name][start : start + self._batch_size] for name in contract.MODEL_INPUTS}
            for start in range(0, max(n, 1), self._batch_size)
        ]
        if len(batches) == 1:
            return self._predict(signature, batches[0])
        parts = list(self._pool.map(lambda batch: self._predict(signature, batch), batches))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, signature: str, batch: Mapping[str, FloatArray]) -> dict[str, Array]:
        answer = self._calling(lambda timeout_s: self._transport.predict(signature, batch, timeout_s))
        n = len(batch[contract.SAMPLES])
        for name in OUTPUTS[signature]:
            if name not in answer or len(np.atleast_1d(answer[name])) != n:
                raise self._other_signature(signature, f"it does not answer with {n} values of {name}")
        return dict(answer)

    def _calling(self, call: Callable[[float], T]) -> T:
        return call_with_retries(call, self._policy, self._transport.address, on_retry=self._on_retry)

    def _check_signatures(self, found: Mapping[str, tuple[set[str], set[str]]]) -> None:
        for signature, outputs in OUTPUTS.items():
            if signature not in found:
                raise self._other_signature(signature, "it has no such signature")
            has_inputs, has_outputs = found[signature]
            if has_inputs != set(contract.MODEL_INPUTS):
                raise self._other_signature(signature, f"its inputs are {', '.join(sorted(has_inputs)) or 'none'}")
            if missing := set(outputs) - has_outputs:
                raise self._other_signature(signature, f"it has no output {', '.join(sorted(missing))}")

    def _other_signature(self, signature: str, what: str) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"model version {self._version} on {self._transport.address}",
            f"is not this platform's model: signature {signature}: {what}",
            "Point serving.server at the server that serves <data_dir>/models.",
        )


def call_with_retries(
    call: Callable[[float], T],
    policy: CallPolicy,
    address: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    on_retry: Callable[[], None] = lambda: None,
) -> T:
    """Calls until it succeeds, it fails for good, or the attempts or the time are used up.

    Args:
        call: is handed the seconds it may take.
        on_retry: is called before each further attempt.

    Raises:
        ModelUnavailableError: it did not succeed; says why.
    """
    started = clock()
    pause = policy.first_pause_s
    for attempt in range(1, policy.attempts + 1):
        left = policy.deadline_s - (clock() - started)
        try:
            return call(max(left, 0.001))
        except TransientError as error:
            left = policy.deadline_s - (clock() - started)
            if attempt == policy.attempts or pause >= left:
                raise ModelUnavailableError(
                    f"model server {address}",
                    f"does not answer ({error}; tried {attempt} times in {clock() - started:.1f} s)",
                    "Check that it runs and that serving.server is its address.",
                ) from error
            sleep(pause * random.uniform(0.5, 1.0))  # not all clients at the same moment
            pause *= 2
            on_retry()
        except TooSlowError as error:
            raise ModelUnavailableError(
                f"model server {address}",
                f"did not answer within {policy.deadline_s:g} s",
                "Give it more cores, send smaller batches (scoring.batch_size), or raise serving.deadline_s.",
            ) from error
    raise AssertionError("a policy has at least one attempt")
