"""The clients of TensorFlow Serving against its official protos: the tests' own server, or a live one.

    pytest -m model_server --model-server-grpc=grpc://HOST:8500 --model-server-rest=http://HOST:8501 \
        --model-server-model=<data_dir>/models/NAME/VERSION

runs those that need no faults against a live server that serves that version.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from model_server import ModelServer
from saved_models import random_block, save_model

from configs import contract
from configs.errors import ModelUnavailableError
from serving.connect import ModelSource, open_client
from serving.in_process import InProcessModelClient
from serving.remote import CallPolicy

pytestmark = pytest.mark.integration
QUICK = CallPolicy(deadline_s=5, attempts=3, first_pause_s=0.02)


@dataclass
class Served:
    """A version on a server, and in a folder."""

    addresses: dict[str, str]
    directory: Path
    server: ModelServer | None

    def source(self, protocol, policy=QUICK, batch_size=7, **other):
        name, version = self.directory.parent.name, int(self.directory.name)
        values = {"model_name": name, "model_version": version, "server": self.addresses[protocol], **other}
        return ModelSource(directory=self.directory, batch_size=batch_size, policy=policy, **values)


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    live = {one: request.config.getoption(f"--model-server-{one}") for one in ("grpc", "rest", "model")}
    if all(live.values()):
        yield Served(live, Path(live["model"]), None)
        return
    base = tmp_path_factory.mktemp("models") / "ecg_autoencoder"
    save_model(base / "7")
    with ModelServer(base, "ecg_autoencoder") as server:
        yield Served({"grpc": server.grpc_address, "rest": server.rest_address}, base / "7", server)


@pytest.fixture
def double(served):
    """The tests' own server, which can be told to fail."""
    if served.server is None:
        pytest.skip("a live server is not made to fail")
    yield served.server
    served.server.delay_s, served.server.failures = 0.0, []


@pytest.fixture(params=["grpc", "rest"])
def protocol(request):
    return request.param


@pytest.fixture(scope="module")
def reference(served):
    return InProcessModelClient(served.directory)


@pytest.mark.model_server
def test_scores_are_those_of_the_model_in_process_alone_and_in_any_batch(served, protocol, reference):
    block = random_block(50, seed=1).model_inputs()
    expected = reference.score(block)
    for batch_size in (1, 7, 50):
        client = open_client(served.source(protocol, batch_size=batch_size))
        found = client.score(block)
        np.testing.assert_allclose(found.score, expected.score, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(found.verdict, expected.verdict)
        np.testing.assert_array_equal(found.lead_slot, expected.lead_slot)
        assert found.score.dtype == np.float32
        client.close()


@pytest.mark.model_server
def test_explanations_are_those_of_the_model_in_process(served, protocol, reference):
    block = random_block(9, seed=2).model_inputs()
    expected = reference.explain(block)
    client = open_client(served.source(protocol))
    client.check()
    found = client.explain(block)
    for name in ("threshold", "reconstruction", "sample_error"):
        here = getattr(expected, name)
        # Single precision: to 1e-5 of the largest sample, as the difference of two large ones may itself be small.
        np.testing.assert_allclose(getattr(found, name), here, atol=1e-5 * np.abs(here).max(), rtol=1e-5)
    assert found.reconstruction.shape == block[contract.SAMPLES].shape
    assert client.model_version == int(served.directory.name)
    client.close()


@pytest.mark.model_server
def test_a_version_that_the_server_does_not_have_is_named(served, protocol):
    with pytest.raises(ModelUnavailableError, match=r"model version 987654 on .*cannot be asked \(.*serving.release"):
        open_client(served.source(protocol, model_version=987654))


@pytest.mark.model_server
def test_one_client_is_shared_by_threads(served, protocol, reference):
    client = open_client(served.source(protocol))
    blocks = [random_block(20, seed=seed).model_inputs() for seed in range(8)]
    found = [None] * len(blocks)

    def score(i):
        found[i] = client.score(blocks[i]).score

    threads = [threading.Thread(target=score, args=(i,)) for i in range(len(blocks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scores, block in zip(found, blocks, strict=True):
        np.testing.assert_allclose(scores, reference.score(block).score, atol=1e-5, rtol=1e-5)
    client.close()


def test_a_server_that_is_down_is_named_with_what_was_tried(served, protocol):
    address = {"grpc": "grpc://127.0.0.1:1", "rest": "http://127.0.0.1:1"}[protocol]
    with pytest.raises(ModelUnavailableError, match=rf"model server {address}: does not answer \(.*tried 3 times"):
        open_client(served.source(protocol, server=address))


def test_a_busy_server_is_asked_again_and_nothing_is_lost(served, double, protocol, reference):
    client = open_client(served.source(protocol))
    block = random_block(20, seed=3).model_inputs()
    double.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    np.testing.assert_allclose(client.score(block).score, reference.score(block).score, atol=1e-5, rtol=1e-5)
    assert double.failures == []
    client.close()


def test_a_wrong_request_is_not_sent_again(served, double, protocol):
    client = open_client(served.source(protocol))
    before = double.predictions
    double.failures = [grpc.StatusCode.INVALID_ARGUMENT]
    with pytest.raises(ModelUnavailableError, match="as the test wants it"):
        client.score(random_block(3).model_inputs())
    assert double.predictions == before
    client.close()


def test_a_slow_server_is_given_up_at_the_deadline(served, double, protocol):
    client = open_client(served.source(protocol, policy=CallPolicy(deadline_s=0.5, attempts=3)))
    double.delay_s = 3
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError, match=r"did not answer within 0\.5 s"):
        client.score(random_block(3).model_inputs())
    assert time.monotonic() - started < 2
    client.close()


def test_a_version_that_disappears_while_it_is_used_is_named(tmp_path, protocol):
    base = tmp_path / "ecg_autoencoder"
    for version in ("7", "8"):
        save_model(base / version)
    with ModelServer(base, "ecg_autoencoder") as server:
        served = Served({"grpc": server.grpc_address, "rest": server.rest_address}, base / "7", server)
        client = open_client(served.source(protocol))
        client.check()
        (base / "7" / "saved_model.pb").unlink()
        server.poll()
        for ask in (client.check, lambda: client.score(random_block(3).model_inputs())):
            with pytest.raises(ModelUnavailableError, match=r"model version 7 on .*cannot be asked"):
                ask()
        client.close()


def test_a_server_with_another_model_is_refused(tmp_path, protocol):
    base = tmp_path / "ecg_autoencoder"
    save_model(base / "7", outputs=(contract.LEAD,))
    with ModelServer(base, "ecg_autoencoder") as server:
        served = Served({"grpc": server.grpc_address, "rest": server.rest_address}, base / "7", server)
        with pytest.raises(ModelUnavailableError, match="signature score: it has no output lead"):
            open_client(served.source(protocol))


def test_batches_wait_at_the_client_when_the_server_is_slow(served, double):
    double.delay_s = 0.1
    client = open_client(served.source("grpc", policy=CallPolicy(deadline_s=0.5, max_in_flight=2), batch_size=1))
    started = time.monotonic()
    assert len(client.score(random_block(12).model_inputs()).score) == 12
    took = time.monotonic() - started
    assert took > 0.55, "at most two were under way at once, and none waited on the server for its deadline to pass"
    client.close()
