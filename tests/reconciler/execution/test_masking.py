"""Secret values in logs: all their usual encodings, wherever the stream is cut."""

from __future__ import annotations

import base64
import html
import itertools
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reconciler.execution.masking import MASK, Masker, patterns, wrapped

SECRET = "s3cret/+'\"ü value?"
MARKS = "a<b & 'c' > \"$d\" \\"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n\tabcdefgh  \n}\n-----END KEY-----\n"


def masked(text: bytes, *values: str | bytes, cuts: tuple[int, ...] = ()) -> bytes:
    masker = Masker(values)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[start:end] for start, end in itertools.pairwise(borders)]
    return b"".join(masker.feed(chunk) for chunk in chunks) + masker.flush()


def _whole(text: bytes, values: list[bytes]) -> Iterator[tuple[int, int]]:
    for form in patterns(values):
        yield from ((at, at + len(form)) for at in range(len(text)) if text.startswith(form, at))


def _words(values: Sequence[str | bytes]) -> set[bytes]:
    """What is found in lines as well."""
    return {form[missing:] for form in wrapped(values) for missing in (0, 3)}


def _in_lines(text: bytes, values: list[bytes]) -> Iterator[tuple[int, int]]:
    """With line ends anywhere but among the first four characters."""
    kept = [at for at in range(len(text)) if text[at : at + 1] not in (b"\n", b"\r")]
    squeezed = bytes(text[at] for at in kept)
    for word in _words(values):
        for at in range(len(squeezed)):
            if squeezed.startswith(word, at) and kept[at + 3] == kept[at] + 3:
                yield kept[at], kept[at + len(word) - 1] + 1


def reference(text: bytes, values: list[bytes]) -> bytes:
    """By definition: every byte of every occurrence, also of those in lines; occurrences that overlap are one."""
    places = sorted([*_whole(text, values), *_in_lines(text, values)])
    joined: list[tuple[int, int]] = []
    for start, end in places:
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    result, at = b"", 0
    for start, end in joined:
        result += text[at:start] + MASK
        at = end
    return result + text[at:]


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        "s3cret%2f%2b%27%22%c3%bc%20value%3f",
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET)[1:-1].replace("u00fc", "u00FC").replace("/", "\\/"),
        shlex.quote(SECRET)[1:-1],
        SECRET.replace("'", "'\\''"),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_every_usual_encoding_is_masked(form: str) -> None:
    assert masked(f"a={form};".encode(), SECRET) == b"a=***;"


@pytest.mark.parametrize(
    "form",
    [
        html.escape(MARKS),
        html.escape(MARKS, quote=False),
        html.escape(MARKS).replace("&#x27;", "&#39;"),
        html.escape(MARKS).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        html.escape(MARKS).replace("&#x27;", "'"),
        html.escape(MARKS).replace("&#x27;", "&apos;"),
        MARKS.replace("'", "''"),
        MARKS.replace('"', '""'),
        repr(MARKS)[1:-1],
    ],
)
def test_a_value_in_markup_and_in_quotes_is_masked(form: str) -> None:
    assert masked(f"a={form};".encode(), MARKS) == b"a=***;"


def test_what_bash_prints_of_a_variable_is_masked() -> None:
    script = 'printf "%q\\n" "$V"; export -p | grep V=; set | grep ^V='
    done = subprocess.run(["bash", "-c", script], env={"V": MARKS}, capture_output=True, check=True)
    shown = masked(done.stdout, MARKS).splitlines()
    assert shown == [b"***", b'declare -x V="***"', b"V='***'"]


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_base64_is_masked_wherever_the_value_lies_in_it(before: int, after: int) -> None:
    whole = base64.b64encode(b"x" * before + SECRET.encode() + b"y" * after)
    shown = masked(whole, SECRET)
    assert shown.count(MASK) == 1
    # left are the neighbours, a character that belongs to both on each side, and the padding
    left = len(base64.b64encode(b"x" * before)) + len(base64.b64encode(b"y" * after))
    assert len(shown) - len(MASK) <= left + 4


