"""Anomalies over real PostgreSQL and a real socket."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from api_world import (
    LABELS,
    RR_S,
    SPEC,
    START,
    THRESHOLD,
    Scored,
    World,
    check_problem,
    items,
    pages,
    until,
)

from api.paging import LIFETIME

pytestmark = pytest.mark.integration


def test_listing_is_by_time_and_says_what_is_known(client: httpx.Client, scored: Scored) -> None:
    page = client.get("/anomalies", params={"model_version": scored.model_version, "page_size": 1000}).json()
    assert page["next_page_token"] is None
    assert page["model_version"] == scored.model_version
    found = page["items"]
    assert [one["id"] for one in found] == [one["id"] for one in scored.expected]
    for one, expected in zip(found, scored.expected, strict=True):
        assert datetime.fromisoformat(one["time"]) == expected["time"]
        assert one["time"].endswith("Z")
        assert one["r_peak_s"] == pytest.approx(1 + expected["beat"] * RR_S)
        assert (one["recording"], one["lead"], one["score"]) == (
            expected["recording"], expected["lead"], expected["score"],
        )  # fmt: skip
        assert one["threshold"] == THRESHOLD
        label = LABELS[expected["beat"] % len(LABELS)]
        assert one["reference_label"] == (None if label == "U" else label)
        assert one["episode_id"] <= int(one["id"].split("-")[1])


AFTER = START + timedelta(seconds=60)
BEFORE = START + timedelta(seconds=100)
FILTERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "start": ({"start": AFTER.isoformat()}, lambda one: one["time"] >= AFTER),
    "end": ({"end": BEFORE.isoformat()}, lambda one: one["time"] < BEFORE),
    "recording": ({"recording": "201"}, lambda one: one["recording"] == "201"),
    "lead": ({"lead": "V1"}, lambda one: one["lead"] == "V1"),
    "min_score": ({"min_score": 2.3}, lambda one: one["score"] >= 2.3),
}


@pytest.mark.parametrize("names", [c for n in range(1, 6) for c in itertools.combinations(FILTERS, n)], ids="+".join)
def test_filters_compose(client: httpx.Client, scored: Scored, names: tuple[str, ...]) -> None:
    params = {key: value for name in names for key, value in FILTERS[name][0].items()}
    expected = [one["id"] for one in scored.expected if all(FILTERS[name][1](one) for name in names)]
    assert expected, "the combination should find something"
    found = items(client, "/anomalies", model_version=scored.model_version, page_size=7, **params)
    assert [one["id"] for one in found] == expected


def test_bounds_of_times(client: httpx.Client, scored: Scored) -> None:
    third, fourth = scored.expected[2]["time"], scored.expected[3]["time"]
    span = {"start": third.isoformat().replace("+00:00", "Z"), "end": fourth.isoformat()}
    (found,) = items(client, "/anomalies", model_version=scored.model_version, **span)
    assert found["id"] == scored.expected[2]["id"]  # start is included, end is not
    shifted = {"start": third.astimezone(UTC).replace(tzinfo=None).isoformat() + "-00:30"}
    later = items(client, "/anomalies", model_version=scored.model_version, **shifted)
    assert later == []  # half an hour later in UTC


def test_every_listed_score_finds_itself(client: httpx.Client, scored: Scored) -> None:
    for one in items(client, "/anomalies", model_version=scored.model_version)[:15]:
        found = items(client, "/anomalies", model_version=scored.model_version, min_score=one["score"])
        assert one["id"] in [other["id"] for other in found]


def test_nothing_found_is_no_error(client: httpx.Client, scored: Scored) -> None:
    assert items(client, "/anomalies", model_version=scored.model_version, recording="nobody") == []


@pytest.mark.parametrize("page_size", [1, 7, 58])
def test_paging_gives_each_exactly_once_while_rows_are_inserted(
    client: httpx.Client, world: World, page_size: int
) -> None:
    version, name = world.add_model(), f"paging {page_size}"
    first = world.add_recording(name, 59, START)
    world.add_scores(version, first, np.full(59, 2, np.float32))
    base = first.id_range(0, 0)[0]
    found, inserted = [], 0
    for number, page in enumerate(pages(client, "/anomalies", model_version=version, page_size=page_size)):
        found += [one["id"] for one in page["items"]]
        if number < 2:  # as many beats at the same moments, before and after the position of the page
            other = world.add_recording(f"{name} {number}", 59, START)
            world.add_scores(version, other, np.full(59, 2, np.float32))
            inserted += 59
    assert len(found) == len(set(found))
    assert [one for one in found if int(one.split("-")[1]) - base < 59] == [f"{version}-{base + i}" for i in range(59)]
    assert len(items(client, "/anomalies", model_version=version, page_size=1000)) == 59 + inserted


def test_listing_stays_on_its_version_when_a_newer_one_is_promoted(client: httpx.Client, world: World) -> None:
    old = world.add_model()
    window_set = world.add_recording("pushed", 30)
    world.add_scores(old, window_set, np.full(30, 2, np.float32))
    world.clock.now += timedelta(minutes=1)
    first = client.get("/anomalies", params={"page_size": 10}).json()
    assert first["model_version"] == old
    new = world.add_model()
    world.add_scores(new, window_set, np.full(30, 3, np.float32))
    world.clock.now += timedelta(minutes=1)
    second = client.get("/anomalies", params={"page_size": 10, "page_token": first["next_page_token"]}).json()
    assert second["model_version"] == old
    assert {one["score"] for one in second["items"]} == {2.0}
    until(lambda: client.get("/anomalies").json()["model_version"] == new)  # when it is loaded
    assert client.get("/health/ready").json()["parts"]["model"]["model_version"] in (old, new)
    assert client.get(f"/anomalies/{new}-{window_set.id_range(0, 0)[0]}").status_code == 200


def test_tokens_of_others_are_refused(client: httpx.Client, world: World, scored: Scored) -> None:
    params = {"model_version": scored.model_version, "page_size": 5, "lead": "MLII"}
    token = client.get("/anomalies", params=params).json()["next_page_token"]
    middle = len(token) // 2
    altered = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for other in ({**params, "lead": "V1"}, {"model_version": scored.model_version}, {**params, "page_token": altered}):
        body = check_problem(client.get("/anomalies", params={"page_token": token, **other}), 422, "invalid-request")
        assert [found["parameter"] for found in body["errors"]] == ["page_token"]
    check_problem(client.get("/recordings", params={"page_token": token}), 422, "invalid-request")
    resized = client.get("/anomalies", params={**params, "page_size": 6, "page_token": token})
    assert len(resized.json()["items"]) == 6  # the size of a page is no filter
    world.clock.now += LIFETIME + timedelta(seconds=1)
    body = check_problem(client.get("/anomalies", params={**params, "page_token": token}), 422, "invalid-request")
    assert "expired" in body["detail"]


def test_one_anomaly_with_its_signal(client: httpx.Client, world: World, scored: Scored) -> None:
    listed = items(client, "/anomalies", model_version=scored.model_version, recording="200")
    beat = 23  # score 2.3, in the episode of beats 15 to 29; its second lead is not usable
    one = next(item for item in listed if round((item["r_peak_s"] - 1) / RR_S) == beat)
    detail = client.get(f"/anomalies/{one['id']}").json()
    assert {key: detail[key] for key in one} == one
    assert (detail["sampling_rate_hz"], detail["r_peak_index"], detail["feature_version"]) == (180.0, 70, SPEC.digest)
    assert (detail["leads"], detail["lead_usable"]) == (["MLII", "V1"], [True, False])
    ramp = (np.arange(SPEC.window_samples) + beat) / 1000
    np.testing.assert_allclose(detail["samples_mv"], [ramp, -ramp], atol=1e-9)
    np.testing.assert_allclose(detail["reconstruction_mv"], [ramp / 2, -ramp / 2], atol=1e-4)
    np.testing.assert_allclose(detail["sample_error"], [ramp * 5, ramp * 5], atol=1e-4)
    assert detail["rr"] == {"rr_prev_s": 0.8, "rr_next_s": 0.8, "rr_median_s": 0.75, "rr_p90_s": 0.9, "rr_spread": 0.02}
    assert detail["quality"] == 0.875
    episode = detail["episode"]
    assert (episode["n_beats"], episode["label"]) == (15, None)
    assert episode["peak_score"] == pytest.approx(2.9)
    assert (episode["start_s"], episode["end_s"]) == pytest.approx((1 + 15 * RR_S, 1 + 29 * RR_S))
    assert datetime.fromisoformat(episode["start"]) == START + timedelta(seconds=1 + 15 * RR_S)
    assert episode["episode_id"] == one["episode_id"]


def test_an_anomaly_before_its_recording_is_summarised(client: httpx.Client, world: World) -> None:
    version = world.add_model()
    window_set = world.add_recording("one lead", 3, slots=("MLII", ""))
    world.add_scores(version, window_set, np.full(3, 2, np.float32))
    first, second, _ = items(client, "/anomalies", model_version=version)
    assert (first["lead"], second["lead"]) == ("MLII", None)
    detail = client.get(f"/anomalies/{first['id']}").json()
    assert (detail["episode_id"], detail["episode"]) == (None, None)
    assert detail["leads"] == ["MLII", None]
    assert detail["rr"] == dict.fromkeys(("rr_prev_s", "rr_next_s", "rr_median_s", "rr_p90_s", "rr_spread"))


def test_an_anomaly_whose_window_was_dropped(client: httpx.Client, world: World) -> None:
    version = world.add_model()
    window_set = world.add_recording("dropped", 2)
    world.add_scores(version, window_set, np.full(2, 2, np.float32))
    with world.stores.warehouse.transaction() as connection:
        connection.execute(sa.text("DELETE FROM windows WHERE window_id = :id"), {"id": window_set.id_range(0, 0)[0]})
    gone, there = items(client, "/anomalies", model_version=version)
    body = check_problem(client.get(f"/anomalies/{gone['id']}"), 404, "not-found")
    assert "no longer in the warehouse" in body["detail"]
    assert client.get(f"/anomalies/{there['id']}").status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "/anomalies/1-1",
        "/anomalies/999999-1",
        "/anomalies?model_version=999999",
        "/recordings/999999",
        "/models/999999",
    ],
)
def test_what_does_not_exist(client: httpx.Client, scored: Scored, url: str) -> None:
    assert "does not exist" in check_problem(client.get(url), 404, "not-found")["detail"]
