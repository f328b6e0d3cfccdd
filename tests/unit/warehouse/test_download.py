"""PhysioNet download against a server in this process: resume, checksums, cache, no network."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from configs.errors import SourceError, StorageError, UnavailableError
from warehouse.signal.download import (
    MITDB_DAT_BYTES,
    MITDB_URL,
    Pin,
    fetch_mitdb,
    mitdb_patient_of,
    mitdb_pins,
    mitdb_records,
)
from warehouse.signal.readers import find_sources, open_source

pytestmark = pytest.mark.unit
CONTENT = {f"100.{extension}": bytes(extension, "ascii") * 1000 for extension in ("hea", "dat", "atr")}
PINS = {"100": Pin("100", "mitdb-100", {name[4:]: hashlib.sha256(body).hexdigest() for name, body in CONTENT.items()})}
Server = Callable[[httpx.Request], httpx.Response]
Fetch = Callable[[Server], list[str]]


class Cut(httpx.SyncByteStream):
    """A body that breaks off after `n_bytes`."""

    def __init__(self, body: bytes, n_bytes: int) -> None:
        self._part = body[:n_bytes]

    def __iter__(self) -> Iterator[bytes]:
        yield self._part
        raise httpx.ReadError("connection reset")


class PhysioNet:
    """Serves CONTENT with ranges; `cuts` says after how many bytes the next answers break off."""

    def __init__(self, *, cuts: list[int] | None = None, ranges: bool = True, served: dict[str, bytes] | None = None):
        self.requests: list[tuple[str, str | None]] = []
        self._cuts = cuts or []
        self._ranges = ranges
        self._served = CONTENT if served is None else served

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url).startswith(MITDB_URL)
        name, wanted = request.url.path.rsplit("/", 1)[1], request.headers.get("Range")
        self.requests.append((name, wanted))
        body = self._served.get(name)
        if body is None:
            return httpx.Response(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self._ranges else 0
        if start and start >= len(body):
            return httpx.Response(416)
        status, rest = (206 if start else 200), body[start:]
        if self._cuts:
            return httpx.Response(status, stream=Cut(rest, self._cuts.pop(0)))
        return httpx.Response(status, content=rest)


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Fetches record 100, pinned to CONTENT, into tmp_path from a server; returns what was reported."""

    def run(server: Server) -> list[str]:
        lines: list[str] = []
        with httpx.Client(transport=httpx.MockTransport(server)) as client:
            assert fetch_mitdb(["100"], tmp_path, client=client, report=lines.append, pins=PINS) == tmp_path
        return lines

    return run


