"""What api.parquet writes, read with pyarrow."""

import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from api import parquet

pytestmark = pytest.mark.unit

COLUMNS = {"b": "bool", "i": "int64", "f": "float32", "d": "float64", "s": "string", "t": "timestamp"}
ARROW = {
    "b": pa.bool_(), "i": pa.int64(), "f": pa.float32(), "d": pa.float64(), "s": pa.string(),
    "t": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "b": st.booleans(),
    "i": st.integers(-(2**63), 2**63 - 1),
    "f": st.floats(width=32, allow_nan=False),
    "d": st.floats(allow_nan=False),
    "s": st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    "t": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | kind for name, kind in VALUES.items()}), max_size=20)


def read(pages: list[list[dict[str, Any]]]) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(b"".join(parquet.write(pages, COLUMNS))))


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=3))
def test_what_is_written_is_read_again(pages: list[list[dict[str, Any]]]) -> None:
    file = read(pages)
    assert {field.name: field.type for field in file.schema_arrow} == ARROW
    assert file.num_row_groups == max(1, sum(bool(page) for page in pages))
    table = file.read()
    table.validate(full=True)
    assert table.to_pylist() == [row for page in pages for row in page]


def test_long_pages_and_many_columns() -> None:
    moment = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)
    row = {"b": True, "i": 7, "f": 0.5, "d": None, "s": "größer", "t": moment}
    file = read([[{**row, "i": i} for i in range(5000)]] * 2)
    assert file.metadata.num_rows == 10_000
    assert file.read(["i"])["i"].to_pylist() == [*range(5000), *range(5000)]
    assert file.read(["s", "t"]).slice(9999).to_pylist() == [{"s": "größer", "t": moment}]
    names = {f"c{i}": "int64" for i in range(20)}
    wide = pq.read_table(io.BytesIO(b"".join(parquet.write([[dict.fromkeys(names, 3)]], names))))
    assert wide.to_pylist() == [dict.fromkeys(names, 3)]
