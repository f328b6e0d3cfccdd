"""Seeded fake identifiers: a made-up person's name, birthday and numbers in every header, and nowhere after ingest."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from api_world import Clock, serving
from ecg_files import write_csv, write_edf, write_wfdb
from store_world import SPEC, add_model, read, scored
from warehouse_help import NOW, put_in

from configs.logging import configure_logging
from configs.settings import Settings
from warehouse.backup import back_up
from warehouse.erasure import Patient
from warehouse.patient_export import export_patient
from warehouse.signal.simulate import simulate_cohort
from warehouse.store import Stores
from warehouse.store.dumps import tool

pytestmark = pytest.mark.integration

#: Of nobody. Each is looked for as it is and as parts, in capitals or not.
IDENTIFIERS = ("Quillfeather", "Zacharias", "MRN-4471-0093", "1951-07-23", "23-JUL-1951", "23.07.1951", "Thistlewick",
               "SSN 078-05-1120", "ward-11/bed-4/0815", "+49 30 90182")  # fmt: skip


def hits(text: str) -> list[str]:
    return [one for one in IDENTIFIERS if one.casefold() in text.casefold()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EDF+, a WFDB record and a CSV file of the same person, and two that cannot be read."""
    folder = tmp_path_factory.mktemp("of-somebody")
    write_edf(
        folder / "a.edf", started=datetime(2026, 1, 5), PatientName="Zacharias Quillfeather",
        PatientCode="MRN-4471-0093", Birthdate=date(1951, 7, 23), Sex=1, PatientAdditional="SSN 078-05-1120",
        Admincode="ward-11/bed-4/0815", Technician="Thistlewick", RecordingAdditional="call +49 30 90182",
    )  # fmt: skip
    source = simulate_cohort(1, duration_s=60, sampling_rate_hz=250, seed=4)[0]
    comments = ["74 M", "Name: Zacharias Quillfeather", "DOB: 1951-07-23, 23.07.1951", "MRN-4471-0093 Dr Thistlewick"]
    write_wfdb(folder, "b", source.samples, source.header.leads, comments=comments)
    write_csv(folder / "c.csv", patient="ward-11/bed-4/0815 Quillfeather")
    whole = (folder / "a.edf").read_bytes()
    (folder / "broken.edf").write_bytes(whole[:300])
    (folder / "damaged.hea").write_text("damaged 1 abc 9\n# Zacharias Quillfeather MRN-4471-0093\n")
    return folder


@pytest.fixture
def logs() -> Iterator[StringIO]:
    """What is logged during the test."""
    with redirect_stderr(StringIO()) as lines:
        configure_logging("INFO")  # looks once where standard error is
    yield lines
    configure_logging("INFO")


def test_the_files_do_have_them(files: Path) -> None:
    text = "".join(path.read_bytes().decode("latin-1") for path in files.iterdir())
    assert len(hits(text.replace("_", " "))) >= 9


def test_nothing_of_them_is_anywhere(
    new_stores: Callable[[], Stores], ingest_settings: Settings, files: Path, tmp_path: Path,
    logs: StringIO, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stores = new_stores()
    report = put_in(stores, ingest_settings, files)
    assert (report.added, report.failed) == (3, 2)
    run = add_model(stores, 1)
    sets = stores.warehouse.window_sets(SPEC.digest)
    assert len(sets) == 3
    for window_set in sets:
        block = read(stores, window_set)
        stores.results.write_scores(run, 1, window_set, block, scored(np.linspace(1, 3, len(block))))
        stores.results.summarise(1, window_set, 80.0, gap_beats=1)
    anomaly = f"1-{block.window_id[-1]}"
    searched: dict[str, str] = {"ingest report": str(report.as_json())}
    paths = ["/recordings", "/recordings/1", "/recordings/2", "/recordings/3", "/anomalies", f"/anomalies/{anomaly}",
             "/exports/anomalies?format=csv", "/exports/reviews?format=csv", "/metrics", "/ui", "/ui/recordings/1",
             f"/ui/anomalies/{anomaly}", "/ui/recordings/1/report", "/models", "/health/ready",
             "/recordings/999"]  # fmt: skip
    with serving(stores, Clock(NOW)) as client:
        for path in paths:
            response = client.get(path)
            assert response.status_code in (200, 404), path
            searched[path] = response.text
        episode = client.get("/episodes").json()["items"][0]["id"]
        searched["fhir"] = client.get(f"/exports/episodes/{episode}/fhir").text
    settings = ingest_settings.model_copy(update={"data_dir": tmp_path / "data"})
    made = back_up(stores, settings, tmp_path / "backup", now=datetime.now(UTC))
    for kind in ("warehouse", "results"):  # as text: a compressed dump would hide them
        command = [tool("pg_restore"), "--file=-", str(made / f"{kind}.dump")]
        searched[f"dump of {kind}"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "COPY public.windows" in searched["dump of warehouse"]
    for path in (made / "manifest.json", made / "files.tar", made.parent / "erasures.jsonl"):
        searched[path.name] = path.read_bytes().decode("latin-1")
    for recording in stores.warehouse.recordings():
        folder = tmp_path / f"export{recording['recording_id']}"
        export_patient(stores, Patient("main", recording["pseudonym"]), folder)
        for path in folder.rglob("*"):
            if path.is_file():
                searched[str(path)] = path.read_bytes().decode("latin-1")
    printed = capfd.readouterr()
    searched["logs"] = (logs.getvalue() + printed.out + printed.err).replace(str(files), "")
    assert "request" in searched["logs"]
    assert {place: found for place, text in searched.items() if (found := hits(text))} == {}
