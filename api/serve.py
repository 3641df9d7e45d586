"""Runs the daemon and its HTTP server in one process until a signal: TERM and INT stop both in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import structlog
import uvicorn
from litestar import Litestar
from structlog.typing import Processor

from api.app import create
from reconciler.daemon import Daemon
from reconciler.errors import Stalled
from reconciler.execution import processes
from reconciler.settings import Settings, forget_environment


def serve(settings: Settings) -> None:
    """Blocks. Raises `Stalled` with a sentence for people if it cannot start."""
    forget_environment()
    processes.spare_children()
    configure_logging(settings.log_format)
    # Specs live long: looking through all of them for garbage every few hundred objects costs a fifth of a cold start.
    gc.set_threshold(50_000, 20, 100)
    listener = _listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})  # 0 is any that is free
    with contextlib.closing(listener), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        # asyncio's own loop: uvloop starts processes several times slower
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    async with Daemon(settings) as daemon:
        app = create(daemon.installation)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            ws_ping_interval=20,
            ws_ping_timeout=40,
            ws_max_size=64 << 10,
            ws_per_message_deflate=False,
            lifespan="on",
        )
        server = uvicorn.Server(config)
        stop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            stop.add_signal_handler(number, partial(_leave, app, server))
        _greet(settings, daemon.first_token)
        with _no_own_signals(server):
            await server.serve(sockets=[listener])


def _leave(app: Litestar, server: uvicorn.Server) -> None:
    """Those who follow logs are told, then all is closed."""
    app.state.leaving.set()
    server.should_exit = True


@contextlib.contextmanager
def _no_own_signals(server: uvicorn.Server):  # type: ignore[no-untyped-def]
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # named, so that asyncio switches Nagle's delay off: with it each answer takes 40 ms more
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Stalled(
            "AddressInUse", f"cannot listen on {host}:{port}: {error.strerror}; give another --port or --host"
        ) from error
    listener.setblocking(False)
    return listener


def _greet(settings: Settings, token: str | None) -> None:
    lines = [f"Steersman is at {settings.url} and follows {settings.branch} of {settings.repo}"]
    path = settings.data / "admin.token"
    if settings.insecure_no_auth:
        lines.append(
            "WARNING: insecure_no_auth is set: everybody who reaches this address is the administrator"
        )
    elif token is not None:
        lines.append(f"Administrator's token (shown once, kept in {path}): {token}")
    elif path.exists():
        lines.append(f"The administrator's token is in {path}")
    if settings.allow_unsandboxed:
        lines.append(
            "WARNING: allow_unsandboxed is set: where bubblewrap is absent, scripts run with the daemon's rights"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    notify = os.environ.get("STEERSMAN_READY_FILE")
    if notify:
        Path(notify).write_text(f"{settings.address}\n", encoding="utf-8")


def configure_logging(style: str) -> None:
    """Logs are events with a name and fields, on standard error."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*steps, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # what libraries tell by the standard library's means, in the same form
    theirs = logging.StreamHandler(sys.stderr)
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *steps], processors=last
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[theirs])
