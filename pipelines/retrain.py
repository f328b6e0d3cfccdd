"""`python -m pipelines.retrain`: trains a successor of the stable version when there is a reason to, and tries it."""

import contextlib
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from configs import cli
from configs.contract import FeatureSpec
from configs.errors import ConflictError, DataInvalidError, NotBlessedError, UnavailableError
from configs.settings import Settings, load_settings
from pipelines.retrain_data import Choice, check_new_data, choose_data
from pipelines.retrain_evaluation import CHALLENGER, CHAMPION, compare_on_slices
from pipelines.retrain_policy import Trigger, find_triggers, held_back, read_facts
from pipelines.score import model_source
from pipelines.training_run import train
from serving.connect import open_client
from serving.releases import Releases
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores, open_stores
from warehouse.store.records import ModelVersion

OPERATOR = "retrain"

#: How an attempt may end.
NOT_DUE, PLANNED, HELD, DATA_REFUSED, UNCHANGED, NOT_BLESSED, NOT_BETTER, IN_SHADOW, FAILED = (
    "not_due", "planned", "held", "data_refused", "unchanged", "not_blessed", "not_better", "in_shadow", "failed",
)  # fmt: skip


@dataclass(frozen=True)
class Retrained:
    """What came of an attempt.

    Attributes:
        retraining_id: its number in the results database; None where nothing was written.
        status: not_due, held, data_refused, unchanged, not_blessed, not_better or in_shadow; planned in a dry run.
        numbers: of each step, by its name.
    """

    status: str
    reason: str
    retraining_id: int | None = None
    champion: int | None = None
    model_version: int | None = None
    triggers: list[dict[str, Any]] = field(default_factory=list)
    numbers: Mapping[str, Any] = field(default_factory=dict)


