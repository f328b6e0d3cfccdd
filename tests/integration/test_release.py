"""Releases on real databases: what serves after each step, who is told what, and nothing that is lost in between."""

import json
import threading
from datetime import UTC, datetime

import numpy as np
import pytest
from release_world import NAME, ReleaseWorld

from configs.errors import ConflictError, ModelUnavailableError, NotFoundError, RequestError
from configs.settings import ReleaseSettings
from pipelines.score import score
from serving.comparison import average_precision, compare_on_known, compare_shadow, roc_auc
from serving.policy import decide
from serving.releases import Releases, labels_of
from serving.server_config import models_config
from warehouse.store import tables as t
from warehouse.store.records import AnomalyFilter, Release

pytestmark = pytest.mark.integration

EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def world(new_stores, tmp_path):
    made = ReleaseWorld(new_stores(), tmp_path / "data")
    made.push(1, scale=0.05)
    return made


def operate(world, operator="ana"):
    return Releases(world.settings, world.stores, operator=operator, report=lambda _: None)


def test_the_first_version_serves_and_the_next_waits(world):
    world.push(2, scale=0.1)
    release = world.stores.results.release()
    assert (release.stable, release.previous, release.canary, release.shadow) == (1, None, None, None)
    assert (release.operator, release.reason) == ("platform", "first version")


def test_promote_and_rollback_say_who_when_and_why(world):
    world.push(2)
    world.push(3)
    before = datetime.now(UTC)
    operate(world).promote(2, "better")
    operate(world, "bo").promote(3, "better still")
    operate(world).rollback("false alarms")
    release = world.stores.results.release()
    assert (release.stable, release.previous) == (2, 1)
    assert operate(world).rollback("worse").stable == 1
    with pytest.raises(NotFoundError, match="there is no version to go back to"):
        operate(world).rollback("")
    log = world.stores.results.releases()
    assert [(one.operator, one.action, one.model_version, one.reason) for one in log] == [
        ("ana", "rollback", 1, "worse"), ("ana", "rollback", 2, "false alarms"), ("bo", "promote", 3, "better still"),
        ("ana", "promote", 2, "better"), ("platform", "promote", 1, "first version"),
    ]  # fmt: skip
    assert all(before <= one.at <= datetime.now(UTC) for one in log[:4])
    assert (world.settings.models_dir / "models.config").read_text() == models_config(
        NAME, str(world.settings.models_dir.resolve() / NAME), world.stores.results.release()
    )


def test_versions_that_cannot_serve_are_refused_and_stable_stays(world):
    world.push(2)
    (world.push(3) / "saved_model.pb").unlink()
    changed = world.push(4) / "saved_model.pb"
    changed.write_bytes(changed.read_bytes() + b"\0")
    refused = {
        9: (NotFoundError, "was never pushed by a run that was blessed"),
        3: (ModelUnavailableError, "is not whole"),
        4: (ModelUnavailableError, "not those that were pushed"),
        1: (RequestError, "is stable already"),
    }
    for version, (error, words) in refused.items():
        for act in ("promote", "shadow", "canary"):
            arguments = (5.0, "") if act == "canary" else ("",)
            with pytest.raises(error, match=words):
                getattr(operate(world), act)(version, *arguments)
    assert [one.release_id for one in world.stores.results.releases()] == [world.stores.results.release().release_id]
    assert world.stores.results.release().stable == 1


