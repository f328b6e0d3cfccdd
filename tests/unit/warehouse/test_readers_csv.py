"""CSV: units, rates, time axes, and errors that name line and column."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import SourceError
from warehouse.signal.ecg import SignalSource
from warehouse.signal.readers import SourceRef, open_source
from warehouse.signal.readers.csv_grid import grid_of

pytestmark = pytest.mark.unit


def opened(folder: Path, text: str | bytes) -> SignalSource:
    path = folder / "strip.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(SourceRef("csv", path, "strip"))


def table(n: int = 100, *, head: str = "# sampling_rate_hz: 250\nII_mV,V1 (uV),MLII [mV]\n") -> str:
    return head + "".join(f"{i},{i * 1000},{-i}\n" for i in range(n))


def everything(source: SignalSource) -> np.ndarray:
    return source.read(0, source.header.n_samples)


def test_declared_rate_and_units_in_column_names(tmp_path: Path) -> None:
    source = opened(tmp_path, table())
    assert (source.header.leads, source.header.sampling_rate_hz) == (("II", "V1", "MLII"), 250.0)
    assert (source.header.n_samples, source.header.start_time, source.annotations()) == (100, None, None)
    np.testing.assert_allclose(source.read(3, 5), [[3, 3, -3], [4, 4, -4]], rtol=1e-6)
    assert source.read(3, 5).dtype == np.float32


def test_declarations(tmp_path: Path) -> None:
    keys = '# patient: P-7\n# Sex: F\n# age: 61\n# device: 5" patch\n# start_time: 2024-05-31T12:00:00+02:00\n'
    header = opened(tmp_path, keys + "unit=uV\nsampling_rate_hz: 500,,\n# a remark\n\nI,II\n1000,2000\n").header
    assert (header.patient_key, header.sex, header.age_years, header.device) == ("P-7", "female", 61, '5" patch')
    assert header.start_time == datetime(2024, 5, 31, 10, tzinfo=UTC)
    assert (header.sampling_rate_hz, header.leads, header.n_samples) == (500.0, ("I", "II"), 1)


def test_other_signals_are_left_out_and_may_hold_text(tmp_path: Path) -> None:
    source = opened(tmp_path, "# sampling_rate_hz: 250\nII_mV,resp_ohm,label\n1,9,N\n2,9,V\n")
    assert source.header.leads == ("II",)
    assert everything(source).tolist() == [[1], [2]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_delimiters_and_line_ends(tmp_path: Path, delimiter: str, line_end: str) -> None:
    rows = ["# sampling_rate_hz: 250", f"II_mV{delimiter}V1_uV", f"1.5{delimiter}500", f"{delimiter}nan", ""]
    source = opened(tmp_path, line_end.join(rows))
    np.testing.assert_allclose(everything(source), [[1.5, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_microvolts_with_a_mu(tmp_path: Path, encoding: str) -> None:
    source = opened(tmp_path, "# sampling_rate_hz: 250\nII (\u00b5V)\n1000\n".encode(encoding))
    np.testing.assert_allclose(everything(source), [[1.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "times"),
    [
        ("time_s", [f"{i / 360:.6f}" for i in range(720)]),
        ("time_ms", [f"{1000 * i / 360:.0f}" for i in range(720)]),  # rounded: steps of 2 and 3 ms
        ("time", [f"{5 + i / 360:.4f}" for i in range(720)]),
        ("Time [ms]", [f"{1000 * i / 360:.2f}" for i in range(720)]),
    ],
)
def test_rate_from_the_time_column(tmp_path: Path, column: str, times: list[str]) -> None:
    source = opened(tmp_path, f"{column},II_mV\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times)))
    assert source.header.sampling_rate_hz == pytest.approx(360.0, rel=1e-3)
    assert everything(source)[:, 0].tolist() == list(range(720))


def test_timestamps_give_start_and_rate(tmp_path: Path) -> None:
    start = datetime(2024, 5, 31, 23, 59, 59, tzinfo=UTC)
    stamps = [(start + timedelta(milliseconds=4 * i)).isoformat().replace("+00:00", "Z") for i in range(500)]
    source = opened(tmp_path, "timestamp,II_mV\n" + "".join(f"{stamp},{i}\n" for i, stamp in enumerate(stamps)))
    assert (source.header.start_time, source.header.sampling_rate_hz, source.header.n_samples) == (start, 250.0, 500)


def test_time_gaps_become_nan_on_the_grid(tmp_path: Path) -> None:
    kept = [i for i in range(1000) if not 100 <= i < 300 and i != 700]
    source = opened(tmp_path, "time_s,II_mV\n" + "".join(f"{i / 250:.3f},{i}\n" for i in kept))
    assert source.header.n_samples == 1000
    expected = np.arange(1000.0)
    expected[[*range(100, 300), 700]] = np.nan
    np.testing.assert_array_equal(everything(source)[:, 0], expected)
    for start, stop in [(0, 100), (100, 300), (99, 301), (150, 160), (650, 750), (999, 1000), (5, 5)]:
        np.testing.assert_array_equal(source.read(start, stop)[:, 0], expected[start:stop])


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.sampled_from([62.5, 125, 200, 250, 257, 360, 500, 1000]),
    stretches=st.lists(st.tuples(st.integers(3, 60), st.integers(1, 500)), min_size=1, max_size=6),
)
def test_every_row_is_on_the_grid_once_at_its_time(rate_hz: float, stretches: list[tuple[int, int]]) -> None:
    sample, at = [], 0
    for n_rows, gap in stretches:
        sample += range(at, at + n_rows)
        at += n_rows + gap
    time_s = np.array(sample) / rate_hz + 3.0
    grid = grid_of(time_s, None, Path("x.csv"), lambda row: row)
    found = {
        stretch.start + i: stretch.first_row + i
        for stretch in grid.within(0, grid.n_samples)
        for i in range(stretch.stop - stretch.start)
    }
    assert grid.sampling_rate_hz == pytest.approx(rate_hz, rel=1e-6)
    assert found == {position: row for row, position in enumerate(sample)}


def test_long_files_are_read_in_parts(tmp_path: Path) -> None:
    n_rows = 300_000
    rows = [f"{4 * i},{i % 1000}\n" for i in range(n_rows)]
    source = opened(tmp_path, "time_ms,II_uV\n" + "".join(rows))
    assert (source.header.n_samples, source.header.sampling_rate_hz) == (n_rows, 250.0)
    np.testing.assert_allclose(everything(source)[:, 0], np.arange(n_rows) % 1000 / 1000, atol=1e-6)
    rows[-2] = ",7\n"
    with pytest.raises(SourceError, match="line 300000 has no time"):
        opened(tmp_path, "time_ms,II_uV\n" + "".join(rows))


def test_checksum_follows_the_content_alone(tmp_path: Path) -> None:
    first = opened(tmp_path, table()).header.checksum
    (tmp_path / "strip.csv").rename(tmp_path / "other.csv")
    assert open_source(SourceRef("csv", tmp_path / "other.csv", "other")).header.checksum == first
    assert opened(tmp_path, table(101)).header.checksum != first


RATE = "# sampling_rate_hz: 250\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header row"),
        ("0.1,0.2\n0.1,0.2\n", "no header row"),
        ("II_mV,V1_mV\n1,2\n", "does not say its sampling rate.*sampling_rate_hz: 360"),
        (RATE + "II,V1\n1,2\n", "column 'II' has no unit.*II_mV"),
        (RATE + "II_counts\n1\n", "unknown unit 'counts'"),
        (RATE + "II (bar)\n1\n", "unknown unit 'bar'"),
        (RATE + "resp_ohm,temp_adu\n1,2\n", "no ECG lead"),
        (RATE + "II_mV\n", "no samples"),
        (RATE + "II_mV,V1_mV\n1,2\n3,four\n", "line 4, column 'V1_mV': 'four' is not a number"),
        (RATE + "II_mV,V1_mV\n1,2\n\n1,2\n3,4,5\n", "line 6 has 3 cells, the header row 2"),
        (RATE + "II_mV,V1_mV\n1,5,2,5\n1,6,2,6\n", "line 3 has 4 cells, the header row 2"),
        (RATE + "II_mV;V1_mV\n1,5;2,5\n", "line 3, column 'II_mV': '1,5' is not a number"),
        ("# sampling_rate_hz: fast\nII_mV\n1\n", "sampling_rate_hz is 'fast'"),
        ("# sampling_rate_hz: 20\nII_mV\n1\n", "20 Hz, not within 50 to 2000 Hz"),
        (RATE + "# age: old\nII_mV\n1\n", "age is 'old'"),
        (RATE + "# start_time: noon\nII_mV\n1\n", "start_time 'noon'"),
        ("time_s,II_mV\n0,1\n0.004,1\n0.004,1\n", "does not go forward at line 4"),
        ("time_s,II_mV\n0,1\n,1\n0.008,1\n", "line 3 has no time"),
        ("time_s,II_mV\n0,1\nlate,1\n", "line 3, column 'time_s': 'late' is not a number"),
        ("time_s,II_mV\n0,1\n", "single row"),
        ("time_s,II_mV\n0,1\n4,1\n8,1\n", "0.25 Hz, not within.*time_ms"),
        ("time_s,II_mV\n0,1\n0.004,1\n9999999,1\n9999999.004,1\n", "spans 116 days"),
        ("# sampling_rate_hz: 500\ntime_s,II_mV\n0,1\n0.004,1\n0.008,1\n", "declares 500 Hz, but .* runs at 250 Hz"),
        ("timestamp,II_mV\n2024-05-31T12:00:00,1\nyesterday,1\n", "line 3 has 'yesterday' for a timestamp"),
        (b"PK\x03\x04\0\0\0\0", "not text"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        opened(tmp_path, text)
    assert caught.value.subject.endswith("strip.csv")
    assert caught.value.hint


def test_uneven_time_is_refused(tmp_path: Path) -> None:
    times = np.cumsum(0.004 * (1 + 0.4 * np.sin(np.arange(2000) / 300)))
    with pytest.raises(SourceError, match=r"time is uneven: line \d+ is"):
        opened(tmp_path, "time_s,II_mV\n" + "".join(f"{t:.6f},0\n" for t in times))