def main(
    why: Annotated[
        str | None, typer.Option(help="Train now, for this reason, whatever the policy, cool-down and limit say.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and why; change nothing.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: look every retrain.check_minutes, until SIGTERM or Ctrl-C.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what came of it here.")] = None,
) -> None:
    """Train a successor of the stable version when the policy (retrain.*) sees a reason; put a better one into shadow.

    Reasons: drift, falling precision, enough new labels, age, an erasure, an alert's request, or --why. It refuses new
    recordings that are damaged, copies, or labelled against all that is known; trains by the pipeline of
    pipelines.train on what is new and a memory of what was; compares champion and challenger on both; and puts the
    challenger into shadow. Promotion is serving.release's. Every step is in the results database and GET /retraining.

    Exit codes: 0 in shadow, or nothing to do; 2 bad configuration; 3 the data were refused, or another one is at work;
    4 not blessed, or not better; 5 a database or the disk is not available.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if watch:
            _watch(settings, stores)
            return
        done = plan(settings, stores, why) if dry_run else retrain(settings, stores, why)
    cli.write_json(json_file, asdict(done))
    cli.note(f"{done.status}: {done.reason}")
    if done.status == IN_SHADOW:
        cli.note(
            "Next: python -m pipelines.score, then python -m serving.release report, and "
            f"python -m serving.release promote {done.model_version}"
        )


def plan(settings: Settings, stores: Stores, why: str | None = None, now: datetime | None = None) -> Retrained:
    """What `retrain` would do now. Reads only."""
    moment = now or datetime.now(UTC)
    champion = _champion(stores)
    triggers, held = _policy(settings, stores, champion, why, moment)
    choice = choose_data(settings.retrain, stores, champion, moment)
    found = _found(champion, triggers, {"data": choice.numbers})
    if not triggers:
        return found
    if held is not None:
        return replace(found, status=HELD, reason=held)
    try:
        checked = _check(settings, stores, champion, choice)
    except DataInvalidError as error:
        return replace(found, status=DATA_REFUSED, reason=str(error))
    because = "; ".join(trigger.reason for trigger in triggers)
    return replace(
        found,
        status=PLANNED,
        reason=f"{because}. Would train on {choice.numbers['words']}",
        numbers={"data": {**choice.numbers, **checked}},
    )


def retrain(settings: Settings, stores: Stores, why: str | None = None, now: datetime | None = None) -> Retrained:
    """Trains a successor if there is a reason to, and puts it into shadow if it is better.

    Args:
        why: a person's reason; goes before cool-down and limit.
        now: timezone-aware; the clock's when None.

    Raises:
        ConflictError: another attempt is under way.
        DataInvalidError: the data were refused; nothing was trained.
        NotBlessedError: the challenger did not pass the gates, or is not better.
    """
    moment = now or datetime.now(UTC)
    with stores.results.retraining_alone():
        champion = _champion(stores)
        deliver_labels(stores)
        triggers, held = _policy(settings, stores, champion, why, moment)
        found = _found(champion, triggers, {})
        if not triggers:
            return found
        if held is not None:
            number = _note_held(stores, champion, triggers, held)
            return replace(found, status=HELD, reason=held, retraining_id=number)
        return _Attempt(settings, stores, champion, triggers, moment).run()


def _found(champion: ModelVersion, triggers: Sequence[Trigger], numbers: Mapping[str, Any]) -> Retrained:
    return Retrained(
        NOT_DUE,
        "no reason to train",
        champion=champion.model_version,
        triggers=[trigger.as_json() for trigger in triggers],
        numbers=numbers,
    )


def _policy(
    settings: Settings, stores: Stores, champion: ModelVersion, why: str | None, now: datetime
) -> tuple[list[Trigger], str | None]:
    facts = read_facts(stores, champion, now)
    triggers = find_triggers(settings.retrain, facts, why)
    return triggers, held_back(settings.retrain, facts, triggers) if triggers else None


def _champion(stores: Stores) -> ModelVersion:
    return stores.results.models(stores.results.release().stable)[0]


def _check(settings: Settings, stores: Stores, champion: ModelVersion, choice: Choice) -> dict[str, Any]:
    spec = FeatureSpec.model_validate(champion.feature_spec)
    with contextlib.closing(open_client(model_source(settings, champion))) as client:
        return check_new_data(settings.retrain, settings.training, stores, spec, choice, client)


def _note_held(stores: Stores, champion: ModelVersion, triggers: list[Trigger], held: str) -> int:
    """Writes down that nothing is done; once, however often it is looked."""
    last = next(iter(stores.results.retrainings(1)), None)
    names = [trigger.trigger for trigger in triggers]
    if last is not None and last["status"] == HELD and [one["trigger"] for one in last["triggers"]] == names:
        return int(last["retraining_id"])
    number = stores.results.start_retraining(champion.model_version, [trigger.as_json() for trigger in triggers])
    stores.results.add_retraining_step(number, "policy", passed=False, reason=held, numbers={})
    stores.results.finish_retraining(number, HELD, held)
    return number


class _Attempt:
    """One attempt, step by step; each is written down as it ends."""

    def __init__(
        self, settings: Settings, stores: Stores, champion: ModelVersion, triggers: list[Trigger], now: datetime
    ) -> None:
        self._settings, self._stores, self._champion, self._now = settings, stores, champion, now
        self._triggers = [trigger.as_json() for trigger in triggers]
        self._why = "; ".join(trigger.reason for trigger in triggers)
        self._id = stores.results.start_retraining(champion.model_version, self._triggers)
        self._version: int | None = None
        self._numbers: dict[str, Any] = {}
        taken = [trigger.numbers["request_id"] for trigger in triggers if trigger.trigger == "request"]
        stores.results.take_retraining_requests(taken, self._id)

    def run(self) -> Retrained:
        """All steps; closes the attempt however it ends."""
        try:
            self._step("policy", self._why, {"triggers": self._triggers})
            return self._run()
        except DataInvalidError as error:
            self._end(DATA_REFUSED, str(error), step="data")
            raise
        except NotBlessedError as error:
            self._end(NOT_BETTER if self._version else NOT_BLESSED, str(error))
            raise
        except BaseException as error:
            self._end(FAILED, str(error) or repr(error))
            raise

    def _run(self) -> Retrained:
        settings, stores, champion = self._settings, self._stores, self._champion
        choice = choose_data(settings.retrain, stores, champion, self._now)
        checked = _check(settings, stores, champion, choice)
        self._step("data", str(choice.numbers["words"]), {**choice.numbers, **checked})

        trained = self._train(choice)
        if trained.model_version is None or trained.model_version == champion.model_version:
            return self._end(UNCHANGED, "the same data, configuration and code made the version in use")
        (challenger,) = stores.results.models(trained.model_version)
        self._version = challenger.model_version
        if trained.reused:
            self._step("train", f"version {self._version} is of this very data, configuration and code", {})

        self._evaluate(choice, challenger)

        reason = f"{self._why}: {self._numbers['evaluate']['reason']}"
        Releases(settings, stores, operator=OPERATOR, report=cli.note).shadow(challenger.model_version, reason)
        self._step("release", f"version {self._version} is in shadow", {"model_version": self._version})
        return self._end(IN_SHADOW, reason)

    def _train(self, choice: Choice) -> Any:
        try:
            trained = train(
                self._settings, self._stores, feature_version=self._champion.feature_version, choice=choice.span
            )
        except NotBlessedError as error:
            self._step("train", str(error), {}, passed=False)
            raise
        if not trained.reused:
            self._step(
                "train",
                f"version {trained.model_version} was blessed and pushed",
                {"model_version": trained.model_version, "metrics": trained.metrics, "seconds": trained.seconds},
            )
        return trained

    def _evaluate(self, choice: Choice, challenger: ModelVersion) -> None:
        settings, spec = self._settings, FeatureSpec.model_validate(challenger.feature_spec)
        with contextlib.ExitStack() as stack:
            clients = {
                role: stack.enter_context(contextlib.closing(open_client(model_source(settings, model))))
                for role, model in ((CHAMPION, self._champion), (CHALLENGER, challenger))
            }
            verdict = compare_on_slices(settings.retrain, settings.training, self._stores, spec, choice, clients)
        self._step("evaluate", verdict.reason, verdict.numbers, passed=verdict.better)
        if not verdict.better:
            raise NotBlessedError(
                f"model version {challenger.model_version}",
                f"is not put into shadow: {verdict.reason}",
                f"Version {self._champion.model_version} stays. GET /retraining has the numbers.",
            )

    def _step(self, step: str, reason: str, numbers: Mapping[str, Any], *, passed: bool = True) -> None:
        self._numbers[step] = {"reason": reason, **numbers}
        self._stores.results.add_retraining_step(self._id, step, passed=passed, reason=reason, numbers=numbers)

    def _end(self, status: str, reason: str, *, step: str | None = None) -> Retrained:
        if step is not None:
            self._step(step, reason, {}, passed=False)
        self._stores.results.finish_retraining(self._id, status, reason, self._version)
        return Retrained(
            status, reason, self._id, self._champion.model_version, self._version, self._triggers, self._numbers
        )


def _watch(settings: Settings, stores: Stores) -> None:
    """Looks again and again until SIGTERM or Ctrl-C; an attempt under way is finished first."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    cli.note(f"Looking every {settings.retrain.check_minutes:g} minutes. Ctrl-C ends it.")
    said = ""
    while not stop.is_set():
        try:
            done = retrain(settings, stores)
            text = f"{done.status}: {done.reason}"
        except (DataInvalidError, NotBlessedError, ConflictError, UnavailableError) as error:
            text = str(error)
        if text != said:
            cli.note(text)
            said = text
        stop.wait(settings.retrain.check_minutes * 60)


if __name__ == "__main__":
    cli.run(main)
