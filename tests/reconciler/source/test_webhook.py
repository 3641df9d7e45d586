"""Webhooks of three forges: good signatures, bad ones, odd bodies."""

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from reconciler.source.webhook import BadSignature, normalise_url, verify

SECRET = "it's a secret"
OWN = "Secret/shop/_/hook"
GITHUB = {
    "ref": "refs/heads/main",
    "repository": {
        "clone_url": "https://github.com/Org/Repo.git",
        "ssh_url": "git@github.com:Org/Repo.git",
        "html_url": "https://github.com/Org/Repo",
    },
}
GITLAB = {
    "ref": "refs/tags/v1",
    "project": {
        "git_http_url": "https://gitlab.example/g/r.git",
        "git_ssh_url": "git@gitlab.example:g/r.git",
    },
}


def signed(body: bytes) -> str:
    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def server(_: frozenset[str]) -> dict[str | None, bytes]:
    """Only the server has a secret."""
    return {None: SECRET.encode()}


def body_of(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def test_github_push_is_accepted() -> None:
    body = body_of(GITHUB)
    headers = {
        "X-Hub-Signature-256": f"sha256={signed(body)}",
        "X-GitHub-Delivery": "d-1",
        "X-GitHub-Event": "push",
    }
    event, _ = verify(headers, body, server)
    assert (event.delivery, event.kind, event.ref) == ("d-1", "push", "refs/heads/main")
    assert event.repositories == {"github.com/Org/Repo"}


@pytest.mark.parametrize("forge", ["Gitea", "Forgejo"])
def test_gitea_and_forgejo_push_is_accepted(forge: str) -> None:
    body = body_of(GITHUB)
    headers = {f"x-{forge}-signature": signed(body), f"x-{forge}-delivery": "d-2", f"x-{forge}-event": "push"}
    event, _ = verify(headers, body, server)
    assert (event.delivery, event.kind, len(event.urls)) == ("d-2", "push", 3)


def test_gitlab_push_is_accepted() -> None:
    headers = {"X-Gitlab-Token": SECRET, "X-Gitlab-Event": "Tag Push Hook", "X-Gitlab-Event-UUID": "d-3"}
    event, _ = verify(headers, body_of(GITLAB), server)
    assert (event.delivery, event.kind, event.ref) == ("d-3", "push", "refs/tags/v1")
    assert event.repositories == {"gitlab.example/g/r"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256=" + "0" * 64},
        {"X-Hub-Signature-256": "sha256=ünicode"},
        {"X-Hub-Signature": "sha1=whatever"},
        {"X-Gitea-Signature": "0" * 64},
        {"X-Forgejo-Signature": "x"},
        {"X-Gitlab-Token": "it's a secre"},
        {"X-Gitlab-Token": ""},
        {"X-Gitlab-Token": SECRET, "X-Hub-Signature-256": "sha256=" + "0" * 64},
    ],
)
def test_bad_signatures_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(headers, body_of(GITHUB), server)


def test_a_changed_body_is_refused() -> None:
    headers = {"X-Hub-Signature-256": f"sha256={signed(body_of(GITHUB))}"}
    with pytest.raises(BadSignature):
        verify(headers, body_of(GITHUB) + b" ", server)


def test_an_unset_secret_accepts_nothing() -> None:
    for headers in (
        {"X-Gitlab-Token": ""},
        {"X-Hub-Signature-256": hmac.new(b"", b"{}", "sha256").hexdigest()},
    ):
        with pytest.raises(BadSignature):
            verify(headers, b"{}", lambda _: {None: b""})
        with pytest.raises(BadSignature):
            verify(headers, b"{}", lambda _: {})


def test_who_signed_is_told_among_those_who_may() -> None:
    """The secrets are asked for by what the body names, and only after a signature is there at all."""
    asked: list[frozenset[str]] = []

    def secrets(repositories: frozenset[str]) -> dict[str | None, bytes]:
        asked.append(repositories)
        return {None: b"another", OWN: SECRET.encode(), f"{OWN}-2": SECRET.encode()}

    body = body_of(GITHUB)
    with pytest.raises(BadSignature):
        verify({}, body, secrets)
    assert asked == []
    _, signers = verify({"X-Hub-Signature-256": f"sha256={signed(body)}"}, body, secrets)
    assert signers == {OWN, f"{OWN}-2"}
    assert asked == [{"github.com/Org/Repo"}]


def test_all_signatures_must_be_of_one_secret() -> None:
    """Two headers, each good with another secret, are no good signature."""
    body = body_of(GITHUB)
    headers = {"X-Hub-Signature-256": f"sha256={signed(body)}", "X-Gitlab-Token": "another"}
    with pytest.raises(BadSignature):
        verify(headers, body, lambda _: {None: SECRET.encode(), OWN: b"another"})


def test_a_secret_need_not_be_text() -> None:
    """Bytes sign like any others."""
    body, secret = b"{}", b"\xff\x00\xfe"
    headers = {"X-Gitea-Signature": hmac.new(secret, body, hashlib.sha256).hexdigest()}
    assert verify(headers, body, lambda _: {OWN: secret})[1] == {OWN}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"repository": [], "project": "x", "ref": 5}',
        b'{"repository": {"clone_url": 1, "ssh_url": null, "url": ["x"]}}',
        b"payload=",
        b"payload=%7B",
    ],
)
def test_signed_nonsense_names_no_repository(body: bytes) -> None:
    event, _ = verify({"X-Hub-Signature-256": f"sha256={signed(body)}"}, body, server)
    assert (event.urls, event.ref, event.kind) == ((), None, "other")
    assert event.delivery == hashlib.sha256(body).hexdigest()


def test_a_form_encoded_payload_is_read() -> None:
    body = urlencode({"payload": json.dumps(GITHUB)}).encode()
    headers = {"X-Hub-Signature-256": f"sha256={signed(body)}", "X-GitHub-Event": "ping"}
    event, _ = verify(headers, body, server)
    assert event.kind == "ping"
    assert event.repositories == {"github.com/Org/Repo"}


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://User:pw@GitHub.com:443/Org/Repo.git/", "github.com/Org/Repo"),
        ("git@github.com:Org/Repo.git", "github.com/Org/Repo"),
        ("ssh://git@GitHub.com:22/Org/Repo.git", "github.com/Org/Repo"),
        ("http://github.com/Org/Repo//", "github.com/Org/Repo"),
        ("git://github.com/Org/Repo", "github.com/Org/Repo"),
        ("https://forge.example:8443/r.git", "forge.example:8443/r"),
        ("host:/srv/r.git", "host/srv/r"),
        ("file:///srv/r.git", "/srv/r"),
        ("/srv/r.git/", "/srv/r"),
        ("https://host:bad/x", "https://host:bad/x"),
    ],
)
def test_urls_of_one_repository_are_one(url: str, normal: str) -> None:
    assert normalise_url(url) == normal
