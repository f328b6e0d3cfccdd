"""Page tokens: where the next page of a listing starts.

A token is base64url of JSON: its format's version, the operation and a digest of the filters it was made for, the
position of the last row seen, when it was made, and a checksum. It is opaque to callers, but no secret: whoever
forges one gets another page of what they may list anyway. The checksum tells a damaged token from a good one.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from configs.errors import RequestError

Clock = Callable[[], datetime]

MAX_TOKEN_LENGTH = 512
LIFETIME = timedelta(hours=24)

_Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class _Token(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    v: Literal[1] = 1
    operation: str
    filters: str
    position: list[_Int64]
    issued: int
    checksum: str = ""

    def expected_checksum(self) -> str:
        return _digest(self.model_dump(exclude={"checksum"}))


class PageTokens:
    """Issues and reads page tokens.

    Args:
        clock: now, timezone-aware.
        lifetime: how long after it was issued a token can be read.
    """

    def __init__(self, clock: Clock, lifetime: timedelta = LIFETIME) -> None:
        self._clock = clock
        self._lifetime = lifetime

    def issue(self, operation: str, filters: Mapping[str, Any], position: Sequence[int]) -> str:
        """Makes the token of the page after `position`.

        Args:
            operation: what is listed.
            filters: of the listing, as the caller gave them; the next page must be asked for with the same.
            position: key of the last row of this page, 64-bit integers.
        """
        token = _Token(
            operation=operation,
            filters=_digest(filters),
            position=list(position),
            issued=int(self._clock().timestamp()),
        )
        token.checksum = token.expected_checksum()
        return base64.urlsafe_b64encode(token.model_dump_json().encode()).decode().rstrip("=")

    def read(self, text: str, operation: str, filters: Mapping[str, Any], n_parts: int) -> tuple[int, ...]:
        """Returns the position in a token.

        Args:
            n_parts: how many integers a position of this operation has.

        Raises:
            RequestError: the token is damaged, expired, or of another operation or other filters.
        """
        token = _parse(text)
        if token.operation != operation or token.filters != _digest(filters):
            raise RequestError(
                "page_token",
                "belongs to a listing with other filters",
                "Send the same filters with every page, or start again without page_token.",
            )
        if self._clock().timestamp() - token.issued > self._lifetime.total_seconds():
            hours = self._lifetime.total_seconds() / 3600
            raise RequestError(
                "page_token", f"expired, it is older than {hours:g} h", "Start again without page_token."
            )
        if len(token.position) != n_parts:
            raise _damaged()
        return tuple(token.position)


def _parse(text: str) -> _Token:
    if len(text) > MAX_TOKEN_LENGTH:
        raise _damaged()
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        token = _Token.model_validate_json(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError as error:  # not ASCII, not base64, not JSON, or not a token: all are ValueErrors
        raise _damaged() from error
    if token.checksum != token.expected_checksum():
        raise _damaged()
    return token


def _damaged() -> RequestError:
    return RequestError(
        "page_token",
        "is damaged, or not from this service",
        "Send next_page_token exactly as it was given, or start again without page_token.",
    )


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
