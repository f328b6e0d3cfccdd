"""Answers as callers want them: only some fields, and large lists of numbers fast."""

import struct
import typing
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi.responses import Response
from pydantic import BaseModel

from configs.errors import RequestError


class MarkdownResponse(Response):
    """Text to read, with headings and tables."""

    media_type = "text/markdown; charset=utf-8"


def with_fields(body: BaseModel, fields: str | None) -> Any:
    """A body, or of its items (itself, when it has none) only the fields asked for.

    Raises:
        RequestError: there is no such field.
    """
    if fields is None:
        return body
    names = fields.split(",")
    listed = type(body).model_fields.get("items")
    kind = typing.get_args(listed.annotation)[0] if listed is not None else type(body)
    unknown = sorted(set(names) - set(kind.model_fields))
    if unknown:
        raise RequestError("fields", f"{unknown[0]} is no field", f"Send some of {', '.join(kind.model_fields)}.")
    include: Any = {"__all__": set(names)}
    values = body.model_dump(mode="json", include=None if listed is not None else set(names))
    if listed is not None:
        values["items"] = body.model_dump(mode="json", include={"items": include})["items"]
    return json_response(values)


def json_response(value: Any, status_code: int = 200) -> Response:
    """JSON of plain values and numpy arrays; NaN is null."""
    return Response(
        orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z),
        status_code,
        media_type="application/json",
    )


def utc(moment: datetime | None) -> datetime | None:
    """The database gives times in its session's zone."""
    return None if moment is None else moment.astimezone(UTC)


def in_utc(row: typing.Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times in UTC."""
    return {key: value.astimezone(UTC) if isinstance(value, datetime) else value for key, value in row.items()}


def score_to_int(score: float) -> int:
    """A single-precision score as an integer that a page token can hold."""
    return int(struct.unpack(">i", struct.pack(">f", score))[0])


def int_to_score(number: int) -> float:
    """The score again.

    Raises:
        RequestError: it is none.
    """
    try:
        return float(struct.unpack(">f", struct.pack(">i", number))[0])
    except struct.error as error:
        raise RequestError("page_token", "is damaged", "Start again without page_token.") from error
