"""Sign-in for tests of the service that have no database: everybody is an admin."""

import time

from fastapi import Request

from api.access import SCOPES_OF_ROLE, Access, Principal, RateLimits
from configs.settings import ApiSettings
from warehouse.store.results import Results

CLOSED = "postgresql+psycopg2://someone@127.0.0.1:1/nothing"


class Everybody(Access):
    """Asks for no credentials, and no database."""

    def __init__(self) -> None:
        super().__init__(Results.open(CLOSED), ApiSettings(), "main", lambda: None)  # type: ignore[arg-type,return-value]

    def known(self, request: Request) -> Principal | None:
        return None

    def principal(self, request: Request, *, check_csrf_header: bool = True) -> Principal:
        return Principal("local", "admin", "main", frozenset(SCOPES_OF_ROLE["admin"]))


def no_limits() -> RateLimits:
    return RateLimits(0, time.monotonic)
