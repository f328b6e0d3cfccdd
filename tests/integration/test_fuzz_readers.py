"""Damaged files of every kind give samples or a SourceError, never anything else. FUZZ_EXAMPLES=10000 looks longer."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ecg_files import write_csv, write_edf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import SourceError
from warehouse.signal.readers import find_sources, open_source, read_ucr

pytestmark = pytest.mark.integration

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
MOST_SAMPLES = 2000  # read: a header may promise a billion

#: Words that mean something in one of the formats, put where they do not belong.
WORDS = [b"0", b"-1", b"1e309", b"nan", b"99999999999999999999", b"\x00", b"\xff\xfe", b",", b"/", b"~", b"\n", b" ",
         b"16+24:8", b"212", b"16", b"x" * 300,
         "\u202e".encode(), b"../../etc/passwd", b"# ", b"\x00" * 80]  # fmt: skip

changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),  # where, as a share of the file
        st.integers(0, 40),  # bytes that go
        st.one_of(st.binary(max_size=12), st.sampled_from(WORDS)),  # what comes
    ),
    min_size=1,
    max_size=6,
)
damage = st.tuples(changes, st.one_of(st.none(), st.floats(0, 1)))  # and where the file ends
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def damaged(whole: bytes, how: tuple[list[tuple[float, int, bytes]], float | None], among: int | None = None) -> bytes:
    """Bytes changed as a strategy says; only in the first `among`, when it is given."""
    content = bytearray(whole)
    for share, gone, put in how[0]:
        at = int(share * min(len(content), among or len(content)))
        content[at : at + gone] = put
    return bytes(content if how[1] is None else content[: int(how[1] * len(content))])


def read_all(path: Path) -> bool:
    """Reads what can be read of a file; whether there was anything."""
    found, failures = find_sources([str(path)])
    assert found or failures
    for ref in found:
        try:
            if ref.format == "ucr":
                assert len(read_ucr(ref).samples) > 0
                continue
            source = open_source(ref)
            samples = source.read(0, min(source.header.n_samples, MOST_SAMPLES))
            assert samples.shape == (min(source.header.n_samples, MOST_SAMPLES), len(source.header.leads))
            assert source.header.sampling_rate_hz > 0
            source.annotations()
        except SourceError:
            return False
    return bool(found)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, bytes], str], None]:
    folder = tmp_path_factory.mktemp("fuzz")

    def run(files: dict[str, bytes], main: str) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        read_all(folder / main)

    return run


@pytest.fixture(scope="module")
def record(wfdb_folder: Path) -> dict[str, bytes]:
    """A WFDB record: header, signal and annotations."""
    return {path.name: path.read_bytes() for path in wfdb_folder.glob("sim000.*")}


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_edf(tmp_path_factory.mktemp("edf") / "a.edf", started=datetime(2026, 1, 1, tzinfo=UTC)).read_bytes()


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_csv(tmp_path_factory.mktemp("csv") / "a.csv").read_bytes()[:20_000].rpartition(b"\n")[0] + b"\n"


def test_the_whole_files_can_be_read(record: dict[str, bytes], edf: bytes, csv: bytes, tmp_path: Path) -> None:
    for name, content in {**record, "a.edf": edf, "a.csv": csv}.items():
        (tmp_path / name).write_bytes(content)
    assert all(read_all(tmp_path / name) for name in ("sim000.hea", "a.edf", "a.csv"))


@fuzz
@given(how=damage)
def test_wfdb_headers(check: Callable[..., None], record: dict[str, bytes], how: tuple) -> None:
    check({**record, "sim000.hea": damaged(record["sim000.hea"], how)}, "sim000.hea")


@fuzz
@given(how=damage)
def test_wfdb_annotations(check: Callable[..., None], record: dict[str, bytes], how: tuple) -> None:
    check({**record, "sim000.atr": damaged(record["sim000.atr"], how)}, "sim000.hea")


@fuzz
@given(how=damage)
def test_edf_headers(check: Callable[..., None], edf: bytes, how: tuple) -> None:
    check({"a.edf": damaged(edf, how, among=1024)}, "a.edf")


@fuzz
@given(how=damage)
def test_csv(check: Callable[..., None], csv: bytes, how: tuple) -> None:
    check({"a.csv": damaged(csv, how, among=400)}, "a.csv")


@fuzz
@given(content=st.binary(max_size=2000), suffix=st.sampled_from([".hea", ".edf", ".csv", ".txt", ".tsv"]))
def test_anything_at_all(check: Callable[..., None], content: bytes, suffix: str) -> None:
    check({f"any{suffix}": content}, f"any{suffix}")
