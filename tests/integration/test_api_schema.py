"""Requests made up from the OpenAPI document: no answer is undocumented, none is a defect, none takes long."""

import time
from collections.abc import Iterator

import httpx
import hypothesis
import pytest
import schemathesis
from api_world import Scored, World, serving_uploads
from schemathesis.checks import load_all_checks

from configs.settings import load_settings

pytestmark = pytest.mark.integration

load_all_checks()


@pytest.fixture(scope="module")
def client(world: World, scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = load_settings(overrides={"data_dir": tmp_path_factory.mktemp("data"), "pseudonym_key": "a key"})
    with serving_uploads(world, settings) as client:
        yield client


@pytest.fixture(scope="module")
def api_schema(client: httpx.Client) -> schemathesis.BaseSchema:
    # No schema can say that end is after start, which tokens were issued, or which fields go together: where a request
    # breaks such a rule, a 422 that names the parameter is right.
    accepted = ["2xx", "304", "401", "403", "404", "409", "422", "429", "5xx"]
    checks = {"positive_data_acceptance": {"expected-statuses": accepted}}
    config = schemathesis.Config.from_dict({"checks": checks})
    return schemathesis.openapi.from_url(f"{client.base_url}/openapi.json", config=config)


schema = schemathesis.pytest.from_fixture("api_schema")


@schema.parametrize()
@hypothesis.settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_what_the_document_says_holds(case: schemathesis.Case) -> None:
    started = time.process_time()  # of this process, in which the service runs: other processes do not count
    response = case.call(timeout=60)
    assert time.process_time() - started < 2.0
    case.validate_response(response)
