"""What a script wrote to $STEERSMAN_OUTPUTS is data: bounded, checked, and read from nothing but that file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.execution.handover import Outputs, read_outputs


def test_pairs_are_values_and_other_lines_are_told(tmp_path: Path) -> None:
    """The last value of a name counts; a value may hold `=` and be empty; odd names and bytes are left out."""
    path = tmp_path / "outputs"
    path.write_bytes(b"a=1\nb==x=\r\nc=\n\nno\n=x\n1a=x\na b=x\n\xff=1\nn=\0\nA=\xc3\xa9\na=2")
    found = read_outputs(path)
    assert found.values == {"a": "2", "b": "=x=", "c": "", "A": "é"}
    letters = ": a name has the letters A-Z and a-z, digits and _, and begins with no digit"
    assert found.complaints == tuple(
        f"line {number} of its outputs is not NAME=value and was left out{letters if number in (6, 7, 8, 9) else ''}"
        for number in (5, 6, 7, 8, 9, 10)
    )


def test_no_more_than_twenty_lines_are_told(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("bad\n" * 100)
    assert len(read_outputs(tmp_path / "outputs").complaints) == 20


def test_outputs_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    """Also where the file only says that it is large; one value too long is told by its line."""
    path = tmp_path / "outputs"
    path.write_text("a=1\nb=" + "x" * 100_000 + "\nc=3\n")
    found = read_outputs(path)
    assert found.values == {"a": "1", "c": "3"}
    assert [text.startswith("line 2 of its outputs is longer than ") for text in found.complaints] == [True]
    os.truncate(path, 1 << 40)
    assert read_outputs(path) == Outputs(
        {}, ("its outputs were not read: they are larger than 262,144 bytes",)
    )


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_any_more_is_not_followed(tmp_path: Path, kind: str) -> None:
    """A script without a sandbox may put anything there; a pipe holds nobody up."""
    path, secret = tmp_path / "outputs", tmp_path / "secret"
    secret.write_text("token=s3cret\n")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    found = read_outputs(path)
    assert found == Outputs({}, ("its outputs were not read: $STEERSMAN_OUTPUTS is no file any more",))


def test_no_file_is_no_output(tmp_path: Path) -> None:
    assert read_outputs(tmp_path / "outputs") == Outputs({})
