"""`steersman login` and `steersman logout`: sign in with a browser, once for all verbs that ask this server.

The browser is sent to the server, and comes back to a port of this machine's loopback with a code. The code is of use
only with the verifier, which never leaves this process but to the server itself.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from threading import Thread
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from api import pages
from api.cli import remembered
from api.cli.client import Client, address_of, explain
from api.cli.options import Output, Server
from api.cli.output import Format, fail, show_json
from api.native.vouchers import challenge_of

PATIENCE = 300.0
"""Seconds that somebody may take to sign in."""
_PATH = "/reconciler/sign-in"


def login(
    server: Server = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    output: Output = Format.TABLE,
) -> None:
    """Sign in with a browser; other verbs then need no token for this server. Exit 3 after five minutes."""
    client = Client(address_of(server), None)
    verifier = secrets.token_urlsafe(48)
    with _listening() as (port, codes):
        asked = {"port": port, "challenge": challenge_of(verifier)}
        _check(client, asked)
        address = f"{client.server}{_PATH}?{urlencode(asked)}"
        typer.echo(f"Sign in at {address}", err=output is Format.JSON)
        if browser:
            import webbrowser

            webbrowser.open(address)
        made = _token(client, codes, verifier)
    remembered.keep(client.server, made["token"], made["expires"])
    told = {name: made[name] for name in ("subject", "expires")} | {"server": client.server}
    if output is Format.JSON:
        show_json(told)
    else:
        typer.echo(f"signed in at {client.server} as {made['subject']}, until {made['expires'][:16]} UTC")


def logout(server: Server = None, output: Output = Format.TABLE) -> None:
    """End what `steersman login` began: the token is revoked, and forgotten here."""
    address = address_of(server)
    token = remembered.token_of(address)
    if token is not None:
        answer = Client(address, token).ask("POST", "/reconciler/sign-out")
        if answer.status_code not in (204, 401):  # 401: it has ended already
            explain(answer)
    remembered.forget(address)
    if output is Format.JSON:
        show_json({"server": address, "signed_out": token is not None})
    else:
        typer.echo(f"signed out at {address}" if token is not None else f"nobody is signed in at {address}")


def _token(client: Client, codes: Queue[str], verifier: str) -> dict[str, Any]:
    """For the first code that the server takes: anybody on this machine can bring one here."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            code = codes.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            fail("nobody has signed in for five minutes", 3)
        answer = client.ask("POST", f"{_PATH}/token", json={"code": code, "verifier": verifier})
        if answer.status_code < 400:
            found: dict[str, Any] = answer.json()
            return found
        if answer.status_code != 403:
            explain(answer)
        typer.echo("a code came that this sign-in did not ask for; waiting on", err=True)


def _check(client: Client, asked: dict[str, Any]) -> None:
    """Would the server send a browser on? If not, say why before one is opened."""
    answer = client.ask("GET", _PATH, params=asked)
    if answer.status_code == 404:
        fail(
            f"{client.server} has no identity provider to sign in at; have an administrator make a token "
            "(`steersman token create NAME --subject User/YOU`) and give it as STEERSMAN_TOKEN"
        )
    if answer.status_code != 302:
        explain(answer)


@contextmanager
def _listening() -> Iterator[tuple[int, Queue[str]]]:
    """A free port of the loopback, and the codes that browsers bring there."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # only this verb costs this

    codes: Queue[str] = Queue()

    class Answer(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            code = parse_qs(parts.query).get("code", [""])[0]
            if parts.path != "/" or not code:
                self.send_error(404)
                return
            body, headers = pages.render("back")
            headers |= {
                "Content-Type": f"{pages.MEDIA_TYPE}; charset=utf-8",
                "Content-Length": str(len(body)),
            }
            with suppress(OSError):  # the browser need not wait for it
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            codes.put(code)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the code would be in it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listener:
        listener.daemon_threads = True
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield listener.server_address[1], codes
        finally:
            listener.shutdown()
            thread.join()
