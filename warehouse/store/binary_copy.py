"""PostgreSQL's binary COPY format to and from numpy, a block of rows at a time.

Rows of fixed width are one structured array, so packing and unpacking are single numpy calls.
Source: PostgreSQL documentation, COPY, "Binary Format".
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, no flags, no header extension
_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

Array = npt.NDArray[Any]  # the element type is the column's kind
Column = tuple[str, str, Array]  # name, kind, values
Wire = str | np.dtype[np.void] | np.dtype[np.bytes_]

#: PostgreSQL type to the numpy type of its binary form (big-endian). `bytes:N` is bytea or char(N) of N bytes.
_WIRE = {
    "int2": ">i2",
    "int4": ">i4",
    "int8": ">i8",
    "float4": ">f4",
    "float8": ">f8",
    "bool": "?",
    "timestamptz": ">i8",
}


def _wire_type(kind: str) -> np.dtype[np.generic]:
    if kind.startswith("bytes:"):
        return np.dtype(f"V{kind.removeprefix('bytes:')}")
    return np.dtype(_WIRE[kind])


def _row_type(kinds: Mapping[str, str]) -> np.dtype[np.void]:
    fields: list[tuple[str, str | np.dtype[np.generic]]] = [("#fields", ">i2")]
    for name, kind in kinds.items():
        fields += [("#" + name, ">i4"), (name, _wire_type(kind))]
    return np.dtype(fields)


def pack(columns: Sequence[Column]) -> bytes:
    """Packs columns of equal length into one binary COPY stream.

    Args:
        columns: (name, kind, values); kind is a PostgreSQL type name, or `bytes:N` with values of N bytes a row
            (an `S` or `V` array, or any (n, ...) array whose rows are N bytes). No nulls.

    Returns:
        The stream, header and trailer included.
    """
    kinds = {name: kind for name, kind, _ in columns}
    rows = np.zeros(len(columns[0][2]), dtype=_row_type(kinds))
    rows["#fields"] = len(columns)
    for name, kind, values in columns:
        rows["#" + name] = _wire_type(kind).itemsize
        if kind.startswith("bytes:"):
            size = _wire_type(kind).itemsize
            if values.nbytes != len(values) * size:
                raise ValueError(f"column {name}: rows of {values.nbytes // len(values)} bytes, expected {size}")
            if size:  # else there is nothing behind its length
                rows[name] = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=f"V{size}")
        else:
            rows[name] = values
    return _HEADER + rows.tobytes() + _TRAILER


def unpack(stream: bytes, kinds: Mapping[str, str]) -> dict[str, Array]:
    """Unpacks a binary COPY stream of fixed-width rows without nulls.

    Args:
        stream: what `COPY ... TO STDOUT (FORMAT BINARY)` gave.
        kinds: column name to kind, in the order of the query's columns; as in `pack`.

    Returns:
        Native-endian arrays (n,), and uint8 (n, N) for `bytes:N`.

    Raises:
        ValueError: a row has another width: a null, or a value of another length.
    """
    row_type = _row_type(kinds)
    body = memoryview(stream)[len(_HEADER) : len(stream) - len(_TRAILER)]
    if len(body) % row_type.itemsize:
        raise ValueError(f"{len(body)} bytes are no whole number of rows of {row_type.itemsize}")
    rows = np.frombuffer(body, dtype=row_type)
    unpacked: dict[str, Array] = {}
    for name, kind in kinds.items():
        wire = _wire_type(kind)
        if not np.all(rows["#" + name] == wire.itemsize):
            raise ValueError(f"column {name}: a value that is not {wire.itemsize} bytes")
        if kind.startswith("bytes:"):
            unpacked[name] = np.ascontiguousarray(rows[name]).view(np.uint8).reshape(len(rows), wire.itemsize)
        else:
            unpacked[name] = rows[name].astype(wire.newbyteorder("="))
    return unpacked


def to_microseconds(moment: datetime) -> int:
    """A timezone-aware moment as `timestamptz` on the wire: microseconds since 2000-01-01 UTC."""
    delta = moment - _POSTGRES_EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
