"""Calls of a server that is down, busy or slow: what is tried again, for how long, and what is said."""

import numpy as np
import pytest

from configs import contract
from configs.errors import ConfigurationError, ModelUnavailableError
from serving.connect import parse_server
from serving.model_client import OUTPUTS
from serving.remote import CallPolicy, RemoteModelClient, TooSlowError, TransientError, call_with_retries

pytestmark = pytest.mark.unit

POLICY = CallPolicy(deadline_s=10, attempts=4, first_pause_s=1)


class Clock:
    """Time that only sleeping moves."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def calling(outcomes, policy=POLICY, takes_s=0.0):
    clock, seen = Clock(), []

    def call(timeout_s):
        seen.append(timeout_s)
        clock.now += takes_s
        outcome = outcomes[len(seen) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    try:
        return call_with_retries(call, policy, "http://h:1", clock=clock, sleep=clock.sleep), seen, clock
    except ModelUnavailableError as error:
        return error, seen, clock


def test_transient_failures_are_tried_again_with_growing_jittered_pauses():
    answer, seen, clock = calling([TransientError("reset"), TransientError("reset"), "answer"])
    assert answer == "answer"
    assert len(seen) == 3
    assert 0.5 <= clock.slept[0] <= 1
    assert 1 <= clock.slept[1] <= 2
    assert seen[2] == pytest.approx(10 - sum(clock.slept))  # each attempt gets what is left


def test_attempts_and_time_end():
    error, seen, _ = calling([TransientError("refused")] * 9)
    assert len(seen) == 4
    assert "http://h:1: does not answer (refused; tried 4 times" in str(error)
    error, seen, clock = calling([TransientError("refused")] * 9, takes_s=4.7)
    assert len(seen) == 2, "a third would end after the deadline"
    assert clock.now < 11


def test_what_is_slow_or_wrong_is_not_tried_again():
    error, seen, _ = calling([TooSlowError("late"), "never"])
    assert len(seen) == 1
    assert "did not answer within 10 s" in str(error)
    error, seen, _ = calling([ModelUnavailableError("it", "is gone"), "never"])
    assert len(seen) == 1
    assert str(error) == "it: is gone"


class Echo:
    """A transport whose score is the first sample."""

    address = "echo://"

    def __init__(self, signatures=None):
        self.asked = []
        self._signatures = signatures

    def signatures(self, timeout_s):
        inputs = set(contract.MODEL_INPUTS)
        return self._signatures or {name: (inputs, set(outputs)) for name, outputs in OUTPUTS.items()}

    def predict(self, signature, inputs, timeout_s):
        first = inputs[contract.SAMPLES][:, 0, 0]
        self.asked.append(len(first))
        return dict.fromkeys(OUTPUTS[signature], first)

    def check(self, timeout_s): ...

    def close(self): ...


def inputs_of(n):
    samples = np.arange(n, dtype=np.float32)[:, None, None] * np.ones((1, 4, 2), np.float32)
    return {**{name: np.zeros((n, 1), np.float32) for name in contract.MODEL_INPUTS}, contract.SAMPLES: samples}


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 47])
def test_batches_come_back_in_order(n):
    transport = Echo()
    client = RemoteModelClient(transport, 1, batch_size=10)
    assert client.score(inputs_of(n)).score.tolist() == list(range(n))
    assert sorted(transport.asked, reverse=True) == ([10] * (n // 10) + [n % 10] * (n % 10 > 0) or [0])
    client.close()


def test_another_signature_is_refused_at_once():
    good = {name: (set(contract.MODEL_INPUTS), set(outputs)) for name, outputs in OUTPUTS.items()}
    wrong = {
        "score: it has no such signature": {"serving_default": good["serving_default"]},
        "score: its inputs are x": {**good, "score": ({"x"}, good["score"][1])},
        "score: it has no output verdict": {**good, "score": (good["score"][0], good["score"][1] - {"verdict"})},
    }
    for words, signatures in wrong.items():
        with pytest.raises(ModelUnavailableError, match=f"is not this platform's model: signature {words}"):
            RemoteModelClient(Echo(signatures), 1, batch_size=10)


def test_an_answer_of_another_length_is_refused():
    transport = Echo()
    client = RemoteModelClient(transport, 1, batch_size=10)
    transport.predict = lambda signature, inputs, timeout_s: dict.fromkeys(OUTPUTS[signature], np.zeros(3))
    with pytest.raises(ModelUnavailableError, match="it does not answer with 4 values of score"):
        client.score(inputs_of(4))
    client.close()


@pytest.mark.parametrize("address", ["localhost:8500", "grpc://localhost", "ftp://h:1", "http://h:1/v1", "grpc://h:x"])
def test_a_wrong_address_is_named(address):
    with pytest.raises(ConfigurationError, match=r"is not an address. Write grpc://HOST:8500"):
        parse_server(address)
