"""`python -m warehouse.audit verify|list`: who read which strip, who administered what, and that nobody changed it."""

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from configs import cli
from configs.errors import EXIT_DATA, ConfigurationError
from configs.settings import load_settings
from warehouse.store import open_stores
from warehouse.store.audit_queries import FIRST_PREVIOUS, Act, ChainHead, row_hash

_VERBS = ("verify", "list")


@dataclass(frozen=True)
class Verified:
    """What a check of the chain found.

    Attributes:
        rows: that were checked.
        head: the last of them; None in an empty log.
        faults: a line each; none: nothing was changed, left out or put in.
    """

    rows: int
    head: ChainHead | None
    faults: tuple[str, ...]


def main(
    verb: Annotated[str, typer.Argument(help="verify or list.")],
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="verify: NUMBER:HASH that an earlier verify printed; must still be there. May be repeated."),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="list: only of this person, program or key.")] = None,
    action: Annotated[str | None, typer.Option(help="list: only this action, such as read or key_add.")] = None,
    subject: Annotated[str | None, typer.Option(help="list: only of this, such as /recordings/5/signal.")] = None,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="list: how many rows, the newest.")] = 50,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Check or list the audit log: every read of a strip, and every admin act.

    Each row carries the sha256 of the row before it, which the database computes; `verify` computes all of them anew.
    It prints the last row's number and hash: keep that line somewhere else, and give it as --anchor later, and even
    somebody with all rights on the database cannot have rewritten or cut off what came before.

    Exit codes: 0 done, 2 wrong options, 3 the log was tampered with, 5 the database is not available.
    """
    if verb not in _VERBS:
        raise ConfigurationError(verb, "is not known here", f"One of {', '.join(_VERBS)}.")
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if verb == "list":
            wanted = {"actor": actor, "action": action, "subject": subject}
            equal = {name: value for name, value in wanted.items() if value is not None}
            _list(stores.results.acts(limit=last, newest=True, equal=equal), json_file)
            return
        found = verify(stores.results.all_acts(), [_anchor(text) for text in anchor or ()])
    cli.write_json(
        json_file, {"rows": found.rows, "head": str(found.head) if found.head else None, "faults": found.faults}
    )
    if found.faults:
        cli.fail("the audit log was tampered with:\n  " + "\n  ".join(found.faults), EXIT_DATA)
    cli.note(f"{found.rows} rows, each of which follows from the one before.")
    if found.head is not None:
        cli.note("Keep this elsewhere, for --anchor:")
        typer.echo(str(found.head))


def verify(rows: Iterable[Mapping[str, Any]], anchors: Iterable[ChainHead] = ()) -> Verified:
    """Computes the chain anew.

    Args:
        rows: the whole log, in order.
        anchors: heads of earlier times.
    """
    faults: list[str] = []
    wanted = {anchor.audit_id: anchor.hash for anchor in anchors}
    previous, number, n_rows = FIRST_PREVIOUS, 0, 0
    for row in rows:
        n_rows += 1
        if row["audit_id"] != number + 1:
            faults.append(f"rows {number + 1} to {row['audit_id'] - 1} are missing")
        elif bytes(row["previous"]) != previous:
            faults.append(f"row {row['audit_id']} does not follow the row before it")
        if row_hash(row, bytes(row["previous"])) != bytes(row["hash"]):
            faults.append(f"row {row['audit_id']} was changed")
        number, previous = row["audit_id"], bytes(row["hash"])
        if wanted.pop(number, previous.hex()) != previous.hex():
            faults.append(f"row {number} is not the one that was there when its hash was kept")
    faults += [f"row {missing}, whose hash was kept, is missing" for missing in sorted(wanted)]
    return Verified(n_rows, ChainHead(number, previous.hex()) if n_rows else None, tuple(faults))


def command_act(action: str, subject: str, detail: str = "", *, site: str = "") -> Act:
    """An act of whoever runs this command."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a bare user id, as in some containers
        user = "unknown"
    return Act(user, "command", site, action, subject, detail)


def _anchor(text: str) -> ChainHead:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise ConfigurationError("--anchor", f"{text} is not NUMBER:HASH", "Give a line that `verify` printed.")
    return ChainHead(int(number), digest.lower())


def _list(rows: list[dict[str, Any]], json_file: Path | None) -> None:
    shown = ("audit_id", "at", "actor", "role", "site", "action", "subject", "detail")
    cli.write_json(json_file, [{name: row[name] for name in shown} for row in rows])
    table = Table("No.", "At (UTC)", "Who", "Role", "Site", "Action", "Subject", "Detail")
    for row in rows:
        at = f"{row['at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        cells = (row["actor"], row["role"], row["site"], row["action"], row["subject"], row["detail"])
        table.add_row(str(row["audit_id"]), at, *cells)
    cli.show(table)


if __name__ == "__main__":
    cli.run(main)
