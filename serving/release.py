"""`python -m serving.release`: which model version serves what. Every change says who, when and why."""

import getpass
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from configs import cli
from configs.errors import RequestError
from configs.settings import load_settings
from serving.comparison import compare_on_known, compare_shadow
from serving.comparison_report import show_comparison, show_shadow_report
from serving.releases import Releases
from warehouse.store import open_stores


class Action(StrEnum):
    """What can be done."""

    LIST = "list"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    STOP = "stop"
    PRUNE = "prune"
    REPORT = "report"
    COMPARE = "compare"
    AUTO = "auto"


#: How many versions each action is about.
_VERSIONS = {Action.SHADOW: 1, Action.CANARY: 1, Action.PROMOTE: 1, Action.COMPARE: 2}


def main(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    versions: Annotated[list[int] | None, typer.Argument(help="Model version; two for compare.")] = None,
    percent: Annotated[
        float | None, typer.Option(min=0.01, max=100, help="With canary: share of the recordings it serves.")
    ] = None,
    why: Annotated[str, typer.Option(help="Why; kept in the log of releases.")] = "",
    who: Annotated[str | None, typer.Option(help="Who does it; default: the user of this process.")] = None,
    keep: Annotated[int, typer.Option(min=0, help="With prune: unreleased versions to keep, the newest.")] = 2,
    limit: Annotated[int, typer.Option(min=1, help="With report: windows to list that only one version found.")] = 20,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Release model versions: watch one in shadow, give it a share as canary, promote it, take it back.

    - list: versions, their labels and scores, and the last changes
    - shadow V: V scores the same windows as stable, apart; nobody is shown it
    - report: how the version in shadow differs from stable
    - canary V --percent P: V serves that share of the recordings, always the same ones
    - promote V: V serves everything; what it scored in shadow is adopted first
    - rollback: the version that was stable before serves again, at once
    - stop: ends shadow and canary
    - compare A B: both on windows whose class is known, with confidence intervals
    - auto: decides by the policy in the settings (release.*) whether the version in shadow is promoted
    - prune: deletes the files of versions that are not released

    Exit codes: 0 done, 2 bad configuration or arguments, 3 no such version, or somebody else was faster, 5 a database,
    the disk, a model or the model server is not available.
    """
    given = list(versions or [])
    if len(given) != _VERSIONS.get(action, 0):
        raise RequestError(
            f"release {action}", f"is about {_VERSIONS.get(action, 0)} versions, not {len(given)}", "See --help."
        )
    if (action is Action.CANARY) != (percent is not None):
        raise RequestError("--percent", "belongs to canary, and canary needs it", "Write canary V --percent 5.")
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        releases = Releases(settings, stores, operator=who or getpass.getuser(), report=cli.note)
        done: dict[Action, Callable[[], Any]] = {
            Action.LIST: lambda: None,
            Action.SHADOW: lambda: releases.shadow(given[0], why),
            Action.CANARY: lambda: releases.canary(given[0], percent or 0.0, why),
            Action.PROMOTE: lambda: releases.promote(given[0], why),
            Action.ROLLBACK: lambda: releases.rollback(why),
            Action.STOP: lambda: releases.stop(why),
            Action.PRUNE: lambda: releases.prune(keep, why),
            Action.AUTO: releases.decide,
        }
        if action is Action.REPORT:
            report = compare_shadow(stores, limit)
            show_shadow_report(report)
            cli.write_json(json_file, report)
        elif action is Action.COMPARE:
            comparison = compare_on_known(stores, *given)
            show_comparison(comparison)
            cli.write_json(json_file, comparison)
        else:
            done[action]()
            state = releases.overview()
            cli.write_json(json_file, state)
            _show(state)


def _show(state: dict[str, Any]) -> None:
    table = Table("version", "labels", "pushed", "ROC-AUC", "AP", "scores", "in shadow", "files")
    for row in state["versions"]:
        table.add_row(
            str(row["model_version"]), " ".join(row["labels"]), f"{row['registered_at']:%Y-%m-%d %H:%M}",
            _number(row["roc_auc"]), _number(row["average_precision"]), f"{row['scores']:,}",
            f"{row['shadow_scores']:,}", row["files"],
        )  # fmt: skip
    cli.show(table)
    log = Table("when (UTC)", "who", "what", "why", title="Last changes")
    for row in state["log"]:
        log.add_row(f"{row['at']:%Y-%m-%d %H:%M:%S}", row["operator"], row["what"], row["reason"])
    cli.show(log)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    cli.run(main)
