"""JSON of bodies: what is decoded, and what is refused before it does harm."""

from __future__ import annotations

from types import ModuleType

import msgspec
import pytest
from litestar import Request
from structlog.testing import capture_logs

from api import problems
from api.cider import errors as cider
from api.escape import errors as escape
from api.pdc import errors as pdc
from api.sqedule import errors as sqedule
from api.srht import errors as srht
from reconciler.json_text import DEEPEST, Unreadable, decode


def of(opening: str, innermost: str, closing: str, levels: int) -> bytes:
    """So many levels."""
    return (opening * (levels - 1) + innermost + closing * (levels - 1)).encode()


@pytest.mark.parametrize(
    ("opening", "innermost", "closing"),
    [("[", "[]", "]"), ("[", "[1]", "]"), ('{"a":', "{}", "}"), ('{"a":', '{"a":1}', "}"), ("[", "{}", "]")],
)
def test_what_is_deep_enough_is_taken_and_no_more(opening: str, innermost: str, closing: str) -> None:
    """Whether it is lists or objects that lie in each other, and whatever is in the innermost."""
    deepest = of(opening, innermost, closing, DEEPEST)
    assert msgspec.json.encode(decode(deepest)) == deepest
    for levels in (DEEPEST + 1, 955, 100_000):
        with pytest.raises(Unreadable, match="nested deeper than"):
            decode(of(opening, innermost, closing, levels))


def test_brackets_that_nest_nothing_do_not_count() -> None:
    """Those in texts, and those beside each other."""
    text = "[" * 10_000
    assert decode(msgspec.json.encode({"text": text})) == {"text": text}
    beside = [[], {}] * 10_000
    assert decode(msgspec.json.encode(beside)) == beside


@pytest.mark.parametrize("body", [b"", b"{", b"nul", b'"\xff"', b"{}{}", b"NaN"])
def test_what_is_no_json_says_so(body: bytes) -> None:
    """Also what is no UTF-8."""
    with pytest.raises(Unreadable, match="is no JSON: "):
        decode(body)


@pytest.mark.parametrize(
    "dialect", [problems, escape, srht, cider, pdc, sqedule], ids=lambda each: each.__name__
)
def test_an_answer_that_cannot_be_made_is_no_fault_of_the_caller(dialect: ModuleType) -> None:
    """Only what decodes a body judges its depth; elsewhere it is the server's fault, and in its log."""
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b""}
    scope |= {"server": ("h", 1), "scheme": "http", "root_path": "", "client": None}
    with capture_logs() as logs:
        answer = dialect.handle(Request(scope), RecursionError())  # type: ignore[arg-type]
    assert answer.status_code == 500
    assert [each["event"] for each in logs] == ["request-crashed"]
