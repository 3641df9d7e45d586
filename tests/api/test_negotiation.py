"""Headers that ask for a form of an answer, by RFC 9110."""

from __future__ import annotations

import pytest

from api.negotiation import UnsatisfiableError, byte_range, encoding, matches


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, None),
        ("", 10, None),
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=2-5", 10, (2, 6)),
        ("BYTES = 2-5", 10, None),
        ("Bytes=2-5", 10, (2, 6)),
        ("bytes=2-", 10, (2, 10)),
        ("bytes=2-99", 10, (2, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-99", 10, (0, 10)),
        ("bytes=9-", 10, (9, 10)),
        ("bytes=0-1,4-5", 10, None),
        ("bytes=5-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=٣-٤", 10, None),
        ("bytes=1-9999999999999999999999999", 10, None),
        ("lines=1-2", 10, None),
    ],
)
def test_a_range_is_understood_or_ignored(
    header: str | None, size: int, expected: tuple[int, int] | None
) -> None:
    assert byte_range(header, size) == expected


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=11-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)],
)
def test_a_range_outside_is_unsatisfiable(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableError):
        byte_range(header, size)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("ZSTD;Q=0.9, gzip;q=0.8", "zstd"),
        ("*", "zstd"),
        ("*, zstd;q=0", "gzip"),
        ("zstd;q=0, gzip;q=0", "identity"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("br, deflate", "identity"),
        ("gzip;q=2", "identity"),
        ("gzip;q=x, zstd;level=3", "identity"),
        (",,;;,", "identity"),
    ],
)
def test_the_coding_that_is_liked_best_is_taken(header: str | None, expected: str) -> None:
    assert encoding(header, ("zstd", "gzip")) == expected


def test_an_entity_tag_matches_in_a_list_or_by_star() -> None:
    assert matches('W/"a", "b"', ['"b"'])
    assert matches('W/"a"', ['"a"'])
    assert matches(" * ", ['"a"'])
    assert not matches('"c"', ['"a"', '"b"'])
    assert not matches(None, ['"a"'])
