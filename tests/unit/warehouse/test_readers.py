"""Discovery, UCR text, names and units; and that no bytes whatever raise anything but SourceError."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import SourceError
from warehouse.signal.ecg import AAMI_OF_SYMBOL, AamiClass
from warehouse.signal.readers import SourceRef, find_sources, open_source, read_ucr
from warehouse.signal.readers.leads import choose_leads, is_ecg_name, is_other_name, lead_names, mv_per_unit

pytestmark = pytest.mark.unit
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def names(refs: list[SourceRef]) -> list[str]:
    return [f"{ref.format}:{ref.name}" for ref in refs]


def write_folder(folder: Path) -> None:
    for name in ("10.hea", "9.hea", "9.dat", "9.atr", "long.hea", "long_0001.hea", "deep/strip.edf", "table.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "long.hea").write_text("# comment\nlong/2 1 250 2000\nlong_0001 1000\n~ 1000\n")
    (folder / "beats.txt").write_text("1 " + "0.5 " * 10)
    for name in ("SHA256SUMS.txt", "RECORDS", "README.md", "README.txt", "LICENSE.txt", "patients.csv", "photo.png"):
        (folder / name).write_text("1 2 3 4 5 6 7 8 9")


# --- discovery -------------------------------------------------------------------------------------


def test_folder_gives_recordings_in_natural_order_without_bystanders_and_segments(tmp_path: Path) -> None:
    write_folder(tmp_path)
    refs, failures = find_sources([str(tmp_path)])
    assert failures == []
    assert names(refs) == ["wfdb:9", "wfdb:10", "ucr:beats", "edf:strip", "wfdb:long", "csv:table"]
    assert pickle.loads(pickle.dumps(refs)) == refs


def test_file_record_name_and_glob_name_the_same_file_once(tmp_path: Path) -> None:
    write_folder(tmp_path)
    refs, failures = find_sources([str(tmp_path / name) for name in ("9", "9.hea", "deep/../9.hea", "*.hea")])
    assert (names(refs), failures) == (["wfdb:9", "wfdb:10", "wfdb:long"], [])


def test_a_segment_alone_is_a_recording(tmp_path: Path) -> None:
    write_folder(tmp_path)
    refs, _ = find_sources([str(tmp_path / "long_0001.hea")])
    assert names(refs) == ["wfdb:long_0001"]


def test_damaged_records_that_name_each_other_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.hea").write_text("a/2 1 250 20\na 10\nb 10\n")
    (tmp_path / "b.hea").write_text("b/1 1 250 10\na 10\n")
    assert names(find_sources([str(tmp_path)])[0]) == ["wfdb:a", "wfdb:b"]


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    bad = [str(tmp_path / name) for name in ("nowhere", "empty", "*.nothing", "photo.png", "9.dat")] + ["", "a\0b"]
    refs, failures = find_sources([*bad, str(tmp_path / "10")])
    assert names(refs) == ["wfdb:10"]
    assert [failure.subject for failure in failures] == [*bad[:5], "''", "a\0b"]
    problems = [failure.problem for failure in failures]
    assert problems[:3] == ["does not exist", "holds no ECG file", "holds no ECG file"]
    assert "'.png'" in problems[3]
    assert "9.hea" in failures[4].hint
    assert all(failure.hint for failure in failures)


def test_text_is_told_apart_by_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "ucr.csv").write_text(",".join(["1"] * 12) + "\n")
    (tmp_path / "leads.csv").write_text("II_mV,V1_mV\n0,0\n")
    (tmp_path / "two.csv").write_text("0.1,0.2\n")
    (tmp_path / "set.tsv").write_text("\t".join(["1"] * 12) + "\n")
    refs, _ = find_sources([str(tmp_path)])
    assert names(refs) == ["csv:leads", "ucr:set", "csv:two", "ucr:ucr"]


# --- UCR -------------------------------------------------------------------------------------------


def ucr(path: Path, text: str) -> SourceRef:
    path.write_text(text)
    return SourceRef("ucr", path, path.stem)


@pytest.mark.parametrize("delimiter", ["  ", ",", "\t", ", "])
def test_ucr_windows_labels_and_nominal_rate(tmp_path: Path, delimiter: str) -> None:
    rows = [["1.0000000e+00", *"12345678"], ["2", *"23456789"], ["-1", *"00000000"]]
    source = read_ucr(ucr(tmp_path / "Beats_TRAIN.txt", "\n".join(delimiter.join(row) for row in rows) + "\n\n"))
    assert source.samples.shape == (3, 8, 1)
    assert source.samples.dtype == np.float32
    assert source.samples[1, :, 0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert source.label.tolist() == ["1", "2", "-1"]
    assert source.aami_class.tolist() == [AamiClass.NORMAL, AamiClass.UNKNOWN_BEAT, AamiClass.UNKNOWN_BEAT]
    header = source.header
    assert (header.source_format, header.leads, header.n_samples, header.duration_s) == ("ucr", ("ECG",), 24, 3.0)
    assert header.patient_key == "Beats"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no window"),
        ("1 2 3\n", "fewer than 8"),
        ("1 " + "0 " * 8 + "\n1 " + "0 " * 7, "line 2 has 8 values, the lines before 9"),
        ("1 " + "0 " * 8 + "\n1 " + "0 " * 7 + "x", "line 2, value 9: 'x' is not a number"),
        ("nan " + "0 " * 8, "window 1 has no class"),
    ],
)
def test_ucr_says_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        read_ucr(ucr(tmp_path / "bad.txt", text))


# --- names and units -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MLII", "II", "avf", "-aVR", "V5", "mod.V1", "ECG", "ecg_chest", "EKG2", "CM5", "vx"])
def test_ecg_names(name: str) -> None:
    assert is_ecg_name(name)
    assert not is_other_name(name)


@pytest.mark.parametrize("name", ["RESP", "Resp (nasal)", "ABP", "PLETH R", "EEG C4-A1", "C3-M2", "EOG(L)", "acc_x"])
def test_names_of_other_signals(name: str) -> None:
    assert is_other_name(name)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("mV", 1), ("uV", 1e-3), ("\u00b5V", 1e-3), ("\u03bcV", 1e-3), (" V ", 1e3), ("nV", 1e-6), ("Pa", None)],
)
def test_units(unit: str, scale: float | None) -> None:
    assert mv_per_unit(unit) == scale


def test_lead_names_are_short_and_unique() -> None:
    assert lead_names(["II", "ECG II", "II", None, "EKG", "chest"]) == ["II", "II_2", "II_3", "ECG4", "EKG", "chest"]


def test_leads_are_what_is_in_volts_and_nothing_else() -> None:
    signals, units = ["ABP", "II", "Left", "RESP", "EEG"], ["mmHg", "uV", "mV", "mV", "uV"]
    assert [(lead.index, lead.name) for lead in choose_leads(signals, units, subject="f")] == [(1, "II"), (2, "Left")]
    assert [lead.name for lead in choose_leads(signals, units, subject="f", only_named_ecg=True)] == ["II"]
    with pytest.raises(SourceError, match="lead V1 has unknown unit 'counts'"):
        choose_leads(["II", "V1"], ["mV", "counts"], subject="f")


# --- whatever the bytes ----------------------------------------------------------------------------

header_like = st.text(alphabet="0123456789 /.~x:+()-#\nmVudat\t", max_size=200).map(str.encode)


def read_all(path: Path, source_format: str) -> None:
    ref = SourceRef(source_format, path, path.stem)
    if source_format == "ucr":
        read_ucr(ref)
        return
    source = open_source(ref)
    source.read(0, min(source.header.n_samples, 10_000))
    source.annotations()


def never_surprises(path: Path, source_format: str) -> None:
    """Reads the file, or raises nothing but a SourceError of one line."""
    try:
        read_all(path, source_format)
    except SourceError as error:
        line = str(error)
    else:
        line = "read"
    assert line.isprintable()


@fuzz
@given(content=st.binary(max_size=300) | header_like, data=st.binary(max_size=60))
def test_any_bytes_as_wfdb_header(tmp_path: Path, content: bytes, data: bytes) -> None:
    (tmp_path / "a.hea").write_bytes(content)
    (tmp_path / "a.dat").write_bytes(data)
    never_surprises(tmp_path / "a.hea", "wfdb")


@fuzz
@given(
    signal=st.from_regex(
        r"a\.dat (8|16|24|61|80|160|212|310|311|508|77)(x[0-3])?(:\d)?(\+\d)? [0-9.e-]{1,4}/mV( -?\d{1,3}){0,4}",
        fullmatch=True,
    ),
    line=st.from_regex(r"a(/[0-2])? [0-3] (\d{1,4}|1e9|) ?\d{0,3}", fullmatch=True),
    data=st.binary(max_size=90),
    beats=st.binary(max_size=40),
)
def test_any_wfdb_record(tmp_path: Path, line: str, signal: str, data: bytes, beats: bytes) -> None:
    (tmp_path / "a.hea").write_text(f"{line}\n{signal}\n")
    (tmp_path / "a.dat").write_bytes(data)
    (tmp_path / "a.atr").write_bytes(beats)
    never_surprises(tmp_path / "a.hea", "wfdb")


csv_like = st.text(alphabet="0123456789.,;-# \n\r\t\"'eENnaVmu_:tis", max_size=200).map(str.encode)


@fuzz
@given(head=st.sampled_from([b"", b"# sampling_rate_hz: 250\nII_mV,V1_mV\n"]), rows=st.binary(max_size=200) | csv_like)
def test_any_bytes_as_csv(tmp_path: Path, head: bytes, rows: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(head + rows)
    find_sources([str(tmp_path)])
    never_surprises(tmp_path / "a.csv", "csv")


@fuzz
@given(head=st.sampled_from([b"time_s,II_mV\n", b"timestamp,II_mV\n"]), rows=csv_like)
def test_any_bytes_behind_a_time_column(tmp_path: Path, head: bytes, rows: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(head + rows)
    never_surprises(tmp_path / "a.csv", "csv")


@fuzz
@given(content=st.binary(max_size=300) | csv_like)
def test_any_bytes_as_ucr(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    never_surprises(tmp_path / "a.txt", "ucr")


@fuzz
@given(content=st.binary(max_size=400) | st.binary(min_size=600, max_size=600).map(lambda rest: b"0       " + rest))
def test_any_bytes_as_edf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.edf").write_bytes(content)
    never_surprises(tmp_path / "a.edf", "edf")


# --- real recordings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mitdb() -> Path:
    if not (folder := os.environ.get("ECG_MITDB_DIR")):
        pytest.skip("needs ECG_MITDB_DIR, a folder with the MIT-BIH Arrhythmia Database")
    return Path(folder)


@pytest.mark.integration
def test_mitdb_samples_and_beats_are_wfdbs(mitdb: Path) -> None:
    refs, failures = find_sources([str(mitdb)])
    assert failures == []
    beats, patients = {}, set()
    for ref in refs:
        source = open_source(ref)
        record = wfdb.rdrecord(str(ref.path.with_suffix("")), sampto=20_000)
        np.testing.assert_allclose(source.read(0, 20_000), record.p_signal, atol=1e-4)
        reference = wfdb.rdann(str(ref.path.with_suffix("")), "atr")
        expected = [(n, s) for n, s in zip(reference.sample, reference.symbol, strict=True) if s in AAMI_OF_SYMBOL]
        found = source.annotations()
        assert found is not None
        assert found.symbol.tolist() == [symbol for _, symbol in expected]
        np.testing.assert_allclose(found.time_s * 360, [sample for sample, _ in expected], atol=1e-6)
        beats[ref.name] = len(found.time_s)
        patients.add(source.header.patient_key)
    if len(refs) == 48:
        assert sum(beats.values()) == 109_494
        assert len(patients) == 47
    assert beats.get("100", 2273) == 2273


@pytest.mark.integration
def test_mitdb_header(mitdb: Path) -> None:
    header = open_source(find_sources([str(mitdb / "100")])[0][0]).header
    assert (header.leads, header.sampling_rate_hz, header.n_samples) == (("MLII", "V5"), 360.0, 650_000)
    assert (header.sex, header.age_years, header.start_time) == ("male", 69, None)
