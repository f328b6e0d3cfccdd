"""What the warehouse's and the results' repositories share: transactions with clear errors, and COPY both ways."""

import contextlib
import functools
import io
import random
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, Self, TypeVar

import numpy as np
import sqlalchemy as sa

from configs.errors import DatabaseBusyError
from warehouse.store.binary_copy import Array, Column, pack, unpack
from warehouse.store.database import make_engine, translate_errors

ALL_SITES: Final = "*"
#: Whose rows the transactions of this thread or task may see, where the database enforces it (`python -m
#: warehouse.roles`). Nobody's until somebody says so.
_site: ContextVar[str] = ContextVar("ecg_site", default="")
_ENFORCED: Final = sa.text(
    "SELECT coalesce(bool_or(row_security_active(c.oid)), false) FROM pg_class c "
    "WHERE c.relname IN ('recordings', 'anomalies') AND c.relnamespace = CAST(current_schema() AS regnamespace)"
)


def enter_site(site: str) -> None:
    """From here on, this task's transactions see a site's rows alone; `ALL_SITES` sees all."""
    _site.set(site)


@contextlib.contextmanager
def at_site(site: str) -> Iterator[None]:
    """The same, until the end."""
    token = _site.set(site)
    try:
        yield
    finally:
        _site.reset(token)


_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
_PAUSES_S: Final = (0.02, 0.1, 0.5)


def retried(method: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Runs a method again, up to three times, when its transaction was given up for another's sake (a deadlock).

    For methods that are one transaction and nothing else: what was given up has left no trace.
    """

    @functools.wraps(method)
    def run(*arguments: _Given.args, **options: _Given.kwargs) -> _Result:
        for pause_s in _PAUSES_S:
            try:
                return method(*arguments, **options)
            except DatabaseBusyError:
                time.sleep(random.uniform(0.5, 1.0) * pause_s)  # not both again at the same moment
        return method(*arguments, **options)

    return run


class Repository:
    """SQL over one database. Safe to share between threads; a process of its own opens its own."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._enforced: bool | None = None  # whether this user sees the rows of one site alone; None: not asked yet

    @classmethod
    def open(cls, url: str, *, pool_size: int = 5, query_timeout_s: float | None = None) -> Self:
        """Connects lazily; the schema must have been migrated."""
        return cls(make_engine(url, pool_size=pool_size, query_timeout_s=query_timeout_s))

    @property
    def url(self) -> str:
        return self._engine.url.render_as_string(hide_password=False)

    @property
    def engine(self) -> sa.Engine:
        """For who observes it; statements go through `transaction`."""
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            DatabaseBusyError: it gave this transaction up for another's sake; see `retried`.
            StorageError: its disk is full.
        """
        with translate_errors(self._engine.url), self._engine.begin() as connection:
            if self._enforced is None:
                self._enforced = bool(connection.execute(_ENFORCED).scalar_one())
            if self._enforced:
                connection.execute(sa.text("SELECT set_config('ecg.site', :site, true)"), {"site": _site.get()})
            yield connection

    def check(self) -> None:
        """Asks the database for a 1.

        Raises:
            DatabaseUnavailableError: it does not answer.
        """
        with self.transaction() as connection:
            connection.execute(sa.select(sa.literal(1)))


def copy_in(connection: sa.Connection, table: str, columns: Sequence[Column]) -> None:
    """Appends rows by binary COPY; see `binary_copy.pack` for `columns`."""
    names = ", ".join(name for name, _, _ in columns)
    with _cursor(connection) as cursor:
        stream = _Stream(pack(columns), cursor.connection.fileno())
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)", stream)


class _Stream(io.BytesIO):
    """What is copied into the database, over this socket.

    psycopg2 sends the end of a stream without letting other threads of Python run. Where the server takes nothing more
    for a while, because it waits for another transaction, that could be one of this process, which then never ends. So
    the end is told once there is room for it: what is left to send by then are a few kB.
    """

    def __init__(self, content: bytes, socket: int) -> None:
        super().__init__(content)
        self._socket = select.poll()
        self._socket.register(socket, select.POLLOUT)

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if not found:
            self._socket.poll()
        return found


def copy_out(
    connection: sa.Connection, query: str, parameters: Mapping[str, Any], kinds: Mapping[str, str]
) -> dict[str, Array]:
    """Reads a query's rows by binary COPY; see `binary_copy.unpack` for `kinds`. Parameters are `%(name)s`."""
    buffer = io.BytesIO()
    with _cursor(connection) as cursor:
        bound = cursor.mogrify(query, dict(parameters)).decode()
        cursor.copy_expert(f"COPY ({bound}) TO STDOUT (FORMAT BINARY)", buffer)
    return unpack(buffer.getvalue(), kinds)


def array_literal(values: Array | Iterable[int]) -> str:
    """Numbers or letters (n,) as PostgreSQL writes an array: one value, where a list would be one for each."""
    return "{" + ",".join(map(str, values.tolist() if isinstance(values, np.ndarray) else values)) + "}"


@contextlib.contextmanager
def _cursor(connection: sa.Connection) -> Iterator[Any]:
    cursor = connection.connection.cursor()
    try:
        yield cursor
    finally:
        cursor.close()