def test_of_two_operators_at_once_one_is_told_who_was_faster(world):
    for version in (2, 3):
        world.push(version)
    operators = {version: operate(world, f"operator {version}") for version in (2, 3)}  # both have seen the same state
    outcome = {}
    barrier = threading.Barrier(2)

    def promote(version):
        barrier.wait()
        try:
            outcome[version] = operators[version].promote(version, "now")
        except ConflictError as error:
            outcome[version] = str(error)

    threads = [threading.Thread(target=promote, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [version for version, found in outcome.items() if isinstance(found, Release)]
    loser = 5 - winner
    assert f"operator {winner} was faster: promote {winner}" in outcome[loser]
    assert world.stores.results.release().stable == winner
    assert f'key: "stable" value: {winner}' in (world.settings.models_dir / "models.config").read_text()


def test_shadow_is_stored_apart_reported_and_adopted(world):
    window_sets = [world.add(f"rec {i}", 100 + i, label="NV"[i % 2]) for i in range(4)]
    world.push(2, scale=0.09)
    operate(world).shadow(2, "try it")
    report = score(world.settings, world.stores)
    n = sum(s.n_windows for s in window_sets)
    assert (report.model_version, report.scored, report.shadow_scored) == (1, n, n)
    assert (world.count(t.scores, 2), world.count(t.anomalies, 2), world.count(t.shadow_scores, 2)) == (0, 0, n)
    again = score(world.settings, world.stores)
    assert (again.windows_in, again.shadow_scored) == (0, 0)

    found = compare_shadow(world.stores, limit=7)
    assert (found["windows"], found["only_stable_scored"], found["only_challenger_scored"]) == (n, 0, 0)
    (of_1,), (of_2,) = ([world.stores.results.all_scores(v)] for v in (1, 2))
    np.testing.assert_allclose(of_2["score"], of_1["score"] * 0.09 / 0.05, rtol=1e-4)
    assert found["score_shift"]["mean"] == pytest.approx(float((of_2["score"] - of_1["score"]).mean()), rel=1e-4)
    assert found["agreement"] == pytest.approx(float((of_1["verdict"] == of_2["verdict"]).mean()))
    assert found["only_challenger_found"] == int((of_2["verdict"] & ~of_1["verdict"]).sum()) > 7
    assert {name: one["n"] for name, one in found["by_recording"].items()} == {
        s.recording: s.n_windows for s in window_sets
    }
    assert {name: one["n"] for name, one in found["by_class"].items()} == {"N": 202, "V": 204}
    assert len(found["only_one_found"]) == 7
    assert found["stable_model_s_per_window"] > 0
    assert found["challenger_model_s_per_window"] > 0

    operate(world).promote(2, "better")
    assert (world.count(t.scores, 2), world.count(t.shadow_scores, 2)) == (n, n)
    assert world.count(t.anomalies, 2) == int(of_2["verdict"].sum())
    assert world.count(t.recording_summaries, 2) == 4
    assert score(world.settings, world.stores).windows_in == 0
    assert operate(world).rollback("no").stable == 1
    assert score(world.settings, world.stores).windows_in == 0


def test_a_canary_serves_a_stable_share_of_recordings(world):
    names = [f"rec {i}" for i in range(12)]
    for name in names:
        world.add(name, 20)
    world.push(2, scale=0.2)
    release = operate(world).canary(2, 40.0, "")
    chosen = {name for name in names if release.version_for(name) == 2}
    assert 0 < len(chosen) < 12
    wider = operate(world).canary(2, 70.0, "")
    assert chosen < {name for name in names if wider.version_for(name) == 2}
    operate(world).canary(2, 40.0, "")
    score(world.settings, world.stores)
    with world.stores.results.transaction() as connection:
        rows = connection.execute(t.recording_summaries.select()).mappings().all()
    assert {row["recording"]: row["model_version"] for row in rows} == {n: 2 if n in chosen else 1 for n in names}
    now = world.stores.results.release()
    found = world.stores.results.anomalies(AnomalyFilter(now.stable, release=now), limit=10_000)
    assert {(row["recording"], row["model_version"]) for row in found} <= {(n, 2 if n in chosen else 1) for n in names}
    assert {row["recording"] for row in found if row["model_version"] == 2} == chosen
    assert world.stores.results.review_counts(now, "main") == {"unreviewed": len(found)}
    (bucket,) = world.stores.results.buckets(now, "main", *EVER, "month", None)
    assert (bucket["anomalies"], bucket["recordings"]) == (len(found), len({row["recording"] for row in found}))
    totals = world.stores.results.site_totals(now, "main")
    assert (totals["recordings"], totals["scored"]) == (12, sum(row["scored"] for row in rows))
    assert world.stores.results.site_totals(2, "main")["recordings"] == len(chosen)
    summaries = world.stores.results.summaries({row["recording_id"] for row in rows}, now)
    assert {row["recording"]: row["model_version"] for row in summaries} == {n: 2 if n in chosen else 1 for n in names}
    shares = [
        sum(Release(**{**vars(now), "canary_percent": p}).in_canary(f"r{i}") for i in range(4000)) for p in (5, 50)
    ]
    assert shares == pytest.approx([200, 2000], rel=0.25)


def test_prune_keeps_what_is_released(world):
    for version in (2, 3, 4, 5):
        world.push(version)
    operate(world).promote(3, "")
    operate(world).shadow(4, "")
    assert operate(world).prune(0, "disk") == [5, 2]
    assert sorted(int(path.name) for path in (world.settings.models_dir / NAME).iterdir()) == [1, 3, 4]
    assert operate(world).overview()["log"][0]["reason"] == "disk: files of 5, 2"
    with pytest.raises(ModelUnavailableError):
        operate(world).promote(5, "")
    states = {row["model_version"]: (row["labels"], row["files"]) for row in operate(world).overview()["versions"]}
    assert states == {
        1: (["previous"], "ok"), 2: ([], "missing"), 3: (["stable"], "ok"), 4: (["shadow"], "ok"), 5: ([], "missing"),
    }  # fmt: skip


def test_compare_on_known_classes(world):
    for i in range(6):
        world.add(f"rec {i}", 60, label="NV"[i % 2])
    world.push(2, scale=0.079)
    operate(world).shadow(2, "")
    score(world.settings, world.stores)
    found = compare_on_known(world.stores, 1, 2)
    assert (found["windows"], found["anomalous"], found["recordings"], found["resampled"]) == (
        360,
        180,
        6,
        "recordings",
    )
    auc = found["measures"]["roc_auc"]["difference"]
    assert auc["value"] == pytest.approx(0, abs=1e-6), "twice the score ranks alike"
    assert auc["low"] <= auc["value"] <= auc["high"]
    for name, measure in found["measures"].items():
        assert measure["b"]["low"] <= measure["b"]["value"] <= measure["b"]["high"], name
    assert found["measures"]["precision"]["a"]["value"] is None, "version 1 flags nothing"
    with pytest.raises(NotFoundError):
        compare_on_known(world.stores, 1, 99)


def test_ranking_measures_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, roc_auc_score

    random = np.random.default_rng(1)
    for _ in range(20):
        truth = random.random(200) < 0.3
        score_of = np.round(truth + random.normal(size=200), 1)  # with ties
        assert roc_auc(truth, score_of) == pytest.approx(roc_auc_score(truth, score_of))
        assert average_precision(truth, score_of) == pytest.approx(average_precision_score(truth, score_of))


REPORT = {
    "challenger": 2, "windows": 6000, "agreement": 0.97, "stable_flagged": 0.03, "challenger_flagged": 0.04,
    "stable_model_s_per_window": 1e-4, "challenger_model_s_per_window": 1.2e-4, "ap_difference": 0.01,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"ap_difference": None}, None),
        ({"windows": 10}, "windows is 10, at least 5000 is needed"),
        ({"agreement": 0.5}, "agreement is 0.5"),
        ({"challenger_flagged": 0.3}, "flagged_ratio is 10"),
        ({"challenger_flagged": 0.003}, "flagged_ratio is 0.1"),
        ({"challenger_model_s_per_window": 1e-3}, "latency_ratio is 10"),
        ({"challenger_model_s_per_window": None}, "latency_ratio is not known"),
        ({"ap_difference": -0.1}, "ap_difference is -0.1, at least -0.02 is needed"),
    ],
)
def test_the_policy_promotes_when_all_gates_hold(change, words):
    decision = decide(ReleaseSettings(auto_promote=True), {**REPORT, **change})
    assert decision.promote == (words is None)
    assert (words or "all gates passed") in decision.reason
    assert set(decision.numbers) == {"windows", "agreement", "flagged_ratio", "latency_ratio", "ap_difference"}


