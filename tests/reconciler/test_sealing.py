"""Key files, sealed values that open only for their KEY, and marks of the server's own."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrage.x25519 import Identity

from reconciler import sealing
from reconciler.sealing import Keys, SealingError, seal

KEY = "Secret/shop/_/deploy-key"
KEYS = Keys((Identity.generate(),))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_what_is_sealed_opens_for_its_key_as_it_was(value: bytes) -> None:
    """Any bytes, on one line of base64 that differs each time."""
    sealed = seal(value, KEYS.recipient, KEY)
    assert KEYS.open(sealed, KEY) == value
    assert len(sealed.splitlines()) == 1
    assert seal(value, KEYS.recipient, KEY) != sealed


@pytest.mark.parametrize(
    "other",
    [
        "Secret/shop/prod/deploy-key",
        "Secret/other/_/deploy-key",
        "Secret/shop/_/deploy-key2",
        "Secret/_/_/deploy-key",
    ],
)
def test_a_copied_value_does_not_open_elsewhere_and_the_error_does_not_hold_it(other: str) -> None:
    """Whoever may write a project must not take over another one's secrets."""
    sealed = seal(b"the-value-itself", KEYS.recipient, KEY)
    with pytest.raises(SealingError) as caught:
        KEYS.open(sealed, other)
    assert str(caught.value).startswith(f"{other} holds what was sealed for another KEY")
    assert "the-value" not in str(caught.value)
    assert KEY not in str(caught.value).replace(other, "")
    assert caught.value.__context__ is None


def test_a_value_with_line_ends_cannot_pose_as_another_key() -> None:
    """The KEY ends at the first line end, whatever the value says."""
    sealed = seal(b"\nSecret/other/_/x\nvalue", KEYS.recipient, KEY)
    assert KEYS.open(sealed, KEY) == b"\nSecret/other/_/x\nvalue"
    with pytest.raises(SealingError):
        KEYS.open(sealed, f"{KEY}\n")


def test_the_first_identity_seals_and_all_open() -> None:
    """A new key is put in front; what was sealed to the old one opens until it is taken away."""
    rotated = Keys((Identity.generate(), *KEYS.identities))
    old, new = seal(b"old", KEYS.recipient, KEY), seal(b"new", rotated.recipient, KEY)
    assert rotated.recipient != KEYS.recipient
    assert [rotated.open(old, KEY), rotated.open(new, KEY)] == [b"old", b"new"]
    with pytest.raises(SealingError, match="sealed to another key than this server's"):
        KEYS.open(new, KEY)


@pytest.mark.parametrize(
    "text", ["", "not base64!", "AAAA", base64.b64encode(b"age-encryption.org/v1\n").decode()]
)
def test_a_damaged_text_is_told(text: str) -> None:
    """With the KEY, in a sentence."""
    with pytest.raises(SealingError, match=r"^Secret/shop/_/deploy-key cannot be opened"):
        KEYS.open(text, KEY)


def test_a_changed_bit_is_noticed() -> None:
    """The encryption is authenticated."""
    data = bytearray(base64.b64decode(seal(b"value", KEYS.recipient, KEY)))
    data[-1] ^= 1
    with pytest.raises(SealingError, match="is damaged"):
        KEYS.open(base64.b64encode(data).decode(), KEY)


def test_what_age_alone_has_encrypted_is_refused() -> None:
    """It is bound to nothing."""
    plain = base64.b64encode(pyrage.encrypt(b"value", [KEYS.identities[0].to_public()])).decode()
    with pytest.raises(SealingError, match="not by `steersman secret seal`"):
        KEYS.open(plain, KEY)


def test_too_large_values_and_wrong_recipients_are_refused() -> None:
    """With a sentence, and without the value."""
    with pytest.raises(SealingError, match="at most 16,384 bytes"):
        seal(b"x" * (sealing.LARGEST + 1), KEYS.recipient, KEY)
    large = pyrage.encrypt(
        b"steersman secret 1\n" + KEY.encode() + b"\n" + b"x" * (sealing.LARGEST + 1),
        [KEYS.identities[0].to_public()],
    )
    with pytest.raises(SealingError, match="has 16,385 bytes, and a secret at most 16,384"):
        KEYS.open(base64.b64encode(large).decode(), KEY)
    with pytest.raises(SealingError, match="steersman secret key"):
        seal(b"x", "age1nonsense", KEY)


def test_marks_differ_by_purpose_text_and_server_and_outlive_a_rotation() -> None:
    """A mark for one thing is none for another."""
    marks = {KEYS.mac("execution", "7"), KEYS.mac("execution", "8"), KEYS.mac("webhook", "7")}
    assert len(marks) == 3
    assert Keys((Identity.generate(),)).mac("execution", "7") not in marks
    newer = Keys((Identity.generate(), *KEYS.identities))
    assert newer.mac("execution", "7") not in marks
    assert newer.is_mac("execution", "7", KEYS.mac("execution", "7"))
    assert newer.is_mac("execution", "7", newer.mac("execution", "7"))
    assert not KEYS.is_mac("execution", "7", newer.mac("execution", "7"))
    assert not newer.is_mac("webhook", "7", KEYS.mac("execution", "7"))
    assert not KEYS.is_mac("execution", "7", "ä")


