"""PostgreSQL's binary COPY to numpy and back."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.store.binary_copy import pack, to_microseconds, unpack
from warehouse.store.window_block import bits_to_lead_mask, lead_mask_to_bits, to_datetime

pytestmark = pytest.mark.unit


@given(st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_what_is_packed_is_unpacked(n, seed):
    generator = np.random.default_rng(seed)
    columns = {
        "a": ("int8", generator.integers(-(2**62), 2**62, n)),
        "b": ("int2", generator.integers(-(2**15), 2**15, n).astype(np.int16)),
        "c": ("float4", generator.normal(size=n).astype(np.float32)),
        "d": ("float8", generator.normal(size=n)),
        "e": ("bool", generator.random(n) < 0.5),
        "f": ("bytes:6", generator.integers(-99, 99, (n, 3)).astype("<i2")),
        "g": ("bytes:0", np.zeros((n, 0), np.uint8)),
    }
    stream = pack([(name, kind, values) for name, (kind, values) in columns.items()])
    found = unpack(stream, {name: kind for name, (kind, _) in columns.items()})
    for name in "abcde":
        np.testing.assert_array_equal(found[name], columns[name][1])
    np.testing.assert_array_equal(found["f"].view("<i2").reshape(n, 3), columns["f"][1])
    assert found["g"].shape == (n, 0)


def test_layout_is_what_postgresql_documents():
    stream = pack([("a", "int2", np.array([258], dtype=np.int16))])
    assert stream == b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\x01" + b"\0\0\0\x02" + b"\x01\x02" + b"\xff\xff"


def test_a_value_of_another_length_is_noticed():
    stream = pack([("a", "bytes:3", np.array([b"abc"], dtype="S3"))])
    with pytest.raises(ValueError, match="no whole number of rows"):
        unpack(stream, {"a": "bytes:4"})
    with pytest.raises(ValueError, match="rows of 2 bytes, expected 3"):
        pack([("a", "bytes:3", np.zeros((1, 2), np.uint8))])


def test_moments_survive():
    moment = datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)
    assert to_datetime(to_microseconds(moment)) == moment
    before_2000 = datetime(1975, 1, 1, tzinfo=UTC)
    assert to_datetime(to_microseconds(before_2000)) == before_2000


@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), max_size=20))
def test_lead_masks_survive(rows):
    mask = np.array(rows, dtype=bool).reshape(-1, 12)
    np.testing.assert_array_equal(bits_to_lead_mask(lead_mask_to_bits(mask), 12), mask)
