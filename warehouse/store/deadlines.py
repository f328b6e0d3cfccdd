"""A limit to waiting for a database's answer: psycopg2 has none of its own once a connection stands.

`statement_timeout` is kept by the server, so it says nothing of a network that no longer delivers, or of a server that
stands still. Here one thread of the process looks after all statements under way, and shuts the socket of one that is
late: libpq sees the end of the connection, and the statement fails as if the server had gone.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg2
from psycopg2 import extensions

_LOOK_EVERY_S: Final = 0.25


class _Waiting:
    """A statement under way."""

    __slots__ = ("fd", "late", "until")

    def __init__(self, fd: int, until: float) -> None:
        self.fd, self.until, self.late = fd, until, False


class _Watch:
    """Ends connections whose answer is late. One a process; a fork has a thread of its own as soon as it asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[_Waiting] = set()
        self._pid = 0

    @contextlib.contextmanager
    def limit(self, connection: Any, seconds: float) -> Iterator[None]:
        """Whatever is asked of the server meanwhile is answered in time, or raises psycopg2.OperationalError."""
        if connection.closed:
            yield
            return
        if self._pid != os.getpid():
            self._begin()
        one = _Waiting(connection.fileno(), time.monotonic() + seconds)
        with self._lock:
            self._waiting.add(one)
        try:
            yield
        except psycopg2.Error as error:
            if one.late:
                raise psycopg2.OperationalError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            with self._lock:  # from here on the number of the socket may be another's
                self._waiting.discard(one)

    def _begin(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid, self._waiting = os.getpid(), set()
            threading.Thread(target=self._look, name="database-deadlines", daemon=True).start()

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            with self._lock:
                for one in self._waiting:
                    if now > one.until and not one.late:
                        one.late = True
                        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(one.fd)) as same:
                            same.shutdown(socket.SHUT_RDWR)


_WATCH: Final = _Watch()


class LimitedConnection(extensions.connection):
    """A connection each of whose statements is answered within `answer_within_s`, or fails.

    To be given to psycopg2 as `connection_factory`, by `limited`.
    """

    answer_within_s: float

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """As psycopg2's."""
        options.setdefault("cursor_factory", LimitedCursor)
        return super().cursor(*arguments, **options)

    def commit(self) -> None:
        """As psycopg2's."""
        with _WATCH.limit(self, self.answer_within_s):
            super().commit()

    def rollback(self) -> None:
        """As psycopg2's."""
        with _WATCH.limit(self, self.answer_within_s):
            super().rollback()


class LimitedCursor(extensions.cursor):
    """A cursor of a `LimitedConnection`."""

    connection: LimitedConnection

    def execute(self, *arguments: Any) -> None:
        """As psycopg2's."""
        with _WATCH.limit(self.connection, self.connection.answer_within_s):
            super().execute(*arguments)

    def executemany(self, *arguments: Any) -> None:
        """As psycopg2's; one limit for all of it."""
        with _WATCH.limit(self.connection, self.connection.answer_within_s):
            super().executemany(*arguments)

    def copy_expert(self, *arguments: Any) -> None:
        """As psycopg2's."""
        with _WATCH.limit(self.connection, self.connection.answer_within_s):
            super().copy_expert(*arguments)

    def fetchmany(self, *arguments: Any) -> Any:
        """As psycopg2's; of a cursor that the server keeps, it is a question of its own."""
        if self.name is None:
            return super().fetchmany(*arguments)
        with _WATCH.limit(self.connection, self.connection.answer_within_s):
            return super().fetchmany(*arguments)


def limited(answer_within_s: float) -> type[LimitedConnection]:
    """A connection class with this limit."""
    return type("LimitedConnection", (LimitedConnection,), {"answer_within_s": answer_within_s})
