"""Reviews: what a request must look like, and what it sets going."""

from typing import Any

from configs.errors import NotFoundError, RequestError, UnavailableError
from configs.logging import get_logger
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores
from warehouse.store.records import AnomalyFilter, Beat, Opinion
from warehouse.store.review_state import LABELS_OF

MAX_EPISODE_BEATS = 100_000


def review_beat(stores: Stores, site: str, window_id: int, opinion: Opinion) -> list[dict[str, Any]]:
    """Adds a review of one beat, flagged or not.

    Raises:
        NotFoundError: there is no such beat at this site.
        RequestError: the label does not go with the verdict.
    """
    check_opinion(opinion)
    window_set, _ = stores.warehouse.window_set(window_id, site=site)
    if not stores.warehouse.has_window(window_id):
        raise NotFoundError(f"window {window_id}", "does not exist", "GET /anomalies leads to windows.")
    score = stores.results.score_of(opinion.model_version, window_id)
    beat = Beat(
        window_id,
        window_set.recording_id,
        None if score is None else score["score"],
        None if score is None else score["verdict"],
    )
    return stores.results.add_reviews(site, [beat], opinion)


def review_episode(stores: Stores, site: str, opinion: Opinion) -> list[dict[str, Any]]:
    """Adds a review of each anomalous beat of `opinion.episode_id`, all at once.

    Raises:
        NotFoundError: there is no such episode at this site.
        RequestError: the label does not go with the verdict.
    """
    check_opinion(opinion)
    assert opinion.episode_id is not None
    where = AnomalyFilter(opinion.model_version, site=site, episode_id=opinion.episode_id)
    episode = stores.results.episode(opinion.model_version, opinion.episode_id, site=site)
    if episode is not None:
        recordings = [(episode["recording_id"], episode["recording"])]
        where = AnomalyFilter(
            opinion.model_version, site=site, episode_id=opinion.episode_id, recordings=recordings,
            start=episode["start_time"],
        )  # fmt: skip
    rows = stores.results.anomalies(where, limit=MAX_EPISODE_BEATS) if episode is not None else []
    if not rows:
        raise NotFoundError(f"episode {opinion.episode_id}", "does not exist", "GET /episodes lists them.")
    beats = [Beat(row["window_id"], row["recording_id"], row["score"], True) for row in rows]
    return stores.results.add_reviews(site, beats, opinion)


def check_opinion(opinion: Opinion) -> None:
    """Raises:
    RequestError: the label does not go with the verdict.
    """
    allowed = LABELS_OF[opinion.verdict]
    if opinion.label is not None and opinion.label not in allowed:
        send = f"Send one of {', '.join(allowed)} or none." if allowed else "Send none."
        raise RequestError("label", f"{opinion.label} does not go with the verdict {opinion.verdict}", send)


def deliver(stores: Stores) -> None:
    """Tells the warehouse what reviews came to; when it is away, the next delivery does."""
    try:
        deliver_labels(stores)
    except UnavailableError as error:
        get_logger("api").warning("labels_not_delivered", error=str(error))
