"""Takes recordings out of everything the platform keeps, and proves it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from warehouse import patient_files
from warehouse.audit import command_act
from warehouse.erasure_log import LOG_FILE, Noted, note
from warehouse.pseudonyms import pseudonym
from warehouse.store import Stores
from warehouse.store.erasure_queries import Traces, subject_digest


@dataclass
class Erased:
    """What an erasure did, and what is left: `left` must be empty.

    Attributes:
        deleted: rows by table, and files.
        models: versions that were trained on it.
        checked: tables, columns and places that were searched afterwards.
        left: of these, those that still have something, and how much.
    """

    recordings: int = 0
    deleted: dict[str, int] = field(default_factory=dict)
    models: list[int] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return vars(self)


@dataclass(frozen=True)
class Patient:
    """Whose data are meant."""

    site: str
    pseudonym: str

    @property
    def digest(self) -> str:
        return subject_digest(self.site, self.pseudonym)


def resolve(stores: Stores, key: bytes, site: str, given: str) -> Patient:
    """The patient that somebody names, by pseudonym or by the id that is in the patient's files."""
    if stores.warehouse.patient(site, given) is not None or stores.results.erasures(
        subject=subject_digest(site, given)
    ):
        return Patient(site, given)
    return Patient(site, pseudonym(key, given))


def erase_patient(stores: Stores, data_dir: Path, key: bytes, patient: Patient, *, log: Path | None = None) -> Erased:
    """Takes out a patient's recordings and all that came of them; run again, it searches again, and finishes.

    Args:
        log: where it is noted, for restores; `data_dir/erasures.jsonl` when None.
    """
    found = _Eraser(stores, data_dir, log)
    uploads = patient_files.uploads_of(data_dir, key, patient.pseudonym)
    for row in stores.warehouse.unfinished_uploads():  # or the service would go on with files that are gone
        if data_dir / "uploads" / row["upload_id"] in uploads:
            problem = "Its patient was erased"
            stores.warehouse.update_upload(row["upload_id"], {"status": "failed", "problem": problem, "files": []})
    found.remove("files: posted, not ingested", uploads)
    traces = stores.warehouse.traces_of(patient.site, patient.pseudonym)
    earlier = stores.results.erasures(subject=patient.digest)
    traces = _joined([traces, *(Traces(tuple(e["recording_ids"]), tuple(e["window_set_ids"])) for e in earlier)])
    found.erase(patient.digest, "erasure", traces, retrain=True)
    found.add({"patients": stores.warehouse.delete_patient(patient.site, patient.pseudonym)})
    stores.results.forget_pseudonym(patient.pseudonym)
    found.prove(traces, patient)
    found.note_left("files: posted, not ingested", len(patient_files.uploads_of(data_dir, key, patient.pseudonym)))
    return found.report


def erase_again(stores: Stores, data_dir: Path, key: bytes, noted: Iterable[Noted], *, log: Path) -> list[Erased]:
    """Takes out whom a restored backup has brought back: erased, by the log, in an erasure that the backup has not."""
    finished = {Noted.of_row(row) for row in stores.results.erasures() if row["finished_at"] is not None}
    wanted = {one.subject for one in noted if one not in finished}
    back = [one for one in map(_as_patient, stores.warehouse.patients()) if one.digest in wanted]
    return [erase_patient(stores, data_dir, key, patient, log=log) for patient in back]


def _as_patient(row: Mapping[str, Any]) -> Patient:
    return Patient(row["site"], row["pseudonym"])


def erase_until(stores: Stores, data_dir: Path, moment: datetime) -> Erased:
    """Takes out all recordings that ended before a moment; whole months by dropping their partitions."""
    found = _Eraser(stores, data_dir)
    traces = stores.warehouse.traces_until(moment)
    if traces.recording_ids:
        found.erase("", "retention", traces, retrain=False, months_before=moment)
    found.add(stores.warehouse.delete_old_notes(moment))
    found.add({"patients": stores.warehouse.delete_patients_without_recordings()})
    found.prove(traces, None)
    return found.report