def test_what_real_programs_print_is_masked() -> None:
    """`base64` wraps at 76 characters; `set -x` quotes; `od` and `xxd` are not among the usual encodings."""
    value = "It's 100 % sëcret: " + "x7/" * 40
    script = 'printf %s "$V" | base64; printf %s "$V" | base64 -w64; set -x; : "$V"'
    done = subprocess.run(["sh", "-c", script], env={"V": value}, capture_output=True, check=True)
    shown = masked(done.stdout + done.stderr, value)
    assert shown.replace(MASK, b"").replace(b"+ :", b"").strip().strip(b"'").strip() == b""


def test_lines_of_a_value_are_masked_alone() -> None:
    """As they are and without their blanks; lines shorter than four characters are left alone."""
    text = "MIIEvQIBADANBgkq|abcdefgh|-----END KEY-----|}|" + base64.b64encode(b"MIIEvQIBADANBgkq").decode()
    assert masked(text.encode(), KEY) == b"***|***|***|}|***"
    assert masked(KEY.strip().encode() + b"\n", KEY) == b"***\n"
    assert masked(KEY.encode(), KEY) == b"***\n"


def test_short_values_are_not_masked() -> None:
    assert frozenset() == patterns(["", "abc", b"\n", "äöü", "a\nb"])
    assert masked("abc ä".encode(), "abc", "ä") == b"abc \xc3\xa4"
    assert masked(b"abcd abc", "abcd") == b"*** abc"


def test_the_longest_value_counts_and_overlapping_values_are_one() -> None:
    values = ("abcd", "abcdefgh", "efghij", "zzzz")
    assert masked(b"abcdefghX", *values) == b"***X"
    assert masked(b"abcdefghijX", *values) == b"***X"
    assert masked(b"abcdefgX", *values) == b"***efgX"
    assert masked(b"zzzzzzzzzzz", *values) == b"***"
    assert masked(b"abcdzzzz", *values) == b"******"


def test_bytes_that_are_no_text_are_masked() -> None:
    value = b"\xff\x00\xfe\x80pass"
    assert masked(b"\x00" + value + b"\xff", value) == b"\x00***\xff"
    assert masked(value.hex().encode(), value) == b"***"


@given(some.data())
def test_what_comes_out_depends_on_the_whole_input_only(data: some.DataObject) -> None:
    letters = some.sampled_from([b"a", b"b", b"\n", b"'"])
    word = some.lists(letters, min_size=4, max_size=9).map(b"".join)
    values = data.draw(some.lists(word, max_size=4))
    forms = sorted(patterns(values))
    piece = letters if not forms else letters | some.sampled_from(forms)
    text = b"".join(data.draw(some.lists(piece, max_size=12)))
    cuts = tuple(data.draw(some.lists(some.integers(0, len(text)), max_size=12)))
    assert reference(text, values) == masked(text, *values, cuts=cuts)


@given(some.data())
def test_encodings_in_lines_are_found_wherever_lines_and_chunks_end(data: some.DataObject) -> None:
    """Several values, pieces of their encodings as well, lines of any length, chunks of any length."""
    value = some.text("ab\0", min_size=8, max_size=20).map(str.encode)
    values = data.draw(some.lists(value, min_size=1, max_size=2))
    forms = sorted(_words(values)) or [b"x"]
    end = some.sampled_from([b"\n", b"\r\n", b"\n\n"])
    text = b""
    for form in data.draw(some.lists(some.sampled_from(forms), max_size=3)):
        begins, stops = sorted(data.draw(some.tuples(some.integers(0, 3), some.integers(0, len(form)))))
        piece = form[begins:] if data.draw(some.booleans()) else form[:stops]
        width = data.draw(some.integers(1, 30))
        lines = [piece[at : at + width] for at in range(0, len(piece), width)]
        text += data.draw(end).join(lines) + data.draw(some.sampled_from([b"", b"\n", b" "]))
    cuts = tuple(data.draw(some.lists(some.integers(0, len(text)), max_size=12)))
    assert reference(text, values) == masked(text, *values, cuts=cuts)
    masker = Masker(values)
    shown = masker.feed(text)
    if masker.held is not None:
        tail = text[len(text) - masker.held :]
        flat = tail.replace(b"\r", b"").replace(b"\n", b"")
        words = patterns(values) | _words(values)
        assert not tail or any(word.startswith((tail, flat)) and word != flat for word in words)
        fresh = masker.again()
        assert reference(text + b"x", values) == shown + fresh.feed(tail + b"x") + fresh.flush()


