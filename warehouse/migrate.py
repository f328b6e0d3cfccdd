"""`python -m warehouse.migrate`: brings the schemas of both databases up to date, or back, and ends."""

from typing import Annotated

import typer

from configs import cli
from configs.errors import ConfigurationError
from configs.settings import load_settings
from warehouse.store import open_stores
from warehouse.store.database import MIGRATIONS, migrate, resolve_urls


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    warehouse_to: Annotated[
        str | None, typer.Option(help="Go back to this revision of the warehouse's schema, such as 0003.")
    ] = None,
    results_to: Annotated[str | None, typer.Option(help="The same, of the results'.")] = None,
) -> None:
    """Create or migrate the tables of the warehouse and the results database.

    Every command does so when it starts; this one does nothing else, for stacks where that is a step of its own.
    All of it is one transaction a database: stopped anywhere, it has done nothing, and can be run again.

    With a revision it goes back, for an older release of this platform that does not know what came later: stop all
    processes, go back with the newer release, then start the older one. What later revisions added is lost.

    Exit codes: 0 done, 2 bad configuration, 5 a database is not available or was made by a newer version.
    """
    settings = load_settings(profile)
    if warehouse_to is not None or results_to is not None:
        urls = resolve_urls(settings.warehouse_url, settings.results_url, settings.data_dir)
        for kind, url, target in (("warehouse", urls.warehouse, warehouse_to), ("results", urls.results, results_to)):
            if target is not None:
                if not list((MIGRATIONS / kind / "versions").glob(f"{target}_*.py")):
                    raise ConfigurationError(
                        f"--{kind}-to", f"{target} is no revision", "warehouse/store/migrations has them."
                    )
                migrate(url, kind, target)
                cli.note(f"The schema of the {kind} is that of revision {target}.")
        return
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        stores.warehouse.check()
        stores.results.check()
    cli.note("The schemas of the warehouse and the results database are up to date.")


if __name__ == "__main__":
    cli.run(main)
