"""Tables to take away, made as they are sent: CSV and Parquet."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from api import parquet
from api.answers import utc

PAGE = 5000

#: Column to its kind in Parquet. Pages come as rows with these keys.
ANOMALY_COLUMNS: Mapping[str, str] = {
    "model_version": "int64", "window_id": "int64", "recording_id": "int64", "recording": "string",
    "recorded_at": "timestamp", "r_peak_s": "float64", "score": "float32", "lead": "string", "label": "string",
    "episode_id": "int64", "quality": "float32", "familiarity": "float32", "review_status": "string",
    "verdict": "string", "review_label": "string", "cause": "string",
}  # fmt: skip
REVIEW_COLUMNS: Mapping[str, str] = {
    "review_id": "int64", "batch_id": "int64", "action": "string", "model_version": "int64", "window_id": "int64",
    "recording_id": "int64", "episode_id": "int64", "score": "float32", "reviewer": "string", "role": "string",
    "verdict": "string", "label": "string", "cause": "string", "comment": "string", "sampled": "bool",
    "supersedes": "int64", "undoes": "int64", "undone_by": "int64", "created_at": "timestamp",
}  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run what starts with one

Pages = Iterable[Sequence[Mapping[str, Any]]]


def follow(page_after: Callable[[Any], list[dict[str, Any]]], key_of: Callable[[Mapping[str, Any]], Any]) -> Pages:
    """All pages of a keyset listing.

    Args:
        page_after: gives the page after a key; None for the first.
        key_of: the key of a row.
    """
    after = None
    while rows := page_after(after):
        yield rows
        if len(rows) < PAGE:
            return
        after = key_of(rows[-1])


def as_csv(pages: Pages, columns: Mapping[str, str]) -> Iterator[bytes]:
    """RFC 4180, UTF-8, with a header line; times in UTC, nothing for null."""
    yield _lines([list(columns)])
    for rows in pages:
        yield _lines([[_cell(row[name]) for name in columns] for row in rows])


def as_parquet(pages: Pages, columns: Mapping[str, str]) -> Iterator[bytes]:
    """A Parquet file, a row group a page; times in UTC."""
    yield from parquet.write(pages, columns)


def _lines(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        moment = utc(value)
        assert moment is not None
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
