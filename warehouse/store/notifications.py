"""Waiting for what others commit: PostgreSQL's LISTEN on both databases, or a look after a while."""

import select
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg2
import sqlalchemy as sa

from warehouse.store.database import translate_errors

#: Notified when a recording's windows are committed (warehouse), and when the state of releases changes (results).
WINDOWS_CHANNEL = "ecg_windows"
RELEASES_CHANNEL = "ecg_releases"


class Listener:
    """Listens to channels of several databases at once. A context manager.

    Args:
        channels: database URL to channel.

    Raises:
        DatabaseUnavailableError: a database does not answer.
    """

    def __init__(self, channels: dict[str, str]) -> None:
        self._connections: list[Any] = []
        for url, channel in channels.items():
            parsed = sa.make_url(url)
            with translate_errors(parsed):
                connection = psycopg2.connect(
                    parsed.set(drivername="postgresql").render_as_string(hide_password=False), connect_timeout=5
                )
                connection.autocommit = True
                self._connections.append(connection)
                with connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {channel}")

    def wait(self, timeout_s: float) -> bool:
        """Returns at the first notification, True, or after `timeout_s`, False.

        Raises:
            DatabaseUnavailableError: a connection is gone.
        """
        ready, _, _ = select.select(self._connections, [], [], timeout_s)
        heard = False
        for connection in ready:
            with translate_errors(sa.make_url("postgresql://listener/")):
                connection.poll()
            heard = heard or bool(connection.notifies)
            connection.notifies.clear()
        return heard

    def close(self) -> None:
        """Stops listening."""
        for connection in self._connections:
            with suppress(psycopg2.Error):
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
