"""WFDB: formats, skew, frames, segments, annotations, header comments, and files that do not fit each other."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import wfdb

from configs.errors import SourceError
from warehouse.signal.ecg import FloatArray, SignalSource
from warehouse.signal.readers import SourceRef, find_sources, open_source
from warehouse.signal.readers.wfdb_annotations import read_beats

pytestmark = pytest.mark.unit
NAN = np.nan


def opened(header: Path) -> SignalSource:
    return open_source(SourceRef("wfdb", header, header.stem))


def everything(source: SignalSource) -> FloatArray:
    return source.read(0, source.header.n_samples)


def write(
    folder: Path, name: str, record_line: str, signal_lines: Sequence[str], data: np.ndarray | bytes = b""
) -> Path:
    """Writes a header and, when there are data, `<name>.dat` with them as 16-bit samples."""
    header = folder / f"{name}.hea"
    header.write_text("\n".join([f"{name}{record_line}", *signal_lines]) + "\n")
    content = data if isinstance(data, bytes) else data.astype("<i2").tobytes()
    if content:
        (folder / f"{name}.dat").write_bytes(content)
    return header


def two_leads(folder: Path, n_samples: int = 600, name: str = "rec") -> tuple[Path, np.ndarray]:
    """II in millivolts and V1 in microvolts, with checksums; returns the header and the counts."""
    counts = np.random.default_rng(n_samples).integers(-900, 900, (n_samples, 2))
    sums = counts.sum(axis=0) % 65536
    lines = [
        f"{name}.dat 16 200(10)/mV 16 0 {counts[0, 0]} {sums[0]} 0 II",
        f"{name}.dat 16 0.5/uV 16 0 {counts[0, 1]} {sums[1]} 0 V1",
    ]
    return write(folder, name, f" 2 250 {n_samples}", lines, counts), counts


# --- samples ---------------------------------------------------------------------------------------


def test_units_become_millivolts(tmp_path: Path) -> None:
    header, counts = two_leads(tmp_path)
    source = opened(header)
    assert (source.header.leads, source.header.sampling_rate_hz, source.header.n_samples) == (("II", "V1"), 250.0, 600)
    expected = np.column_stack([(counts[:, 0] - 10) / 200, counts[:, 1] * 2 / 1000])
    np.testing.assert_allclose(everything(source), expected, atol=1e-6)
    assert source.read(5, 5).shape == (0, 2)
    with pytest.raises(ValueError, match="not within"):
        source.read(0, 601)


@pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("n_leads", [1, 2, 3])
def test_every_format_reads_as_wfdb_does_in_whatever_blocks(tmp_path: Path, fmt: str, n_leads: int) -> None:
    n_samples = 101
    bytes_a_sample = {"24": 3, "32": 4, "8": 1, "80": 1, "212": 1.5, "310": 4 / 3, "311": 4 / 3}.get(fmt, 2)
    n_bytes = int(np.ceil(n_samples * n_leads * bytes_a_sample - 1e-6))
    if fmt == "310":
        n_bytes += n_bytes % 2
    content = np.random.default_rng(3).bytes(n_bytes)
    lines = [f"rec.dat {fmt} 100(3)/mV 16 0" for _ in range(n_leads)]
    header = write(tmp_path, "rec", f" {n_leads} 250 {n_samples}", lines, content)
    source = opened(header)
    assert source.header.leads == ("ECG1", "ECG2", "ECG3")[:n_leads]
    whole = everything(source)
    np.testing.assert_allclose(whole, wfdb.rdrecord(str(tmp_path / "rec")).p_signal, rtol=1e-6)
    edges = [0, 1, 2, 5, 33, 34, 100, 101]
    blocks = [source.read(start, stop) for start, stop in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("fmt", ["516", "212"])
def test_what_wfdb_writes_passes_the_checks(tmp_path: Path, fmt: str) -> None:
    signal = np.random.default_rng(0).normal(size=(5000, 12))
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    wfdb.wrsamp(
        "strip", 500, ["mV"] * 12, names, signal, fmt=[fmt] * 12, write_dir=str(tmp_path),
        comments=["Age: 69  Sex: F"], base_datetime=datetime(2021, 3, 4, 5, 6, 7),
    )  # fmt: skip
    header = opened(tmp_path / "strip.hea").header
    assert (header.leads, header.sampling_rate_hz, header.duration_s) == (tuple(names), 500.0, 10.0)
    assert (header.sex, header.age_years) == ("female", 69)
    assert header.start_time == datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
    expected = wfdb.rdrecord(str(tmp_path / "strip"), sampfrom=777, sampto=1777).p_signal
    np.testing.assert_allclose(opened(tmp_path / "strip.hea").read(777, 1777), expected, atol=1e-4)


def test_skewed_leads_are_aligned(tmp_path: Path) -> None:
    n_samples, skews = 300, (0, 2, 5)
    stored = np.column_stack([np.arange(n_samples) - skew for skew in skews])  # sample i was stored `skew` later
    lines = [f"rec.dat 16:{skew} 1/mV 16 0 0 0 0 V{i + 1}" for i, skew in enumerate(skews)]
    source = opened(write(tmp_path, "rec", f" 3 250 {n_samples}", lines, stored))
    expected = np.column_stack([np.arange(float(n_samples))] * 3)
    expected[-2:, 1] = expected[-5:, 2] = NAN
    np.testing.assert_array_equal(everything(source), expected)
    np.testing.assert_array_equal(source.read(290, 298), expected[290:298])


def test_leads_with_different_samples_a_frame_are_averaged_to_the_base_frequency(tmp_path: Path) -> None:
    frames = np.column_stack([np.arange(200), 4 * np.arange(200), 4 * np.arange(200) + 2])
    frames[50, 2] = -32768  # an invalid sample
    lines = ["rec.dat 16 1/mV 16 0 0 0 0 II", "rec.dat 16x2 1/mV 16 0 0 0 0 V1"]
    source = opened(write(tmp_path, "rec", " 2 125 200", lines, frames))
    assert (source.header.sampling_rate_hz, source.header.n_samples) == (125.0, 200)
    expected = np.column_stack([np.arange(200.0), 4 * np.arange(200.0) + 1])
    expected[50, 1] = NAN
    np.testing.assert_array_equal(everything(source), expected)
    np.testing.assert_array_equal(source.read(49, 52), expected[49:52])


def test_ecg_with_the_same_samples_a_frame_keeps_its_rate(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(-100, 100, (100, 9))  # 4 of II, 4 of V, 1 of respiration
    lines = ["rec.dat 16x4 1/mV 16 0 0 0 0 II", "rec.dat 16x4 1/mV 16 0 0 0 0 V", "rec.dat 16 1/Ohm 16 0 0 0 0 RESP"]
    source = opened(write(tmp_path, "rec", " 3 62.5 100", lines, frames))
    assert (source.header.leads, source.header.sampling_rate_hz, source.header.n_samples) == (("II", "V"), 250.0, 400)
    expected = np.column_stack([frames[:, :4].ravel(), frames[:, 4:8].ravel()])
    np.testing.assert_array_equal(everything(source), expected)
    np.testing.assert_array_equal(source.read(7, 102), expected[7:102])


def test_length_from_the_file_when_the_header_has_none(tmp_path: Path) -> None:
    values = np.arange(666).reshape(333, 2)
    header = write(tmp_path, "rec", " 2 250", ["rec.dat 16 1/mV", "rec.dat 16 1/mV"], values)
    source = opened(header)
    assert source.header.n_samples == 333
    np.testing.assert_array_equal(source.read(100, 200), values[100:200])


# --- segments --------------------------------------------------------------------------------------


def check_blocks(source: SignalSource, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(everything(source), expected)
    edges = [0, 1, 99, 100, 101, 149, 151, 251, len(expected)]
    for start in edges:
        for stop in edges:
            if start <= stop <= len(expected):
                np.testing.assert_array_equal(source.read(start, stop), expected[start:stop])


def test_fixed_layout_with_a_gap(tmp_path: Path) -> None:
    values = np.arange(400.0).reshape(200, 2)
    lines = "{0}.dat 16 1/mV 16 0 0 0 0 II|{0}.dat 16 1/mV 16 0 0 0 0 V1"
    for name, part in (("a", values[:100]), ("b", values[100:])):
        write(tmp_path, name, " 2 250 100", lines.format(name).split("|"), part)
    header = write(tmp_path, "rec", "/3 2 250 250", ["a 100", "~ 50", "b 100"])
    refs, failures = find_sources([str(tmp_path)])
    assert ([ref.name for ref in refs], failures) == (["rec"], [])
    source = opened(header)
    assert (source.header.leads, source.header.n_samples) == (("II", "V1"), 250)
    check_blocks(source, np.concatenate([values[:100], np.full((50, 2), NAN), values[100:]]))


def test_variable_layout_where_leads_come_and_go(tmp_path: Path) -> None:
    def segment(name: str, n_samples: int, signals: list[str], count: int) -> None:
        lines = [f"{name}.dat 16 {gain} 16 0 0 0 0 {lead}" for gain, lead in (signal.split() for signal in signals)]
        write(tmp_path, name, f" {len(signals)} 250 {n_samples}", lines, np.full((n_samples, len(signals)), count))

    names = ("V1", "II", "ABP")
    write(tmp_path, "layout", " 3 250 0", [f"~ 0 1/mV 16 0 0 0 0 {name}" for name in names])
    segment("a", 100, ["1/mV II", "1/mmHg ABP"], 7)
    segment("b", 100, ["10/mV V1", "1/uV II"], 50)
    segment("c", 52, ["1/mmHg ABP"], 9)
    source = opened(write(tmp_path, "rec", "/5 3 250 302", ["layout 0", "a 100", "~ 50", "b 100", "c 52"]))
    assert source.header.leads == ("V1", "II")
    expected = np.full((302, 2), NAN, dtype=np.float32)
    expected[:100, 1] = 7
    expected[150:250] = [5, 0.05]
    check_blocks(source, expected)


# --- header and annotations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comment", "sex", "age_years"),
    [
        ("# 69 M 1085 1629 x1", "male", 69),
        ("# -1 M 1085 1629 x1", "male", None),
        ("#Age: 74\n#Sex: Female\n#Dx: 1", "female", 74),
        ("# <age>: 56  <sex>: M  <diagnoses>: x", "male", 56),
        ("# gender: f", "female", None),
        ("# Dosage 20 mg\n# sexagenarian", "unknown", None),
    ],
)
def test_sex_and_age_from_comments(tmp_path: Path, comment: str, sex: str, age_years: int | None) -> None:
    header, _ = two_leads(tmp_path)
    with header.open("a") as file:
        file.write(comment + "\n")
    found = opened(header).header
    assert (found.sex, found.age_years) == (sex, age_years)


def test_start_time_needs_a_date(tmp_path: Path) -> None:
    lines = ["rec.dat 16 1/mV"]
    dated = write(tmp_path, "rec", " 1 250 100 10:11:12 13/05/2001", lines, np.zeros(100))
    assert opened(dated).header.start_time == datetime(2001, 5, 13, 10, 11, 12, tzinfo=UTC)
    assert opened(write(tmp_path, "rec", " 1 250 100 10:11:12", lines)).header.start_time is None


def test_checksum_covers_every_file(tmp_path: Path) -> None:
    header, _ = two_leads(tmp_path)
    checksums = {opened(header).header.checksum}
    with header.open("a") as file:
        file.write("# 50 F\n")
    checksums.add(opened(header).header.checksum)
    wfdb.wrann("rec", "atr", np.array([10]), ["N"], write_dir=str(tmp_path))
    checksums.add(opened(header).header.checksum)
    wfdb.wrann("rec", "atr", np.array([10]), ["V"], write_dir=str(tmp_path))
    checksums.add(opened(header).header.checksum)
    assert len(checksums) == 4
    assert opened(header).header.patient_key == "rec"


def test_annotations_hold_beats_only(tmp_path: Path) -> None:
    header, _ = two_leads(tmp_path)
    assert opened(header).annotations() is None
    wfdb.wrann(
        "rec", "atr", np.array([5, 100, 200, 300, 400, 500]), ["+", "N", "V", "~", "/", "f"], write_dir=str(tmp_path),
        aux_note=["(N", "", "", "", "", "odd"],
    )  # fmt: skip
    beats = opened(header).annotations()
    assert beats is not None
    assert beats.symbol.tolist() == ["N", "V", "/", "f"]
    np.testing.assert_allclose(beats.time_s, [0.4, 0.8, 1.6, 2.0])


def test_annotations_may_have_their_own_clock(tmp_path: Path) -> None:
    header, _ = two_leads(tmp_path)
    clock = b"## time resolution: 1000"
    words_ = words(22 << 10, 63 << 10 | len(clock)) + clock + words(1 << 10 | 100, 5 << 10 | 900, 0)
    (tmp_path / "rec.atr").write_bytes(words_)
    beats = opened(header).annotations()
    assert beats is not None
    np.testing.assert_allclose(beats.time_s, [0.1, 1.0])


def test_rhythm_marks_alone_are_no_reference(tmp_path: Path) -> None:
    header, _ = two_leads(tmp_path)
    wfdb.wrann("rec", "atr", np.array([5]), ["+"], aux_note=["(AFIB"], write_dir=str(tmp_path))
    assert opened(header).annotations() is None


def words(*values: int) -> bytes:
    return np.array(values, dtype="<u2").tobytes()


def test_long_intervals_and_notes(tmp_path: Path) -> None:
    note = b"## remark!"
    path = tmp_path / "rec.atr"
    skip = words(59 << 10, 70_000 >> 16, 70_000 & 0xFFFF)
    path.write_bytes(words(22 << 10, 63 << 10 | len(note)) + note + skip + words(1 << 10 | 7, 5 << 10 | 100, 0))
    beats = read_beats(path, sampling_rate_hz=250.0, duration_s=400.0)
    assert (beats.time_s * 250).tolist() == [70_007, 70_107]
    assert beats.symbol.tolist() == ["N", "V"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds 0 bytes"),
        (b"\x01", "holds 1 bytes"),
        (words(1 << 10 | 7), "no end mark"),
        (words(59 << 10, 0), "no end mark"),
        (words(22 << 10, 63 << 10 | 200, 0), "no end mark"),
        (words(59 << 10, 10, 0, 1 << 10, 0), "a beat at 2621.4 s, but the recording ends at 2.4 s"),
        (words(59 << 10, 0xFFFF, 0, 1 << 10, 0), "before the recording's start"),
        (words(22 << 10, 63 << 10 | 22) + b"## time resolution: no" + words(0), "time resolution 'no'"),
    ],
)
def test_broken_annotations(tmp_path: Path, content: bytes, message: str) -> None:
    header, _ = two_leads(tmp_path)
    (tmp_path / "rec.atr").write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        opened(header).annotations()
    assert caught.value.subject.endswith("rec.atr")


# --- files that do not fit each other --------------------------------------------------------------


def replaced(old: str, new: str) -> Callable[[Path], object]:
    return lambda header: header.write_text(header.read_text().replace(old, new))


def resized(n_bytes: int) -> Callable[[Path], object]:
    def change(header: Path) -> None:
        data = header.with_suffix(".dat")
        data.write_bytes(data.read_bytes().ljust(n_bytes, b"\0")[:n_bytes])

    return change


@pytest.mark.parametrize(
    ("change", "subject", "message"),
    [
        (lambda header: header.with_suffix(".dat").unlink(), "rec.dat", "is missing; rec.hea names it"),
        (resized(0), "rec.dat", "is empty"),
        (resized(2399), "rec.dat", "is cut off: 2399 of the 2400 bytes"),
        (replaced(" 2 250 600", " 2 250 601"), "rec.dat", "is cut off"),
        (replaced(" 2 250 600", " 2 250 599"), "rec.hea", "signal II does not have the checksum"),
        (replaced(" 2 250 600", " 2 250 0"), "rec.hea", "says there are no samples"),
        (replaced(" 2 250 600", " 3 250 600"), "rec.hea", "says 3 signals but describes 2"),
        (replaced(" 2 250 600", " two 250 600"), "rec.hea", "is not a WFDB header"),
        (replaced(" 2 250 600", " 2 10 600"), "rec.hea", "10 Hz, not within"),
        (replaced("16 200", "99 200"), "rec.hea", "unknown signal format 99"),
        (replaced("16 200", "212 200"), "rec.hea", "differ in format"),
        (replaced("/mV", "/furlong"), "rec.hea", "lead II has unknown unit 'furlong'"),
        (replaced("/uV", "/\u00b5V"), "rec.hea", "line 3 has characters beyond ASCII"),
        (lambda header: header.write_bytes(b""), "rec.hea", "is not a WFDB header"),
        (lambda header: header.unlink(), "rec.hea", "No such file"),
    ],
)
def test_says_which_file_and_what(tmp_path: Path, change: Callable[[Path], object], subject: str, message: str) -> None:
    header, _ = two_leads(tmp_path)
    change(header)
    with pytest.raises(SourceError, match=message) as caught:
        opened(header)
    assert Path(caught.value.subject).name == subject
    assert caught.value.hint


def test_a_header_of_other_data_is_refused(tmp_path: Path) -> None:
    header, counts = two_leads(tmp_path)
    swapped = counts[:, ::-1]
    header.with_suffix(".dat").write_bytes(swapped.astype("<i2").tobytes())
    with pytest.raises(SourceError, match="signal II starts with"):
        opened(header)


def test_one_lead_too_few_in_the_header_without_checksums(tmp_path: Path) -> None:
    header = write(tmp_path, "rec", " 1 250 1000", ["rec.dat 16 1/mV"], np.zeros((1000, 2)))
    with pytest.raises(SourceError, match=r"has 2000 bytes more than rec\.hea describes"):
        opened(header)


def test_no_ecg_lead(tmp_path: Path) -> None:
    header = write(tmp_path, "rec", " 1 250 10", ["rec.dat 16 1/mmHg 16 0 0 0 0 ABP"], np.zeros(10))
    with pytest.raises(SourceError, match=r"no ECG lead; its signals are: ABP \[mmHg\]"):
        opened(header)


@pytest.mark.parametrize(
    ("record_line", "segments", "subject", "message"),
    [
        ("/2 2 250 1200", ["rec 600", "gone 600"], "gone.hea", "is missing; all.hea names it"),
        ("/2 2 250 1200", ["rec 600", "rec 500"], "all.hea", "2 segments of 1200 samples but lists 2 of 1100"),
        ("/3 2 250 600", ["rec 600"], "all.hea", "3 segments .* but lists 1"),
        ("/1 2 250 599", ["rec 599"], "rec.hea", "has 600 samples at 250 Hz, all.hea says 599"),
        ("/1 2 500 600", ["rec 600"], "rec.hea", "at 250 Hz, all.hea says 600 at 500 Hz"),
        ("/1 2 250 600", ["all 600"], "all.hea", "multi-segment and a segment itself"),
        ("/1 2 250 600", ["~ 600"], "all.hea", "no ECG lead"),
    ],
)
def test_segments_that_do_not_fit(
    tmp_path: Path, record_line: str, segments: list[str], subject: str, message: str
) -> None:
    two_leads(tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        opened(write(tmp_path, "all", record_line, segments))
    assert Path(caught.value.subject).name == subject


def test_a_file_that_shrinks_while_open(tmp_path: Path) -> None:
    header, _ = two_leads(tmp_path)
    source = opened(header)
    resized(1000)(header)
    with pytest.raises(SourceError, match="samples 0 to 600 cannot be read"):
        everything(source)
