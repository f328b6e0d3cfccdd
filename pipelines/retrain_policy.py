"""When a successor is trained: reasons that speak for it, and what holds it back. Reads, decides, changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from configs.settings import RetrainSettings
from monitoring.drift_tests import RECORDING
from monitoring.estimates import precision_of
from warehouse.store import Stores
from warehouse.store.records import ModelVersion

LIMIT_DAYS = 30


@dataclass(frozen=True)
class Trigger:
    """A reason to train: drift, quality, labels, schedule, erasure, request or hand."""

    trigger: str
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """What the policy decides on.

    Attributes:
        now: timezone-aware.
        champion_age: since it was registered.
        drift: findings of the newest drift report that are about the champion, in words; empty: none.
        drift_at: when that was made; None: there is none.
        confirmed, rejected: reviewed flagged beats of the champion.
        new_labels: reviewed beats whose labels came after what the champion read.
        erased: the champion was trained on data that is gone since.
        requests: open requests.
        trained_at: starts of trainings in the last 30 days, newest first.
    """

    now: datetime
    champion_age: timedelta
    drift: Sequence[str] = ()
    drift_at: datetime | None = None
    confirmed: int = 0
    rejected: int = 0
    new_labels: int = 0
    erased: bool = False
    requests: Sequence[Mapping[str, Any]] = ()
    trained_at: Sequence[datetime] = ()


def find_triggers(policy: RetrainSettings, facts: Facts, by_hand: str | None = None) -> list[Trigger]:
    """All reasons that speak for training now; empty: none does."""
    found = []
    if by_hand is not None:
        found.append(Trigger("hand", by_hand))
    if facts.erased:
        found.append(Trigger("erasure", "the version was trained on data of somebody who was erased since"))
    fresh = facts.drift_at is not None and facts.now - facts.drift_at <= timedelta(hours=policy.drift_max_age_hours)
    if policy.on_drift and facts.drift and fresh:
        found.append(
            Trigger("drift", facts.drift[0], {"findings": len(facts.drift), "at": facts.drift_at, "all": facts.drift})
        )
    reviewed = facts.confirmed + facts.rejected
    precision = precision_of(facts.confirmed, facts.rejected)
    if reviewed >= policy.min_reviews and precision.high is not None and precision.high < policy.min_precision:
        numbers = {"precision": precision.value, "low": precision.low, "high": precision.high, "reviews": reviewed}
        reason = (
            f"live precision is {precision.value:.2f}, at most {precision.high:.2f}: below {policy.min_precision:g}"
        )
        found.append(Trigger("quality", reason, numbers))
    if policy.new_labels and facts.new_labels >= policy.new_labels:
        reason = f"{facts.new_labels} reviewed beats are new, {policy.new_labels} are enough"
        found.append(Trigger("labels", reason, {"new_labels": facts.new_labels}))
    age_days = facts.champion_age / timedelta(days=1)
    if policy.max_age_days and age_days >= policy.max_age_days:
        reason = f"the version is {age_days:.1f} days old, {policy.max_age_days:g} are allowed"
        found.append(Trigger("schedule", reason, {"age_days": age_days}))
    found += [
        Trigger("request", request["reason"], {"request_id": request["request_id"], "by": request["requested_by"]})
        for request in facts.requests
    ]
    return found


def held_back(policy: RetrainSettings, facts: Facts, triggers: Sequence[Trigger]) -> str | None:
    """Why not now, although there are reasons; None: nothing holds it back, or a person said so."""
    if any(trigger.trigger == "hand" for trigger in triggers) or not facts.trained_at:
        return None
    ready = facts.trained_at[0] + timedelta(hours=policy.cooldown_hours)
    if facts.now < ready:
        return f"cool-down: the last training began {facts.trained_at[0]:%Y-%m-%d %H:%M}, the next may at {ready:%H:%M}"
    if len(facts.trained_at) >= policy.max_per_30_days:
        return f"limit: {len(facts.trained_at)} trainings in {LIMIT_DAYS} days, {policy.max_per_30_days} are allowed"
    return None


def read_facts(stores: Stores, champion: ModelVersion, now: datetime) -> Facts:
    """Reads what the policy decides on from both databases."""
    results, warehouse = stores.results, stores.warehouse
    judged = [results.judged(champion.model_version, site) for site in warehouse.sites()]
    read = (warehouse.data_span(champion.data_span).content.get("labels") or {"until": 0})["until"]
    drift, drift_at = _drift(stores, champion)
    return Facts(
        now=now,
        champion_age=now - champion.registered_at,
        drift=drift,
        drift_at=drift_at,
        confirmed=sum(one.confirmed for one in judged),
        rejected=sum(one.rejected for one in judged),
        new_labels=warehouse.labels_since(read),
        erased=champion.model_version in results.marked_models(),
        requests=results.retraining_requests(only_open=True),
        trained_at=results.retrainings_that_trained(now - timedelta(days=LIMIT_DAYS)),
    )


def _drift(stores: Stores, champion: ModelVersion) -> tuple[list[str], datetime | None]:
    """What the newest drift reports found of the champion, in words, and when the latest of them was made.

    Findings in single recordings do not count: an electrode that came off is no new normal to be learnt.
    """
    found, made_at = [], None
    for run in stores.results.latest_drift_runs():
        if run["model_version"] != champion.model_version:
            continue
        made_at = run["at"] if made_at is None else max(made_at, run["at"])
        rows = stores.results.drift_findings(run["drift_run_id"])
        found += [f"{row['scope']} {row['subject']}: {row['detail']}" for row in rows if row["scope"] != RECORDING]
    return found, made_at
