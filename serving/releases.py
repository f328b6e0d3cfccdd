"""What `python -m serving.release` does: changes of the state, each checked first, each in the log."""

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from configs.errors import ConflictError, ModelUnavailableError, NotFoundError, RequestError
from configs.settings import Settings
from serving.comparison import compare_shadow
from serving.model_files import LAST_FILE, verified_dir
from serving.policy import decide
from serving.server_config import publish, wait_until_served
from warehouse.store import Stores
from warehouse.store.records import BlockScores, ModelVersion, Release
from warehouse.summaries import summarise, summary_rules


class Releases:
    """The operator's side of releases.

    A change is prepared first (the version is there, whole, and loaded by the model server), then it is one row in the
    database, then the server's labels follow. Who saw an older state than the one there is changes nothing.

    Args:
        operator: who is written down.
        report: is told what goes on.
    """

    def __init__(self, settings: Settings, stores: Stores, *, operator: str, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._stores = stores
        self._operator = operator
        self._report = report
        self._seen = stores.results.release()

    def shadow(self, model_version: int, why: str) -> Release:
        """From now on a version scores what stable scores, apart."""
        self._not_stable(model_version)
        self._same_geometry(self._prepare(model_version))
        return self._change("shadow", model_version, why, {"shadow": model_version})

    def canary(self, model_version: int, percent: float, why: str) -> Release:
        """From now on a version serves a share of the recordings."""
        self._not_stable(model_version)
        self._same_geometry(self._prepare(model_version))
        values = {"canary": model_version, "canary_percent": percent}
        return self._change("canary", model_version, why or f"{percent:g} % of the recordings", values)

    def promote(self, model_version: int, why: str) -> Release:
        """From now on a version serves all recordings. What it scored in shadow is adopted before."""
        self._not_stable(model_version)
        model = self._prepare(model_version)
        self._adopt(model)
        return self._change("promote", model_version, why, self._promoted(model_version))

    def rollback(self, why: str) -> Release:
        """The version that was stable before serves again.

        Raises:
            NotFoundError: there was none.
        """
        target = self._seen.previous
        if target is None:
            raise NotFoundError("rollback", "there is no version to go back to", "promote V names one.")
        self._prepare(target)
        values = {
            "stable": target,
            "previous": self._stores.results.previous_of(target),
            "canary": None,
            "canary_percent": None,
        }
        return self._change("rollback", target, why, values)

    def stop(self, why: str) -> Release:
        """Ends shadow and canary; what was scored in shadow stays until it is pruned."""
        values = {"shadow": None, "canary": None, "canary_percent": None}
        return self._change("stop", self._seen.shadow or self._seen.canary, why, values)

    def prune(self, keep: int, why: str) -> list[int]:
        """Deletes the files of versions that are not released, but for the newest `keep`; their results stay."""
        models = [m for m in self._stores.results.models() if m.model_version not in self._seen.versions]
        gone = []
        for model in models[keep:]:
            directory = self._settings.models_dir / model.model_name / str(model.model_version)
            self._stores.results.forget_shadow_scores(model.model_version)
            self._stores.results.drop_work(model.model_version)
            if directory.is_dir():
                (directory / LAST_FILE).unlink(missing_ok=True)  # first: no server loads half of it
                shutil.rmtree(directory)
                gone.append(model.model_version)
        if gone:
            names = ", ".join(map(str, gone))
            self._change("prune", None, f"{why + ': ' if why else ''}files of {names}", {})
        self._report(f"Deleted the files of {len(gone)} versions")
        return gone

    def decide(self) -> Release:
        """Promotes the version in shadow if the policy says so; writes down the decision and its numbers either way.

        Raises:
            RequestError: automatic promotion is off.
            NotFoundError: no version is in shadow.
        """
        if not self._settings.release.auto_promote:
            raise RequestError("automatic promotion", "is off", "Set release.auto_promote to true.")
        decision = decide(self._settings.release, compare_shadow(self._stores, limit=0))
        version = decision.model_version
        self._report(f"Version {version}: {decision.reason}")
        if not decision.promote:
            return self._change("hold", version, decision.reason, {"numbers": decision.numbers})
        self._adopt(self._prepare(version))
        values = self._promoted(version) | {"numbers": decision.numbers}
        return self._change("promote", version, decision.reason, values)

    def overview(self) -> dict[str, Any]:
        """The state, all versions and the last changes."""
        release = self._stores.results.release()
        counts = self._stores.results.score_counts()
        versions = []
        for model in self._stores.results.models():
            scores, in_shadow = counts.get(model.model_version, (0, 0))
            metrics = model.card.get("metrics", {})
            versions.append(
                {
                    "model_version": model.model_version,
                    "labels": labels_of(release, model.model_version),
                    "registered_at": model.registered_at.astimezone(UTC),
                    "roc_auc": metrics.get("roc_auc"),
                    "average_precision": metrics.get("average_precision"),
                    "scores": scores,
                    "shadow_scores": in_shadow,
                    "files": self._files(model),
                }
            )
        log = [
            {
                "release_id": one.release_id,
                "at": one.at.astimezone(UTC),
                "operator": one.operator,
                "action": one.action,
                "model_version": one.model_version,
                "what": f"{one.action} {one.model_version or ''}".strip(),
                "reason": one.reason,
                "numbers": one.numbers,
            }
            for one in self._stores.results.releases()
        ]
        return {"release_id": release.release_id, "versions": versions, "log": log}

    # --- steps -------------------------------------------------------------------------------------------------------

    def _prepare(self, model_version: int) -> ModelVersion:
        """A version that can serve: registered, whole, and loaded by the model server if there is one."""
        try:
            model = self._stores.results.models(model_version)[0]
        except NotFoundError as error:
            raise NotFoundError(
                f"model version {model_version}",
                "was never pushed by a run that was blessed",
                "`python -m serving.release list` lists those that were.",
            ) from error
        verified_dir(self._settings.models_dir, model)
        if self._settings.serving.server is not None:
            publish(self._settings, self._seen, also=model_version)
            wait_until_served(self._settings, model)
        return model

    def _change(self, action: str, model_version: int | None, why: str, values: Mapping[str, Any]) -> Release:
        row = {"operator": self._operator, "action": action, "model_version": model_version, "reason": why, **values}
        try:
            release = self._stores.results.add_release(self._seen, row)
        except ConflictError:
            publish(self._settings, self._stores.results.release())
            raise
        self._seen = release
        publish(self._settings, release)
        return release

    def _promoted(self, model_version: int) -> dict[str, Any]:
        seen = self._seen
        return {
            "stable": model_version,
            "previous": seen.stable,
            "canary": None,
            "canary_percent": None,
            "shadow": None if seen.shadow == model_version else seen.shadow,
        }

    def _adopt(self, model: ModelVersion) -> None:
        """Makes what a version scored in shadow its scores: no recording is without results after the switch."""
        results, warehouse = self._stores.results, self._stores.warehouse
        sets = warehouse.window_sets(model.feature_version)
        spec = warehouse.feature_spec(model.feature_version) if sets else None
        adopted = 0
        for window_set in sets:
            found = results.shadow_scores(model.model_version, window_set)
            if not len(found["window_id"]) or spec is None:
                continue
            run = results.start_run(model.model_version, len(found["window_id"]), 0)
            for start in range(0, len(found["window_id"]), self._settings.scoring.block_windows):
                part = {k: v[start : start + self._settings.scoring.block_windows] for k, v in found.items()}
                first, stop = int(part["window_id"][0]), int(part["window_id"][-1]) + 1
                block = warehouse.read_block(spec, first, stop, well_formed=True)
                known = {int(window_id): i for i, window_id in enumerate(part["window_id"])}
                rows = [known.get(int(window_id), -1) for window_id in block.window_id]
                block = block.select(_at_least_zero(rows))
                chosen = [row for row in rows if row >= 0]
                scores = BlockScores(part["score"][chosen], part["verdict"][chosen], part["lead_slot"][chosen])
                adopted += results.write_scores(run, model.model_version, window_set, block, scores)[0]
            summarise(warehouse, results, model.model_version, window_set, summary_rules(self._settings.scoring))
            results.finish_run(run, seconds=0.0)
        if adopted:
            self._report(f"Adopted {adopted:,} scores of version {model.model_version} in shadow")

    def _not_stable(self, model_version: int) -> None:
        if model_version == self._seen.stable:
            raise RequestError(
                f"model version {model_version}", "is stable already", "See `python -m serving.release list`."
            )

    def _same_geometry(self, model: ModelVersion) -> None:
        stable = self._stores.results.models(self._seen.stable)[0]
        if model.feature_version != stable.feature_version:
            raise RequestError(
                f"model version {model.model_version}",
                f"takes windows of geometry {model.feature_version}, stable those of {stable.feature_version}",
                "It cannot score the same windows; promote it, or train one of the same geometry.",
            )

    def _files(self, model: ModelVersion) -> str:
        try:
            verified_dir(self._settings.models_dir, model)
        except ModelUnavailableError as error:
            return "changed" if "not those" in error.problem else "missing"
        return "ok"


def labels_of(release: Release, model_version: int) -> list[str]:
    """What a version is now."""
    named = {
        "stable": release.stable,
        "canary": release.canary,
        "shadow": release.shadow,
        "previous": release.previous,
    }
    share = {"canary": f" {release.canary_percent:g} %" if release.canary_percent else ""}
    return [label + share.get(label, "") for label, version in named.items() if version == model_version]


def _at_least_zero(rows: list[int]) -> Any:
    import numpy as np

    return np.asarray(rows, dtype=np.int64) >= 0
