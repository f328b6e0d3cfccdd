"""One stack for all tests of this folder: it takes minutes to come up."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from stack import Stack

UP_WITHIN_S = 20 * 60  # a machine that is busy with other things; test_stack.py says what is promised


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up, with simulated recordings; taken down with its data whatever happens."""
    made = Stack(tmp_path_factory.mktemp("stack"), STACK_SOURCE="simulator", STACK_REQUESTS_PER_MINUTE="240")
    try:
        made.up(UP_WITHIN_S)
        yield made
    finally:
        made.down(with_data=True)