def test_automatic_decisions_are_logged_with_their_numbers(new_stores, tmp_path):
    policy = {"auto_promote": True, "min_windows": 50, "max_latency_ratio": 1000.0, "max_flagged_ratio": 1000.0}
    world = ReleaseWorld(new_stores(), tmp_path / "data", release=policy)
    world.push(1, scale=0.05)
    world.push(2, scale=0.0501)
    world.push(3, scale=1.0)
    world.add("one", 60)
    with pytest.raises(NotFoundError, match="no version is in shadow"):
        operate(world).decide()
    operate(world).shadow(3, "")
    score(world.settings, world.stores)
    held = operate(world, "policy").decide()
    assert (held.action, held.stable, held.model_version) == ("hold", 1, 3)
    assert held.numbers["windows"] == 60
    assert "agreement is" in held.reason
    operate(world).shadow(2, "")
    score(world.settings, world.stores)
    promoted = operate(world, "policy").decide()
    assert (promoted.action, promoted.stable, promoted.previous) == ("promote", 2, 1)
    assert promoted.numbers["agreement"] > 0.9
    assert labels_of(promoted, 2) == ["stable"]
    off = ReleaseWorld(world.stores, tmp_path / "data")
    with pytest.raises(RequestError, match="is off"):
        operate(off).decide()


def test_the_command(world, run_cli, tmp_path):
    world.push(2)
    file = tmp_path / "state.json"
    ran = run_cli("serving.release", "promote", 2, "--why", "better", "--who", "ana", "--json", file, env=world.env)
    assert ran.code == 0, ran.stderr
    state = json.loads(file.read_text())
    assert [(row["model_version"], row["labels"]) for row in state["versions"]] == [(2, ["stable"]), (1, ["previous"])]
    assert (state["log"][0]["operator"], state["log"][0]["what"], state["log"][0]["reason"]) == (
        "ana",
        "promote 2",
        "better",
    )
    assert "promote 2" in ran.stdout
    ran = run_cli("serving.release", "promote", env=world.env)
    assert (ran.code, ran.stderr) == (2, "error: release promote: is about 1 versions, not 0. See --help.\n")
