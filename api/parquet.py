"""A writer of flat tables as Apache Parquet, a row group at a time, for answers that are made as they are sent.

Of the format (https://parquet.apache.org/docs/file-format/) it writes what any reader knows: optional columns, a data
page (version 1) each in a row group, values PLAIN, pages GZIP. pyarrow, which can do all of it, is 74 MB of shared
libraries in an image that needs this much of it; tests/unit/test_parquet.py reads with it what is written here.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np

_MAGIC: Final = b"PAR1"
_OPTIONAL, _PLAIN, _RLE, _DATA_PAGE, _GZIP = 1, 0, 3, 0, 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _I32(int):
    """Thrift's i32; a plain int is its i64."""


_Struct: TypeAlias = "dict[int, Any]"  # field number to value: bool, _I32, int, str, _Struct, or a list of one of these


@dataclass(frozen=True)
class _Kind:
    """How a column is stored.

    Attributes:
        physical: number of the physical type.
        encode: values that are not null to their PLAIN bytes.
        logical: further fields of its SchemaElement, which say what the physical values mean.
    """

    physical: int
    encode: Callable[[list[Any]], bytes]
    logical: _Struct


def _numbers(dtype: str) -> Callable[[list[Any]], bytes]:
    return lambda values: np.array(values, dtype=dtype).tobytes()


def _strings(values: list[Any]) -> bytes:
    encoded = [str(value).encode() for value in values]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def _bits(values: Sequence[bool]) -> bytes:
    return np.packbits(np.array(values, dtype=bool), bitorder="little").tobytes()


def _microseconds(values: list[datetime]) -> bytes:
    spans = [value - _EPOCH for value in values]
    whole = [(span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds for span in spans]
    return np.array(whole, dtype="<i8").tobytes()


#: What a column may be. Fields 6 and 10 of a SchemaElement: the converted and the logical type.
KINDS: Final[Mapping[str, _Kind]] = {
    "bool": _Kind(0, _bits, {}),
    "int64": _Kind(2, _numbers("<i8"), {}),
    "float32": _Kind(4, _numbers("<f4"), {}),
    "float64": _Kind(5, _numbers("<f8"), {}),
    "string": _Kind(6, _strings, {6: _I32(0), 10: {1: {}}}),
    "timestamp": _Kind(2, _microseconds, {6: _I32(10), 10: {8: {1: True, 2: {2: {}}}}}),  # UTC, microseconds
}


def write(pages: Iterable[Sequence[Mapping[str, Any]]], columns: Mapping[str, str]) -> Iterator[bytes]:
    """A Parquet file, piece by piece: a row group a page, then the footer.

    Args:
        pages: rows by column name; None is null. Times know their zone.
        columns: name to a key of `KINDS`, in order.
    """
    yield _MAGIC
    offset, n_rows = len(_MAGIC), 0
    groups: list[_Struct] = []
    for rows in chain(filter(None, pages), [()]):
        if not rows and groups:
            break  # a file of no rows has one empty row group: not every reader knows what to do with none
        chunks: list[_Struct] = []
        parts = []
        for name, kind in columns.items():
            part, chunk = _chunk([row[name] for row in rows], name, KINDS[kind], offset)
            parts.append(part)
            chunks.append(chunk)
            offset += len(part)
        groups.append({1: chunks, 2: sum(chunk[3][6] for chunk in chunks), 3: len(rows)})
        n_rows += len(rows)
        yield b"".join(parts)
    root = {4: "schema", 5: _I32(len(columns))}
    fields = [
        {1: _I32(KINDS[kind].physical), 3: _I32(_OPTIONAL), 4: name, **KINDS[kind].logical}
        for name, kind in columns.items()
    ]
    footer = _compact({1: _I32(2), 2: [root, *fields], 3: n_rows, 4: groups, 6: "ecg-anomaly-platform"})
    yield footer + struct.pack("<I", len(footer)) + _MAGIC


def _chunk(values: list[Any], name: str, kind: _Kind, offset: int) -> tuple[bytes, _Struct]:
    """A column of a row group, and its ColumnChunk."""
    there = [value is not None for value in values]
    levels = _bits(there)
    levels = _varint(len(levels) << 1 | 1) + levels  # one bit-packed run, in groups of eight
    body = struct.pack("<I", len(levels)) + levels + kind.encode([value for value in values if value is not None])
    packer = zlib.compressobj(level=1, wbits=31)  # 31: with gzip's header
    packed = packer.compress(body) + packer.flush()
    page = {1: _I32(len(values)), 2: _I32(_PLAIN), 3: _I32(_RLE), 4: _I32(_RLE)}
    header = _compact({1: _I32(_DATA_PAGE), 2: _I32(len(body)), 3: _I32(len(packed)), 5: page})
    about = {
        1: _I32(kind.physical), 2: [_I32(_PLAIN), _I32(_RLE)], 3: [name], 4: _I32(_GZIP), 5: len(values),
        6: len(header) + len(body), 7: len(header) + len(packed), 9: offset,
    }  # fmt: skip
    return header + packed, {2: offset, 3: about}


# --- Thrift's compact protocol ---------------------------------------------------------------------------------------


def _compact(fields: _Struct) -> bytes:
    """A struct; field numbers ascend by less than 16."""
    out = bytearray()
    last = 0
    for number, value in fields.items():
        code = (1 if value else 2) if isinstance(value, bool) else _code(value)
        out.append((number - last) << 4 | code)
        if not isinstance(value, bool):
            out += _value(value)
        last = number
    return bytes(out) + b"\0"


def _code(value: Any) -> int:
    for kind, code in ((_I32, 5), (int, 6), (str, 8), (list, 9), (dict, 12)):
        if isinstance(value, kind):
            return code
    raise TypeError(type(value))


def _value(value: Any) -> bytes:
    if isinstance(value, int):
        return _varint(value << 1 ^ value >> 63)  # zigzag
    if isinstance(value, str):
        return _varint(len(value.encode())) + value.encode()
    if isinstance(value, list):
        code = _code(value[0]) if value else 12
        head = bytes([len(value) << 4 | code]) if len(value) < 15 else bytes([0xF0 | code]) + _varint(len(value))
        return head + b"".join(_value(one) for one in value)
    return _compact(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
