"""`python -m pipelines.drift_benchmark`: what drift is raised on MIT-BIH, and after how many windows.

The reference is a model trained on DS1. Live is DS2, and DS2 as faulty devices would have sent it: each fault is a site
of its own, from the start of every record, and from half of every record on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from configs import cli
from configs.errors import ConfigurationError
from configs.settings import Settings, load_settings
from monitoring.drift import Comparison, DriftMonitor
from monitoring.drift_features import Stream
from monitoring.drift_report import write_report
from monitoring.drift_tests import Finding, detect
from pipelines.benchmark_data import DS1, DS2, ArraySource
from pipelines.drift_disturbances import (
    CHANGES,
    SECOND_RATE_HZ,
    at_second_rate,
    disturbed,
    read_record,
)
from pipelines.score import score
from pipelines.training_run import train
from warehouse.ingest import ingest
from warehouse.store import Stores, open_stores

HALF_S = 900.0
_AFTER = (25, 50, 75, 100, 150, 200, 300, 400, 500, 700, 1000)  # windows after a change at which it is asked


@dataclass(frozen=True)
class Live:
    """DS2 as a site sent it: in words, what is done to a record, and from when on."""

    text: str
    make: Callable[[ArraySource], ArraySource]
    half: bool = False


def live_sites() -> dict[str, Live]:
    """All of them, by the site's name."""
    found = {"as-it-is": Live("as it is", lambda source: source)}
    for name, (text, change) in CHANGES.items():
        found[name] = Live(text, partial(disturbed, name=name, change=change, from_s=0.0))
    found["rate"] = Live(f"sampled at {SECOND_RATE_HZ:g} Hz", at_second_rate)
    for name, (text, change) in CHANGES.items():
        found[f"{name}-half"] = Live(text, partial(disturbed, name=name, change=change, from_s=HALF_S), half=True)
    return found


def main(
    data: Annotated[Path | None, typer.Option(help="Folder with the MIT-BIH records; default: mitdb_dir.")] = None,
    out: Annotated[Path, typer.Option(help="Databases, model and results go here.")] = Path("build/drift"),
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Train on DS1, take DS2 and its disturbed copies as live, and write report, figures and table.

    What is done already is not done again. Exit codes as those of pipelines.train.
    """
    given = load_settings(profile)
    folder = data or given.mitdb_dir
    if folder is None or not (folder / "100.dat").is_file():
        raise ConfigurationError(
            "--data", "names no folder with MIT-BIH records", "Give the folder that holds 100.dat."
        )
    settings = load_settings(profile, {"data_dir": out / "data", "site": "reference"})
    sites = live_sites()
    with open_stores(None, None, settings.data_dir) as stores:
        _prepare(settings, stores, folder, sites)
        comparisons = {c.site: c for c in DriftMonitor(settings, stores).compare() if c.site in sites}
        write_report(out / "report.html", list(comparisons.values()), stores)
        figures = [_figures(site, live, comparisons) for site, live in sites.items()]
    cli.write_json(out / "drift.json", figures)
    table = _table(figures)
    (out / "table.md").write_text(table, encoding="utf-8")
    cli.note(f"{out / 'report.html'}, {out / 'drift.json'}, {out / 'table.md'}")
    print(table)


def _prepare(settings: Settings, stores: Stores, folder: Path, sites: Mapping[str, Live]) -> None:
    """Ingests what is not in yet, trains unless nothing has changed, scores what has no score."""
    ingest([read_record(folder, record, "reference") for record in DS1], settings, stores)
    train(settings, stores)
    records = [read_record(folder, record, "holter") for record in DS2]
    for site, live in sites.items():
        cli.note(f"Site {site}: {live.text}{', from half on' if live.half else ''}")
        at_site = settings.model_copy(update={"site": site})
        ingest([live.make(record) for record in records], at_site, stores, split="test")
    score(settings, stores)


def _figures(site: str, live: Live, comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    c, before = comparisons[site], comparisons["as-it-is"]
    assert c.reference is not None  # training wrote it
    alone = [detect(c.reference, [stream]).findings for stream in c.streams]
    found: dict[str, Any] = {
        "site": site, "live": live.text, "from": "half" if live.half else "start", "recordings": len(c.streams),
        "windows": c.windows, "tests": c.tests, "gaps": c.gaps, "findings": [_short(f) for f in c.findings],
        "recordings_that_alone_raise_something": sum(map(bool, alone)),
    }  # fmt: skip
    if live.half:
        found["windows_until_raised"] = [
            _after_change(c, stream, plain) for stream, plain in zip(c.streams, before.streams, strict=True)
        ]
    else:
        found["patients_until_raised"] = _patients_until_raised(c)
    return found


def _patients_until_raised(c: Comparison) -> dict[str, int] | None:
    """After how many records, in the order of their numbers, the site or its device is raised, and their windows."""
    assert c.reference is not None
    for n in range(2, len(c.streams) + 1):
        findings = detect(c.reference, c.streams[:n]).findings
        if any(f.scope != "recording" for f in findings):
            return {"patients": n, "windows": sum(map(len, c.streams[:n]))}
    return None


def _after_change(c: Comparison, stream: Stream, plain: Stream) -> int | None:
    """Windows after the change at which a record, alone, raises what the undisturbed record does not; None: never."""
    assert c.reference is not None
    first = int(np.searchsorted(stream.recorded_at_us - stream.recorded_at_us[0], HALF_S * 1e6))
    for after in _AFTER:
        if first + after > len(stream):
            return None
        usual = {(f.kind, f.key) for f in detect(c.reference, [_until(plain, first + after)]).findings}
        findings = detect(c.reference, [_until(stream, first + after)]).findings
        if any((f.kind, f.key) not in usual for f in findings):
            return after
    return None


def _until(stream: Stream, n: int) -> Stream:
    return replace(
        stream, window_id=stream.window_id[:n], recorded_at_us=stream.recorded_at_us[:n],
        values={key: values[:n] for key, values in stream.values.items()},
    )  # fmt: skip


def _short(f: Finding) -> dict[str, Any]:
    return {
        "kind": f.kind, "drift": f.drift, "what": str(f.key), "scope": f.scope, "subject": f.subject,
        "effect": round(f.effect, 2), "adjusted": f.adjusted, "detail": f.detail,
    }  # fmt: skip


def _table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/drift.md."""
    lines = ["| Live | Raised of all 22 | After | Records that alone raise something |", "| --- | --- | --- | --- |"]
    for row in figures:
        if row["from"] == "half":
            continue
        whole = [f["what"] for f in row["findings"] if f["scope"] != "recording"]
        until = row["patients_until_raised"]
        after = f"{until['patients']} patients, {until['windows']} windows" if until else "not raised"
        lines.append(
            f"| {row['live']} | {', '.join(whole) or 'nothing'} | {after} | "
            f"{row['recordings_that_alone_raise_something']} of {row['recordings']} |"
        )
    lines += ["", "| From half of a record on | Within 100 windows | Within 200 | Within 1000 | Median |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for row in figures:
        if row["from"] != "half":
            continue
        seen = [n for n in row["windows_until_raised"] if n is not None]
        counts = [f"{sum(n <= limit for n in seen)} of {row['recordings']}" for limit in (100, 200, 1000)]
        median = f"{np.median(seen):.0f} windows" if seen else "never"
        lines.append(f"| {row['live']} | {' | '.join(counts)} | {median} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main)
