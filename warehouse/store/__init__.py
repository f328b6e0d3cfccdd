"""The two databases: tables, migrations, and all SQL."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warehouse.store.database import migrate, resolve_urls
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse


@dataclass(frozen=True)
class Stores:
    """Both databases, open and migrated."""

    warehouse: Warehouse
    results: Results


@contextlib.contextmanager
def open_stores(
    warehouse_url: str | None,
    results_url: str | None,
    data_dir: Path,
    *,
    pool_size: int = 5,
    query_timeout_s: float | None = None,
) -> Iterator[Stores]:
    """Opens both databases, starting the embedded PostgreSQL where no URL is given, and migrates them.

    Args:
        query_timeout_s: longest that a statement may take; None for any time.

    Raises:
        ConfigurationError: a URL is no PostgreSQL URL.
        DatabaseUnavailableError: a database does not answer.
        StorageError: a disk is full or cannot be written.
    """
    urls = resolve_urls(warehouse_url, results_url, data_dir)
    migrate(urls.warehouse, "warehouse")
    migrate(urls.results, "results")
    stores = Stores(
        Warehouse.open(urls.warehouse, pool_size=pool_size, query_timeout_s=query_timeout_s),
        Results.open(urls.results, pool_size=pool_size, query_timeout_s=query_timeout_s),
    )
    try:
        yield stores
    finally:
        stores.warehouse.close()
        stores.results.close()
