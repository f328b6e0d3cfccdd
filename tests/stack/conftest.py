"""One stack for all tests of this folder: it takes minutes to come up."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from stack import Stack, wait_for

UP_WITHIN_S = 20 * 60  # a machine that is busy with other things; test_stack.py says what is promised


#: A folder to begin with: three patients to train on, one to calibrate by, two to test on; a third of 208 is ectopic.
MITDB_RECORDS = ("100", "101", "106", "119", "200", "208")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up from nothing, with the recordings of a mounted folder; taken down with its data whatever happens.

    Without ECG_MITDB_DIR the recordings are the simulator's.
    """
    folder = tmp_path_factory.mktemp("stack")
    source = {"STACK_SOURCE": "simulator"}
    if records := os.environ.get("ECG_MITDB_DIR"):
        recordings = folder / "recordings"
        recordings.mkdir()
        for path in (path for name in MITDB_RECORDS for path in Path(records).glob(f"{name}.*")):
            shutil.copy(path, recordings)
        source = {"STACK_SOURCE": "folder", "STACK_RECORDINGS": str(recordings)}
    made = Stack(folder, STACK_REQUESTS_PER_MINUTE="240", **source)
    try:
        start = time.monotonic()
        made.up(UP_WITHIN_S)
        wait_for("/anomalies has results", lambda: made.api.get("/anomalies").json()["items"], UP_WITHIN_S)
        made.cold_start_s = time.monotonic() - start
        yield made
    finally:
        made.down(with_data=True)