# -- what the store keeps


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_what_is_locked_is_unlocked_under_its_name_only(value: bytes) -> None:
    """Any bytes; the same ones are locked differently each time."""
    locked = KEYS.lock(value, "shop/prod/web")
    assert KEYS.unlock(locked, "shop/prod/web") == value
    assert KEYS.lock(value, "shop/prod/web") != locked
    with pytest.raises(SealingError, match=r"^what is stored of shop/dev/web is damaged, or belongs to"):
        KEYS.unlock(locked, "shop/dev/web")


def test_what_is_locked_may_be_larger_than_a_secret_and_outlives_a_rotation() -> None:
    """It is unlocked by each identity of the file, and none other."""
    value = b"x" * (4 * sealing.LARGEST)
    newer = Keys((Identity.generate(), *KEYS.identities))
    locked = KEYS.lock(value, "a")
    assert newer.unlock(locked, "a") == value
    assert not newer.is_locked_anew(locked)
    assert newer.is_locked_anew(newer.lock(value, "a"))
    with pytest.raises(SealingError, match=r"^a was stored with a key that is not in this server's key file"):
        KEYS.unlock(newer.lock(value, "a"), "a")


@pytest.mark.parametrize("cut", [0, 4, 8, 12, 20, -1])
def test_a_damaged_store_is_noticed(cut: int) -> None:
    """Cut off anywhere, or with another bit."""
    locked = KEYS.lock(b"value", "a")
    with pytest.raises(SealingError):
        KEYS.unlock(locked[:cut], "a")
    with pytest.raises(SealingError):
        KEYS.unlock(locked[:-1] + bytes([locked[-1] ^ 1]), "a")


# -- the file


def test_a_key_file_is_made_once_and_only_ours_to_read(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask; a second time nothing changes, and nothing is left beside it."""
    path = tmp_path / "server.key"
    before = os.umask(0)
    try:
        sealing.make(path)
    finally:
        os.umask(before)
    first = path.read_text()
    sealing.make(path)
    assert (path.read_text(), path.stat().st_mode & 0o777) == (first, 0o600)
    assert list(tmp_path.iterdir()) == [path]
    keys = sealing.load(path)
    assert f"# public key: {keys.recipient}\n" in first


def test_several_identities_are_read_with_comments_and_empty_lines(tmp_path: Path) -> None:
    """As age-keygen writes them, one after the other."""
    path = tmp_path / "key"
    two = [Identity.generate(), Identity.generate()]
    path.write_text(f"# created: today\n{two[0]}\n\n  {two[1]}  \n")
    path.chmod(0o400)
    keys = sealing.load(path)
    assert [str(identity) for identity in keys.identities] == [str(identity) for identity in two]
    assert len(set(keys.fingerprints)) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The sentence says what to do."""
    path = tmp_path / "key"
    sealing.make(path)
    path.chmod(mode)
    with pytest.raises(SealingError, match=f"mode {mode:04o}.; run `chmod 600 {path}`"):
        sealing.load(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no age identity"),
        ("# only a comment\n", "holds no age identity"),
        ("AGE-SECRET-KEY-1NONSENSE\n", "line 1 of the key file"),
        ("# x\nage1publickey\n", "line 2 of the key file"),
        ("\x00\xff", "line 1 of the key file"),
    ],
)
def test_a_file_without_identities_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """And what stands there is not repeated: it may be a secret."""
    path = tmp_path / "key"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(SealingError, match=told) as caught:
        sealing.load(path)
    assert "NONSENSE" not in str(caught.value)


def test_what_is_no_file_or_not_there_is_told(tmp_path: Path) -> None:
    """No traceback, and no waiting for a pipe."""
    os.mkfifo(tmp_path / "pipe")
    for path, told in (
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path / "pipe", "is no file"),
    ):
        with pytest.raises(SealingError, match=told):
            sealing.load(path)
    with pytest.raises(SealingError, match="cannot be made: No such file"):
        sealing.make(tmp_path / "none" / "key")


def test_no_identity_is_in_a_representation() -> None:
    """Of what ends up in tracebacks and logs."""
    assert str(KEYS.identities[0]) not in f"{KEYS!r} {KEYS}"


def test_the_format_is_that_of_age() -> None:
    """Any tool of that name can open it in an emergency: the envelope is one line of ours, the KEY, the value."""
    opened = pyrage.decrypt(base64.b64decode(seal(b"value", KEYS.recipient, KEY)), KEYS.identities)
    assert opened == b"steersman secret 1\n" + KEY.encode() + b"\nvalue"
