"""When a version in shadow is promoted without a person: gates on numbers, all of which must hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.settings import ReleaseSettings


@dataclass(frozen=True)
class Decision:
    """Whether to promote a version, why, and the numbers that decided."""

    model_version: int
    promote: bool
    reason: str
    numbers: Mapping[str, Any]


def decide(policy: ReleaseSettings, report: Mapping[str, Any]) -> Decision:
    """Decides on a shadow report (`serving.comparison.compare_shadow`). A number that is not known fails its gate, but
    for quality where no class is known: then there is nothing to measure it on.
    """
    numbers = {
        "windows": report["windows"],
        "agreement": report["agreement"],
        "flagged_ratio": _ratio(report["challenger_flagged"], report["stable_flagged"]),
        "latency_ratio": _ratio(report["challenger_model_s_per_window"], report["stable_model_s_per_window"]),
        "ap_difference": report["ap_difference"],
    }
    failed = [
        _misses("windows", numbers["windows"], at_least=policy.min_windows),
        _misses("agreement", numbers["agreement"], at_least=policy.min_agreement),
        _misses(
            "flagged_ratio",
            numbers["flagged_ratio"],
            at_least=1 / policy.max_flagged_ratio,
            at_most=policy.max_flagged_ratio,
        ),
        _misses("latency_ratio", numbers["latency_ratio"], at_most=policy.max_latency_ratio),
    ]
    if numbers["ap_difference"] is not None:
        failed.append(_misses("ap_difference", numbers["ap_difference"], at_least=-policy.max_ap_drop))
    missed = [line for line in failed if line]
    reason = f"held: {'; '.join(missed)}" if missed else "promoted by policy: all gates passed"
    return Decision(report["challenger"], not missed, reason, numbers)


def _ratio(over: float | None, under: float | None) -> float | None:
    if over is None or under is None:
        return None
    if under == 0:
        return 1.0 if over == 0 else None
    return over / under


def _misses(
    name: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> str | None:
    if value is None:
        return f"{name} is not known"
    if at_least is not None and value < at_least:
        return f"{name} is {value:.4g}, at least {at_least:.4g} is needed"
    if at_most is not None and value > at_most:
        return f"{name} is {value:.4g}, at most {at_most:.4g} is allowed"
    return None
