"""Database connections and queries of a process, by SQLAlchemy's events."""

import time
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from monitoring.metrics import DURATION_BUCKETS_S
from warehouse.store import Stores

_STARTED = "ecg_query_started"
_TAKEN = "ecg_connection_taken"


class DatabaseMetrics(Collector):
    """Query time, time that connections are held (which counts COPY too), failed statements, and the pool."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queries = Histogram(
            "ecg_database_query_duration_seconds", "A statement, from its sending to its first row.", ("database",),
            buckets=DURATION_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._held = Histogram(
            "ecg_database_connection_held_seconds", "From taking a connection from the pool to giving it back.",
            ("database",), buckets=DURATION_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "ecg_database_errors", "Statements and connections that failed.", ("database", "error"), registry=registry
        )
        self._pools: dict[str, QueuePool] = {}
        registry.register(self)

    def watch(self, stores: Stores) -> None:
        """Observes both databases from here on."""
        self.watch_engine(stores.warehouse.engine, "warehouse")
        self.watch_engine(stores.results.engine, "results")

    def watch_engine(self, engine: sa.Engine, database: str) -> None:
        """Observes an engine under a database's name."""
        queries, held = self._queries.labels(database), self._held.labels(database)

        def begin(connection: sa.Connection, *_: Any) -> None:
            connection.info.setdefault(_STARTED, []).append(time.perf_counter())

        def end(connection: sa.Connection, *_: Any) -> None:
            queries.observe(time.perf_counter() - connection.info[_STARTED].pop())

        def fail(context: Any) -> None:
            self._errors.labels(database, type(context.original_exception).__name__).inc()
            if context.connection is not None and context.connection.info.get(_STARTED):
                context.connection.info[_STARTED].pop()

        def take(_: Any, record: Any, __: Any) -> None:
            record.info[_TAKEN] = time.perf_counter()

        def give_back(_: Any, record: Any) -> None:
            if (taken := record.info.pop(_TAKEN, None)) is not None:
                held.observe(time.perf_counter() - taken)

        event.listen(engine, "before_cursor_execute", begin)
        event.listen(engine, "after_cursor_execute", end)
        event.listen(engine, "handle_error", fail)
        event.listen(engine, "checkout", take)
        event.listen(engine, "checkin", give_back)
        if isinstance(engine.pool, QueuePool):
            self._pools[database] = engine.pool

    def describe(self) -> list[Metric]:
        """Nothing is promised."""
        return []

    def collect(self) -> list[Metric]:
        size = GaugeMetricFamily("ecg_database_pool_size", "Connections kept, at most.", labels=["database"])
        used = GaugeMetricFamily("ecg_database_pool_in_use", "Connections in use.", labels=["database"])
        for database, pool in self._pools.items():
            size.add_metric([database], pool.size())
            used.add_metric([database], pool.checkedout())
        return [size, used]