def check_cache(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_downloads_verifies_and_then_asks_no_more(tmp_path: Path, fetch: Fetch) -> None:
    server = PhysioNet()
    assert [line.split()[0] for line in fetch(server)] == ["downloading"] * 3
    check_cache(tmp_path)
    assert server.requests == [("100.hea", None), ("100.dat", None), ("100.atr", None)]
    assert fetch(server) == []
    assert len(server.requests) == 3


def test_goes_on_where_the_connection_broke(tmp_path: Path, fetch: Fetch) -> None:
    server = PhysioNet(cuts=[700, 800])
    fetch(server)
    check_cache(tmp_path)
    assert server.requests[:3] == [("100.hea", None), ("100.hea", "bytes=700-"), ("100.hea", "bytes=1500-")]


def test_goes_on_in_the_next_call(tmp_path: Path, fetch: Fetch) -> None:
    with pytest.raises(UnavailableError, match="broke off 3 times"):
        fetch(PhysioNet(cuts=[10, 10, 10]))
    assert [path.name for path in tmp_path.iterdir()] == ["100.hea.partial"]
    server = PhysioNet()
    assert fetch(server)[0].startswith("continuing")
    assert server.requests[0] == ("100.hea", "bytes=30-")
    check_cache(tmp_path)


def test_a_server_without_ranges_starts_over(tmp_path: Path, fetch: Fetch) -> None:
    fetch(PhysioNet(cuts=[700], ranges=False))
    check_cache(tmp_path)


@pytest.mark.parametrize("begun", [b"wrong", b"wrong" * 1000, CONTENT["100.hea"]])
def test_a_partial_file_is_taken_over_only_when_it_is_right(tmp_path: Path, fetch: Fetch, begun: bytes) -> None:
    (tmp_path / "100.hea.partial").write_bytes(begun)
    fetch(PhysioNet())
    check_cache(tmp_path)


def test_a_damaged_copy_is_replaced(tmp_path: Path, fetch: Fetch) -> None:
    (tmp_path / "100.dat").write_bytes(b"damaged")
    assert any("damaged" in line for line in fetch(PhysioNet()))
    check_cache(tmp_path)


def test_wrong_checksum_deletes_the_file_and_keeps_the_others(tmp_path: Path, fetch: Fetch) -> None:
    with pytest.raises(SourceError, match=r"100\.dat: does not have the checksum") as caught:
        fetch(PhysioNet(served=CONTENT | {"100.dat": b"not the data"}))
    assert "ECG_MITDB_DIR" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["100.hea"]


def offline(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Name or service not known")


def test_offline_gives_up_at_once(tmp_path: Path, fetch: Fetch) -> None:
    with pytest.raises(UnavailableError, match=r"cannot be reached \(Name or service not known.*ECG_MITDB_DIR"):
        fetch(offline)
    assert list(tmp_path.iterdir()) == []


def test_connecting_takes_five_seconds_at_most(fetch: Fetch) -> None:
    timeouts = []

    def server(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"]["connect"])
        return offline(request)

    with pytest.raises(UnavailableError):
        fetch(server)
    assert timeouts == [5.0]


def test_cached_records_need_no_network(tmp_path: Path, fetch: Fetch) -> None:
    fetch(PhysioNet())
    assert fetch(offline) == []


def test_refusal_names_the_status(fetch: Fetch) -> None:
    with pytest.raises(UnavailableError, match="PhysioNet answers 404"):
        fetch(PhysioNet(served={}))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with httpx.Client(transport=httpx.MockTransport(offline)) as client, pytest.raises(StorageError):
        fetch_mitdb(["100"], tmp_path / "file" / "cache", client=client, report=print)


def test_unknown_record(tmp_path: Path) -> None:
    client = httpx.Client(transport=httpx.MockTransport(offline))
    with client, pytest.raises(SourceError, match="999: does not exist"):
        fetch_mitdb(["100", "999"], tmp_path, client=client, report=print)


def test_the_48_records_of_47_patients() -> None:
    records = mitdb_records()
    assert (len(records), records[0], records[-1]) == (48, "100", "234")
    pins = mitdb_pins()
    assert len({pin.patient for pin in pins.values()}) == 47
    assert pins["201"].patient == pins["202"].patient
    assert all(len(sha256) == 64 for pin in pins.values() for sha256 in pin.sha256.values())
    assert mitdb_patient_of(pins["202"].sha256["dat"]) == "mitdb-201"
    assert mitdb_patient_of("0" * 64) is None


@pytest.mark.integration
def test_real_records_are_the_pinned_ones_and_know_their_patient() -> None:
    if not (folder := os.environ.get("ECG_MITDB_DIR")):
        pytest.skip("needs ECG_MITDB_DIR, a folder with the MIT-BIH Arrhythmia Database")
    pins = mitdb_pins()
    refs = [ref for ref in find_sources([folder])[0] if ref.name in pins]
    assert refs
    for ref in refs:
        for extension, sha256 in pins[ref.name].sha256.items():
            path = ref.path.with_suffix(f".{extension}")
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        assert ref.path.with_suffix(".dat").stat().st_size == MITDB_DAT_BYTES
    assert {open_source(ref).header.patient_key for ref in refs if ref.name in ("201", "202")} <= {"mitdb-201"}
