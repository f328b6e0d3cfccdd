"""`python -m warehouse.privacy export|erase|retain`: what is known of a patient; taking it out; how long it is kept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from configs import cli
from configs.errors import EXIT_DATA, ConfigurationError, NotFoundError
from configs.settings import Settings, load_settings
from warehouse.audit import command_act
from warehouse.erasure import Erased, Patient, erase_patient, erase_until, resolve
from warehouse.erasure_log import log_of
from warehouse.patient_export import export_patient
from warehouse.pseudonyms import key_of
from warehouse.store import Stores, open_stores

_VERBS = ("export", "erase", "retain")


def main(
    verb: Annotated[str, typer.Argument(help="export, erase or retain.")],
    patient: Annotated[
        str | None, typer.Argument(help="export, erase: pseudonym, or the patient's id as it is in the files.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="export: a new folder.")] = None,
    site: Annotated[str | None, typer.Option(help="The patient's hospital; default: the setting site.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="erase: do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="retain: only say what would go.")] = False,
    days: Annotated[int | None, typer.Option(min=1, help="retain: instead of privacy.retention_days.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was done here.")] = None,
) -> None:
    """Export or erase what is stored of a patient, or delete what is older than the policy keeps.

    - `python -m warehouse.privacy export PATIENT --to FOLDER` writes all of it: tables as CSV, the signal as WFDB.

    - `python -m warehouse.privacy erase PATIENT` takes it out of both databases and of the platform's own files:
      windows, signal, scores, episodes, reviews, dead letters, posted files, copies for training, warm-up requests.
      Models that were trained on it are listed, and marked to be trained again. Then every table is asked whether
      anything is left. Run again, it asks again.

    - `python -m warehouse.privacy retain` deletes recordings that ended more than privacy.retention_days ago; months
      that nothing else needs are dropped whole. For a timer: it is safe to run at any time.

    Files that you ingested from, exports, and backups are yours to delete; docs/security.md says more.

    Exit codes: 0 done, 2 wrong options, 3 no such patient, or something is left, 5 a database is not available.
    """
    if verb not in _VERBS:
        raise ConfigurationError(verb, "is not known here", f"One of {', '.join(_VERBS)}.")
    if (patient is None) != (verb == "retain"):
        raise ConfigurationError("PATIENT", "is missing" if patient is None else "is not for retain", "See --help.")
    settings = load_settings(profile, {"site": site, "privacy": {"retention_days": days}})
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if verb == "retain":
            _retain(stores, settings, json_file, dry_run=dry_run)
            return
        assert patient is not None
        key = key_of(settings.pseudonym_key, settings.data_dir)
        meant = resolve(stores, key, settings.site, patient)
        if verb == "export":
            _export(stores, meant, to, json_file)
            return
        _confirm(stores, meant, yes=yes)
        erased = erase_patient(stores, settings.data_dir, key, meant, log=log_of(settings))
    _tell(erased, json_file)


def _export(stores: Stores, patient: Patient, to: Path | None, json_file: Path | None) -> None:
    if to is None:
        raise ConfigurationError("--to", "is missing", "Name a folder that is new.")
    _known(stores, patient)
    counts = export_patient(stores, patient, to)
    stores.results.add_acts([command_act("export_patient", patient.digest, site=patient.site)])
    cli.write_json(json_file, counts)
    cli.note(f"{sum(counts.values())} rows and samples of patient {patient.pseudonym} are in {to}")


def _confirm(stores: Stores, patient: Patient, *, yes: bool) -> None:
    n = len(stores.warehouse.traces_of(patient.site, patient.pseudonym).recording_ids)
    if n == 0 and not stores.results.erasures(subject=patient.digest):
        _known(stores, patient)
    if not yes and not typer.confirm(f"Erase patient {patient.pseudonym} with {n} recordings for good?", err=True):
        raise typer.Exit(0)


def _known(stores: Stores, patient: Patient) -> None:
    if stores.warehouse.patient(patient.site, patient.pseudonym) is None:
        raise NotFoundError(
            f"patient {patient.pseudonym} at {patient.site}",
            "is not in the warehouse",
            "Check the id, the site, and that the pseudonym key is the one it was ingested with.",
        )


def _retain(stores: Stores, settings: Settings, json_file: Path | None, *, dry_run: bool) -> None:
    kept_days = settings.privacy.retention_days
    if not kept_days:
        cli.note("privacy.retention_days is 0: everything is kept.")
        return
    moment = datetime.now(UTC) - timedelta(days=kept_days)
    if dry_run:
        traces = stores.warehouse.traces_until(moment)
        months = stores.warehouse.droppable_months(traces, moment)
        cli.write_json(json_file, {"recordings": list(traces.recording_ids), "partitions": months})
        cli.note(f"Would delete {len(traces.recording_ids)} recordings that ended before {moment:%Y-%m-%d %H:%M} UTC,")
        cli.note(f"and drop {len(months)} partitions whole{': ' + ', '.join(months) if months else ''}.")
        return
    _tell(erase_until(stores, settings.data_dir, moment), json_file)


def _tell(erased: Erased, json_file: Path | None) -> None:
    cli.write_json(json_file, erased.as_json())
    table = Table("Deleted from", "Rows or files", title=f"{erased.recordings} recordings")
    for name, n in erased.deleted.items():
        if n:
            table.add_row(name, str(n))
    cli.show(table)
    if erased.models:
        listed = ", ".join(map(str, erased.models))
        cli.note(f"Trained on it: model version {listed}. Next: python -m pipelines.train makes one without it.")
    if erased.left:
        left = ", ".join(f"{place} ({n})" for place, n in erased.left.items())
        cli.fail(f"something is left: {left}. Run again when nothing is scored or ingested.", EXIT_DATA)
    cli.note(f"Proof: {len(erased.checked)} tables, columns and places asked; 0 rows or files are left.")


if __name__ == "__main__":
    cli.run(main)
