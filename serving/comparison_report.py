"""Comparisons as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from configs import cli


def show_shadow_report(report: Mapping[str, Any]) -> None:
    """Prints a report of `serving.comparison.compare_shadow`."""
    title = f"Version {report['challenger']} in shadow against stable {report['stable']}"
    table = Table(
        "slice", "windows", "same verdict", "stable flags", "challenger flags", "only stable", "only challenger",
        "mean shift", "5 % .. 95 %", title=title,
    )  # fmt: skip
    _row(table, "all", report)
    for slices in ("by_recording", "by_class", "by_lead"):
        table.add_section()
        for name, values in report[slices].items():
            _row(table, f"{slices.removeprefix('by_')} {name or '(none)'}", values)
    cli.show(table)
    if report["only_one_found"]:
        table = Table(
            "recording", "second", "class", "found by", "stable", "challenger", "link", title="Only one found"
        )
        for one in report["only_one_found"]:
            table.add_row(
                one["recording"], f"{one['r_peak_s']:.2f}", one["label"], one["found_by"], f"{one['stable_score']:.2f}",
                f"{one['challenger_score']:.2f}", one["link"],
            )  # fmt: skip
        cli.show(table)
    cli.note(
        f"{report['windows']:,} windows scored by both, {report['only_stable_scored']:,} by stable alone, "
        f"{report['only_challenger_scored']:,} by the challenger alone. In the model, a window takes "
        f"{_us(report['stable_model_s_per_window'])} in stable, {_us(report['challenger_model_s_per_window'])} in the "
        f"challenger. Average precision where the class is known: {_signed(report['ap_difference'])}."
    )


def show_comparison(comparison: Mapping[str, Any]) -> None:
    """Prints a comparison of `serving.comparison.compare_on_known`."""
    a, b = comparison["a"], comparison["b"]
    title = (
        f"{comparison['windows']:,} windows of known class ({comparison['reviewed']:,} reviewed) in "
        f"{comparison['recordings']} recordings; 95 % intervals by resampling {comparison['resampled']}"
    )
    table = Table("measure", str(a), str(b), f"{b} minus {a}", "differs", title=title)
    for name, values in comparison["measures"].items():
        difference = values["difference"]
        known = difference["value"] is not None
        differs = "yes" if known and (difference["low"] > 0 or difference["high"] < 0) else "not shown"
        table.add_row(name, *(_interval(values[one]) for one in ("a", "b", "difference")), differs)
    cli.show(table)


def _row(table: Table, name: str, values: Mapping[str, Any]) -> None:
    if not values["n"]:
        table.add_row(name, "0")
        return
    shift = values["score_shift"]
    table.add_row(
        name, f"{values['n']:,}", f"{values['agreement']:.2%}", f"{values['stable_flagged']:.2%}",
        f"{values['challenger_flagged']:.2%}", f"{values['only_stable_found']:,}",
        f"{values['only_challenger_found']:,}",
        f"{shift['mean']:+.3f}", f"{shift['p5']:+.2f} .. {shift['p95']:+.2f}",
    )  # fmt: skip


def _interval(values: Mapping[str, float | None]) -> str:
    if values["value"] is None:
        return "not defined"
    return f"{values['value']:.4f} ({values['low']:.4f} .. {values['high']:.4f})"


def _us(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else f"{seconds * 1e6:.0f} us"


def _signed(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.4f}"
