"""The server's public key, and `steersman secret`: what is printed opens on that server only."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from api.cli import app
from reconciler.sealing import load
from specs.kinds import KINDS
from tests.api.conftest import Api

KEY = "Secret/shop/_/deploy-key"


class Ran:
    """A verb of the command line with something on its standard input."""

    def __init__(
        self, api: Api, *arguments: str, value: bytes = b"the-value\n", token: str | None = None
    ) -> None:
        environment = {"STEERSMAN_SERVER": api.url, "STEERSMAN_TOKEN": token or api.running.token}
        done = CliRunner().invoke(app, ["secret", *arguments], input=value, env=environment)
        self.code, self.out, self.error = done.exit_code, done.stdout, done.stderr


def opened(api: Api, sealed: str, key: str = KEY) -> bytes:
    """As the server would."""
    return load(api.running.data / "server.key").open(sealed, key)


def test_everybody_with_a_token_reads_the_public_key(api: Api) -> None:
    """And nobody else; the private one is nowhere in it."""
    path = "/reconciler/secrets/key"
    keys = load(api.running.data / "server.key")
    assert api.get(path) == {"recipient": keys.recipient, "fingerprint": keys.fingerprints[0]}
    small = api.token("read")["token"]
    assert httpx.get(api.url + path, headers={"Authorization": f"Bearer {small}"}).status_code == 200
    assert httpx.get(api.url + path).status_code == 401
    assert Ran(api, "key", token=small).out.strip() == keys.recipient
    assert yaml.safe_load(Ran(api, "key", "--output", "json").out)["recipient"] == keys.recipient


def test_a_sealed_value_is_a_document_to_commit(api: Api) -> None:
    """Without the line end that a shell puts behind a value, and valid as it stands."""
    ran = Ran(api, "seal", KEY)
    assert (ran.code, ran.error) == (0, "")
    document = yaml.safe_load(ran.out)
    spec = document.pop("spec")
    assert document == {
        "apiVersion": "steersman/v1", "kind": "Secret", "metadata": {"name": "deploy-key", "project": "shop"},
    }  # fmt: skip
    assert opened(api, spec["sealed"]) == b"the-value"
    assert KINDS["Secret"].model(**spec).model_dump()["type"] == "value"
    assert "the-value" not in ran.out


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        ("Secret/_/_/x", {"name": "x"}),
        ("Secret/shop/prod/x", {"name": "x", "project": "shop", "environment": "prod"}),
        ("Secret/~alice/_/x", {"name": "x", "owner": "alice"}),
    ],
)
def test_a_secret_of_any_scope_is_written(api: Api, key: str, metadata: dict[str, str]) -> None:
    """As own-kinds names them."""
    document = yaml.safe_load(Ran(api, "seal", key).out)
    assert document["metadata"] == metadata
    assert opened(api, document["spec"]["sealed"], key) == b"the-value"


def test_a_file_is_sealed_as_it_is(api: Api) -> None:
    """Byte for byte, with its path and mode."""
    content = b"\x00binary\r\n\n"
    ran = Ran(api, "seal", KEY, "--type", "plaintext_file", "--path", "~/.x", "--mode", "640", value=content)
    spec = yaml.safe_load(ran.out)["spec"]
    assert opened(api, spec.pop("sealed")) == content
    assert spec == {"type": "plaintext_file", "path": "~/.x", "mode": "640"}
    assert opened(api, Ran(api, "seal", KEY, "--type", "ssh_key", "--bare").out.strip()) == b"the-value\n"


def test_a_recipient_needs_no_server(api: Api) -> None:
    """On a machine that cannot reach it."""
    recipient = api.get("/reconciler/secrets/key")["recipient"]
    ran = Ran(api, "seal", KEY, "--bare", "--recipient", recipient, "--server", "http://127.0.0.1:9")
    assert opened(api, ran.out.strip()) == b"the-value"


@pytest.mark.parametrize(
    ("arguments", "value", "told"),
    [
        (["Build/shop/_/x"], b"v", "Build/shop/_/x is the KEY of no Secret"),
        (["deploy-key"], b"v", "KEY"),
        (["Secret/shop/_/no name"], b"v", "a secret's name has"),
        ([KEY, "--type", "plaintext_file"], b"value", "path is missing"),
        ([KEY, "--path", "~/x"], b"value", "path is of a plaintext_file"),
        ([KEY, "--type", "plaintext_file", "--path", "../x"], b"value", "--path"),
        ([KEY, "--type", "plaintext_file", "--path", "~/x", "--mode", "888"], b"value", "--mode"),
        ([KEY], b"\n", "there is nothing to seal"),
        ([KEY], b"a\0b", "NUL"),
        ([KEY, "--type", "ssh_key"], b"x" * 16_385, "at most 16,384 bytes"),
        ([KEY, "--recipient", "age1x"], b"value", "is no public key of a server"),
    ],
)
def test_what_cannot_be_sealed_is_told(api: Api, arguments: list[str], value: bytes, told: str) -> None:
    """Before anything is committed, and without the value."""
    ran = Ran(api, "seal", *arguments, value=value)
    assert (ran.code, ran.out) == (1, ""), ran.error
    assert told in ran.error
    assert "Traceback" not in ran.error


def test_a_value_too_short_to_be_masked_is_told(api: Api) -> None:
    """It is sealed nevertheless."""
    ran = Ran(api, "seal", KEY, "--bare", value=b"abc\n")
    assert (ran.code, opened(api, ran.out.strip())) == (0, b"abc")
    assert "fewer than 4 characters is not masked" in ran.error


def test_a_terminal_asks_twice_and_shows_nothing(api: Api) -> None:
    """The value is neither an argument nor on the screen."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"STEERSMAN_SERVER": api.url, "STEERSMAN_TOKEN": api.running.token}
    argv = [sys.executable, "-c", "from api.cli import main; main()", "secret", "seal", KEY, "--bare"]
    with subprocess.Popen(
        argv, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        screen = b""
        for question in (b"Value", b"epeat"):
            while question not in screen:
                screen += os.read(ours, 1024)
            time.sleep(0.2)
            os.write(ours, b"typed-value\n")
        assert process.stdout is not None
        sealed = process.stdout.read().decode().strip()
    os.set_blocking(ours, False)
    screen += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert opened(api, sealed) == b"typed-value"
    assert b"typed" not in screen