class _Eraser:
    def __init__(self, stores: Stores, data_dir: Path, log: Path | None = None) -> None:
        self._stores = stores
        self._data_dir = data_dir
        self._log = log or data_dir / LOG_FILE
        self._models: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self.report = Erased()

    def add(self, deleted: Mapping[str, int]) -> None:
        for name, n in deleted.items():
            self.report.deleted[name] = self.report.deleted.get(name, 0) + n

    def remove(self, what: str, paths: Collection[Path]) -> None:
        self.add({what: patient_files.remove(paths)})

    def erase(
        self, subject: str, reason: str, traces: Traces, *, retrain: bool, months_before: datetime | None = None
    ) -> None:
        """Results first: as long as the warehouse knows the recordings, a run that stops half way goes on."""
        warehouse, results = self._stores.warehouse, self._stores.results
        stopped = results.erasures(subject=subject, unfinished=True)
        number = int(stopped[0]["erasure_id"]) if stopped else results.start_erasure(subject, reason, traces)
        if reason == "erasure":  # before anything is gone: a restored backup must not bring it back
            begun = next(row for row in results.erasures(subject=subject) if row["erasure_id"] == number)
            note(self._log, [Noted.of_row(begun)])
        names = sorted(set(warehouse.names_of(traces.recording_ids).values()))
        spans = warehouse.spans_with(traces)
        self._models = results.trained_on(spans)
        self.report.recordings = len(traces.recording_ids)
        self.report.models = [model["model_version"] for model in self._models]
        if retrain:
            results.mark_for_retraining(spans)
        self.add(results.delete_results(traces))
        self.add(warehouse.delete_recordings(traces, names=names, months_before=months_before))
        self.add(results.delete_results(traces))  # what a scorer that had read them before wrote meanwhile
        self._names = set(names) - set(warehouse.names_in_use(names))
        self._forget_in_cards()
        if spans:
            self.remove("files: copies for training", patient_files.training_copies(self._data_dir))
            self.remove("files: warm-up requests", patient_files.warmups(self._data_dir, self._models))
        act = command_act(reason if reason == "retention" else "erase", subject or "recordings",
                          f"{self.report.recordings} recordings, models {self.report.models}")  # fmt: skip
        results.finish_erasure(number, self.report.deleted, act)

    def _forget_in_cards(self) -> None:
        for model in self._models:
            card = patient_files.without_recordings(model["card"], self._names)
            if card != model["card"]:
                self._stores.results.replace_card(model["model_version"], card)
                patient_files.rewrite_card(self._data_dir, model, card)

    def prove(self, traces: Traces, patient: Patient | None) -> None:
        """Asks every table of both databases, and looks for every file."""
        for database, count in (("warehouse", self._stores.warehouse), ("results", self._stores.results)):
            self._note_all(database, count.count_traces(traces))
            if patient is not None:
                self._note_all(database, count.count_mentions(patient.pseudonym))
        self.note_left("warehouse: names in data spans", self._stores.warehouse.named_in_spans(traces))
        if self._models:
            self.note_left("files: copies for training", len(patient_files.training_copies(self._data_dir)))
            self.note_left("files: warm-up requests", len(patient_files.warmups(self._data_dir, self._models)))
            cards = patient_files.cards_naming(self._data_dir, self._models, self._names)
            self.note_left("files: names in model cards", len(cards))

    def _note_all(self, database: str, counts: Mapping[str, int]) -> None:
        for name, n in counts.items():
            self.note_left(f"{database}: {name}", n)

    def note_left(self, place: str, n: int) -> None:
        self.report.checked.append(place)
        if n:
            self.report.left[place] = n


def _joined(all_traces: Sequence[Traces]) -> Traces:
    recordings = {number for traces in all_traces for number in traces.recording_ids}
    sets = {number for traces in all_traces for number in traces.window_set_ids}
    return Traces(tuple(sorted(recordings)), tuple(sorted(sets)))
