"""`python -m warehouse.migrate`: brings the schemas of both databases up to date, and ends."""

from typing import Annotated

import typer

from configs import cli
from configs.settings import load_settings
from warehouse.store import open_stores


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Create or migrate the tables of the warehouse and the results database.

    Every command does so when it starts; this one does nothing else, for stacks where that is a step of its own.
    Stopped anywhere and run again, it goes on: each migration is one transaction.

    Exit codes: 0 done, 2 bad configuration, 5 a database is not available or was made by a newer version.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        stores.warehouse.check()
        stores.results.check()
    cli.note("The schemas of the warehouse and the results database are up to date.")


if __name__ == "__main__":
    cli.run(main)
