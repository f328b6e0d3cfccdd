"""What listings of a model version's findings have in common: which version, which recordings, where a page starts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api.answers import int_to_score, score_to_int
from api.deps import Services
from api.queries import AnomalyQuery, EpisodeQuery, FindingsQuery
from configs.errors import RequestError
from warehouse.store.binary_copy import to_microseconds
from warehouse.store.records import ModelVersion, Release
from warehouse.store.window_block import to_datetime

ServedBy = int | Release
PagedQuery = AnomalyQuery | EpisodeQuery
Position = tuple[datetime | float, int]


def start_of_page(services: Services, operation: str, query: PagedQuery) -> tuple[ServedBy, Position | None]:
    """Whose findings are listed, and the key of the last row of the page before.

    Raises:
        RequestError: the page token is not of this listing.
        NotFoundError: there is no such version.
    """
    if query.page_token is None:
        return served_by(services, query.model_version), None
    number, key, row_id = services.page_tokens.read(query.page_token, operation, query.filters(), 3)
    try:
        last = int_to_score(key) if query.sort.endswith("score") else to_datetime(key)
    except OverflowError as error:
        raise RequestError("page_token", "points outside of time", "Start again without page_token.") from error
    if query.model_version is None:
        return services.stores.results.release(number), (last, row_id)
    return services.models.version(number).model_version, (last, row_id)


def served_by(services: Services, model_version: int | None) -> ServedBy:
    """The version asked for; the release of models that serves now when none was.

    Raises:
        NotFoundError: there is no such version.
        ModelUnavailableError: none is released yet.
    """
    if model_version is None:
        return services.models.release()
    return services.models.version(model_version).model_version


def next_token(services: Services, operation: str, query: PagedQuery, by: ServedBy, last: Mapping[str, Any]) -> str:
    """The token of the page after a row with `time`, `score` and `row_id`."""
    number = by if isinstance(by, int) else by.release_id
    key = score_to_int(last["score"]) if query.sort.endswith("score") else to_microseconds(last["time"])
    return services.page_tokens.issue(operation, query.filters(), (number, key, last["row_id"]))


def stable_of(by: ServedBy) -> int:
    """The version that is told of a listing: the stable one of a release."""
    return by if isinstance(by, int) else by.stable


def model_of(services: Services, model_version: int | None) -> ModelVersion:
    """The version asked for; the stable one when none was.

    Raises:
        NotFoundError: there is no such version.
        ModelUnavailableError: none is released yet.
    """
    return services.models.stable() if model_version is None else services.models.version(model_version)


def recordings_of(services: Services, site: str, query: FindingsQuery) -> list[tuple[int, str]] | None:
    """Recordings that a listing is about; None for all of the site."""
    if query.recording_id is None and query.patient is None:
        return None
    return services.stores.warehouse.named_recordings(site, recording_id=query.recording_id, pseudonym=query.patient)