@pytest.mark.parametrize("width", [7, 20, 60, 64, 76])
@pytest.mark.parametrize("before", range(0, 80, 7))
@pytest.mark.parametrize(
    "encode", [base64.b64encode, lambda data: data.hex().encode()], ids=["base64", "hex"]
)
def test_what_is_wrapped_is_masked_wherever_the_value_lies_in_it(
    encode: Callable[[bytes], bytes], before: int, width: int
) -> None:
    """Of the value's own characters at most three are left, where a line ends behind them."""
    value = "".join(f"{number:x}-Zq" for number in range(50)).encode()
    whole = encode(b"u" * before + value + b"y" * 7)
    lines = b"".join(whole[at : at + width] + b"\n" for at in range(0, len(whole), width))
    shown = masked(lines, value)
    left = shown.replace(MASK, b"").replace(b"\n", b"")
    assert len(left) <= len(encode(b"u" * before)) + len(encode(b"y" * 7)) + 4


def test_what_programs_print_of_a_part_is_masked() -> None:
    """A token behind a user's name, a key behind a line, both as hex."""
    token = "github_pat_" + "Ab3dE6gH9jK2mN5pQ8rStU1wX4zA7cD0fG3iJ6lM9oP2rS5uV8xYbC1eF4hJ7kL0nQ3sT6vW"
    key = f"-----BEGIN KEY-----\n{'b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE' * 20}\n-----END KEY-----\n"
    script = """printf "user:%s" "$T" | base64; echo
(echo x; printf %s "$K") | base64; echo
printf %s "$K" | od -An -v -tx1 | tr -d " "
"""
    done = subprocess.run(["sh", "-c", script], env={"T": token, "K": key}, capture_output=True, check=True)
    assert masked(done.stdout, token, key) == b"dXNlcjp***\n\neAo***\n\n***\n"


@given(some.data())
def test_only_the_beginning_of_a_value_is_held_back(data: some.DataObject) -> None:
    """And a fresh Masker that begins at a safe border goes on alike."""
    word = some.text("ab", min_size=4, max_size=7)
    values = data.draw(some.lists(word, min_size=1, max_size=4))
    text = data.draw(some.text("ab", max_size=30)).encode()
    rest = data.draw(some.text("ab", max_size=30)).encode()
    masker = Masker(values)
    shown = masker.feed(text)
    held = masker.held
    if held is not None:
        tail = text[len(text) - held :]
        assert not tail or any(form.startswith(tail) and form != tail for form in patterns(values))
        fresh = masker.again()
        assert masked(text + rest, *values) == shown + fresh.feed(tail + rest) + fresh.flush()
    assert masked(text + rest, *values) == shown + masker.feed(rest) + masker.flush()


def test_a_long_value_that_nearly_matches_is_found_out() -> None:
    """Values of many kilobytes, line by line and as a whole, byte by byte and at once."""
    value = "".join(f"{n:05d}" for n in range(4000))
    text = f"<{value}><{value[:-1]}!><{value[:10_000]}".encode()
    expected = f"<***><{value[:-1]}!><{value[:10_000]}".encode()
    assert expected == masked(text, value)
    assert expected == masked(text, value, cuts=tuple(range(0, len(text), 97)))


def test_a_masker_shows_no_value() -> None:
    assert SECRET not in repr(Masker([SECRET]))
