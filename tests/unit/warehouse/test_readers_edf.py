"""EDF and EDF+: leads, rates, the patient's data that is kept and that is not, and damaged files."""

from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyedflib
import pytest

from configs.errors import SourceError
from warehouse.signal.ecg import SignalSource
from warehouse.signal.readers import SourceRef, open_source

pytestmark = pytest.mark.unit
SECONDS = 20
STARTED = datetime(2020, 5, 31, 1, 2, 3)


def tone(rate_hz: int, frequency_hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(SECONDS * rate_hz) / rate_hz)


def write(path: Path, signals: list[tuple[str, str, int, np.ndarray]], *, plus: bool = True, **patient: Any) -> Path:
    """Writes (label, unit, rate, samples) signals, 16 bits over +-10 units of the largest."""
    file_type = pyedflib.FILETYPE_EDFPLUS if plus else pyedflib.FILETYPE_EDF
    with pyedflib.EdfWriter(str(path), len(signals), file_type=file_type) as writer:
        for channel, (label, unit, rate_hz, samples) in enumerate(signals):
            limit = float(np.ceil(10 * np.abs(samples).max())) or 1.0
            header = {"label": label, "dimension": unit, "sample_frequency": rate_hz, "prefilter": "", "transducer": ""}
            limits = {"physical_max": limit, "physical_min": -limit, "digital_max": 32767, "digital_min": -32768}
            writer.setSignalHeader(channel, header | limits)
        writer.setStartdatetime(patient.pop("started", STARTED))
        for key, value in patient.items():
            getattr(writer, f"set{key}")(value)
        writer.writeSamples([samples for _, _, _, samples in signals])
    return path


def opened(path: Path) -> SignalSource:
    return open_source(SourceRef("edf", path, path.stem))


@pytest.fixture
def holter(tmp_path: Path) -> Path:
    signals = [
        ("Resp", "mV", 25, tone(25, 0.3)),
        ("ECG II", "uV", 250, 1000 * tone(250, 5)),
        ("EKG V1", "mV", 125, tone(125, 5)),
        ("SpO2", "%", 1, tone(1, 0.1)),
    ]
    born = date(1950, 6, 1)
    patient = {"PatientCode": "P1", "PatientName": "Jane_Doe", "Sex": 0, "Birthdate": born, "Equipment": "Holter_X"}
    return write(tmp_path / "holter.edf", signals, **patient)


def test_leads_in_millivolts_at_the_highest_rate(holter: Path) -> None:
    source = opened(holter)
    assert (source.header.leads, source.header.sampling_rate_hz) == (("II", "V1"), 250.0)
    assert source.header.n_samples == SECONDS * 250
    samples = source.read(0, source.header.n_samples)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples[:, 0], tone(250, 5), atol=1e-3)
    np.testing.assert_allclose(samples[50:-50, 1], tone(250, 5)[50:-50], atol=5e-3)  # resampled from 125 Hz


@pytest.mark.parametrize("slow_hz", [125, 200, 100, 249])
def test_blocks_are_the_whole(tmp_path: Path, slow_hz: int) -> None:
    rng = np.random.default_rng(1)
    noise = [(f"ECG {rate_hz}", "mV", rate_hz, rng.normal(size=SECONDS * rate_hz)) for rate_hz in (250, slow_hz)]
    source = opened(write(tmp_path / "a.edf", noise))
    n_samples = source.header.n_samples
    whole = source.read(0, n_samples)
    edges = [0, 1, 2, 333, 334, 1500, 2777, n_samples - 1, n_samples]
    blocks = [source.read(start, stop) for start, stop in pairwise(edges)]
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_patient_is_only_a_key(holter: Path) -> None:
    header = opened(holter).header
    assert header.patient_key == "P1"
    assert (header.sex, header.age_years) == ("female", 69)  # the day before the 70th birthday
    assert header.start_time == STARTED.replace(tzinfo=UTC)
    assert header.device == "Holter X"
    assert not any("Jane" in str(value) or "1950" in str(value) for value in vars(header).values())


def test_name_or_plain_field_where_there_is_no_code(tmp_path: Path) -> None:
    signals = [("ECG", "mV", 250, tone(250, 5))]
    assert opened(write(tmp_path / "a.edf", signals, PatientName="Doe")).header.patient_key == "Doe"
    assert opened(write(tmp_path / "b.edf", signals)).header.patient_key == "b"
    content = (tmp_path / "b.edf").read_bytes()
    plain = content[:8] + b"no 12 of 40".ljust(80) + content[88:192] + b" " * 44 + content[236:]
    (tmp_path / "c.edf").write_bytes(plain)
    assert opened(tmp_path / "c.edf").header.patient_key == "no 12 of 40"


def test_a_start_that_was_taken_out_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.edf", [("ECG", "mV", 250, tone(250, 5))], started=datetime(1985, 1, 1))
    header = opened(path).header
    assert (header.start_time, header.age_years, header.sex, header.device) == (None, None, "unknown", "")


def test_without_ecg_labels_all_volts_that_are_not_something_else(tmp_path: Path) -> None:
    signals = [("Ch 1", "mV", 250, tone(250, 5)), ("EEG C3", "uV", 250, tone(250, 5)), ("Ch 2", "V", 250, tone(250, 5))]
    source = opened(write(tmp_path / "a.edf", signals))
    assert source.header.leads == ("Ch 1", "Ch 2")
    np.testing.assert_allclose(source.read(0, 1000)[:, 1], 1000 * tone(250, 5)[:1000], atol=1)


def test_one_file_read_by_two_sources_at_once(holter: Path) -> None:
    first, second = opened(holter), opened(holter)
    np.testing.assert_array_equal(first.read(10, 20), second.read(10, 20))


def damaged(path: Path, change: Any) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "is empty"),
        (lambda content: content[:-100], "is cut off: .* bytes, but its header describes"),
        (lambda content: content[:300], "not an EDF file|is cut off"),
        (lambda content: content + b"\0" * 10, "is too long"),
        (lambda content: b"x" * len(content), "does not start with an EDF header"),
        (lambda content: content.replace(b"EDF+C", b"EDF+D"), r"discontinuous \(EDF\+D\)"),
        (lambda content: content[:168] + b"31-05-20" + content[176:], "not a valid EDF file"),
        (lambda content: content[:236] + b"many    " + content[244:], "not an EDF file"),
        (lambda content: content.replace(b"uV      ", b"furlong "), "lead II has unknown unit 'furlong'"),
    ],
)
def test_damaged_files(holter: Path, capfd: pytest.CaptureFixture[str], change: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        opened(damaged(holter, change))
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_no_ecg_and_no_rate_of_an_ecg(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no ECG lead; its signals are: Resp"):
        opened(write(tmp_path / "a.edf", [("Resp", "mV", 250, tone(250, 5))]))
    with pytest.raises(SourceError, match="25 Hz, not within"):
        opened(write(tmp_path / "b.edf", [("ECG", "mV", 25, tone(25, 5))]))
