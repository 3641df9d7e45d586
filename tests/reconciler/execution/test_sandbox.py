"""What a script in the sandbox can see and do, asked of real scripts."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.execution import etc, sandbox, supervisor
from reconciler.execution.sandbox import SandboxRefused, View
from reconciler.execution.supervisor import Command, Exit


def _view(tmp_path: Path, **more: object) -> View:
    (tmp_path / "data" / "work").mkdir(parents=True, exist_ok=True)
    return View(tmp_path / "data" / "work", tmp_path / "data", **more)  # type: ignore[arg-type]


def test_the_workspace_is_where_a_script_starts_and_may_write(boxed):
    result, log = boxed.run("pwd; echo kept > result; cat result")
    assert (Exit(0), b"/workspace\nkept\n") == (result, log)
    assert (boxed.workspace / "result").read_text() == "kept\n"


def test_the_copy_of_etc_follows_etc_and_holds_no_secret(tmp_path, monkeypatch):
    place = etc.copy(tmp_path, network=True)
    assert (place / "passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    assert not any((place / name).exists() for name in ("shadow", "gshadow", "ssh", "sudoers", "ssl/private"))
    assert etc.copy(tmp_path, network=True) == place
    assert not (etc.copy(tmp_path, network=False) / "resolv.conf").exists()
    monkeypatch.setattr(etc, "_NAMES", ["passwd"])
    other = etc.copy(tmp_path, network=False)
    assert [path.name for path in other.iterdir()] == ["passwd"]
    os.utime(place, (0, 0))
    monkeypatch.setattr(etc, "_NAMES", ["group"])
    etc.copy(tmp_path, network=False)
    assert (place.exists(), other.exists()) == (False, True)


def test_what_not_everybody_may_read_is_not_copied(tmp_path):
    (tmp_path / "from" / "deep").mkdir(parents=True)
    for name, mode in (("open", 0o644), ("secret", 0o640), ("deep/secret", 0o600)):
        (tmp_path / "from" / name).write_text(name)
        (tmp_path / "from" / name).chmod(mode)
    etc._copy(tmp_path / "from", tmp_path / "to")
    etc._copy(tmp_path / "from" / "secret", tmp_path / "alone")
    assert [
        str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*") if path.is_file()
    ] == ["open"]
    assert not (tmp_path / "alone").exists()


def test_a_copy_of_etc_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "symlink", full)
    with pytest.raises(OSError, match="No space left"):
        etc.copy(tmp_path, network=True)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
    assert (etc.copy(tmp_path, network=True) / "alternatives/awk").is_symlink()


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/sudoers", "/etc/ssl/private", "/root", "/run/docker.sock",
     "/var/lib", "/sys", "/work", "/var/run", "/home/root"],
)  # fmt: skip
def test_secrets_of_the_host_are_not_there(boxed, path):
    result, log = boxed.run(f"test ! -e {path} && echo absent")
    assert (Exit(0), b"absent\n") == (result, log)


def test_the_daemons_data_and_other_workspaces_are_not_there(boxed):
    other = boxed.base / "data" / "workspaces" / "two"
    other.mkdir(parents=True)
    (other / "secret").write_text("x")
    result, log = boxed.run(f"ls {boxed.base} {other} 2>&1 || true; ls -a /; ls -a /home /tmp /var /run")
    assert result == Exit(0)
    assert b"secret" not in log
    assert log.count(b"No such file") == 2


def test_other_processes_and_their_environment_are_not_seen(boxed, monkeypatch):
    monkeypatch.setenv("DAEMON_SECRET", "5f3dc0ffee")
    result, log = boxed.run(
        "ls /proc | grep -E '^[0-9]+$' | wc -l; cat /proc/*/environ | tr '\\0' '\\n'; env"
    )
    assert result == Exit(0)
    assert int(log.split()[0]) < 10
    assert b"5f3dc0ffee" not in log
    assert b"DAEMON_SECRET" not in log


def test_the_scripts_secrets_are_not_in_the_environment_of_bubblewrap(boxed):
    result, log = boxed.run("tr '\\0' '\\n' < /proc/1/environ", SECRET="5f3dc0ffee")
    assert result == Exit(0)
    assert b"5f3dc0ffee" not in log


def test_without_network_nothing_is_reached(boxed):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f"cat /proc/net/route | wc -l; ! bash -c 'echo > /dev/tcp/127.0.0.1/{port}' 2>/dev/null"
        result, log = boxed.run(text)
    assert result == Exit(0)
    assert log.startswith(b"1\n")


def test_the_hosts_network_is_there_when_declared(boxed):
    argv = sandbox.wrap(("true",), _view(boxed.base, network="host"))
    assert "--unshare-net" not in argv
    assert "--unshare-net" in sandbox.wrap(("true",), _view(boxed.base, network="none"))


def test_the_system_cannot_be_written(boxed):
    places = (
        "/ /usr /usr/bin /etc /etc/passwd /opt /run /var /proc/sys/kernel/core_pattern /proc/sysrq-trigger"
    )
    text = f"for place in {places}; do ! test -w $place || echo $place; done"
    result, log = boxed.run(text)
    assert (Exit(0), b"") == (result, log)
    result, log = boxed.run(
        "! touch /usr/x /etc/x /x /run/x 2>/dev/null; ! echo x > /proc/sys/kernel/core_pattern"
    )
    assert result == Exit(0)


def test_no_right_is_left(boxed):
    result, log = boxed.run(
        "grep -E '^Cap(Eff|Prm|Bnd|Amb)' /proc/self/status; grep NoNewPrivs /proc/self/status"
    )
    values = dict(line.split() for line in log.decode().splitlines())
    assert result == Exit(0)
    assert {values["CapEff:"], values["CapPrm:"], values["CapAmb:"]} == {"0" * 16}
    assert values["NoNewPrivs:"] == "1"
    result, _ = boxed.run("! mount -t tmpfs x /tmp 2>/dev/null; ! mknod /tmp/x b 8 0 2>/dev/null")
    assert result == Exit(0)


def test_home_and_temporary_places_are_private_and_writable(boxed):
    text = "touch $HOME/a /tmp/b /var/tmp/c; mktemp; cd; pwd; ls -a /tmp | wc -l; stat -c %a /tmp"
    result, log = boxed.run(text)
    assert result == Exit(0)
    assert log.decode().splitlines()[1:] == ["/home/steersman", "5", "1777"]
    assert not Path("/tmp/b").exists()


def test_the_usual_programs_work(boxed):
    text = "id -u; getent passwd root; date; git --version; echo text > f && grep text f; sort f; hostname"
    result, log = boxed.run(text)
    assert Exit(0) == result, log


def test_links_at_the_root_are_as_on_the_host(boxed):
    result, log = boxed.run("for name in bin sbin lib lib64; do readlink /$name || echo none; done")
    places = [Path("/", name) for name in ("bin", "sbin", "lib", "lib64")]
    expected = [str(place.readlink()) if place.is_symlink() else "none" for place in places]
    assert (Exit(0), expected) == (result, log.decode().split())


def test_readable_and_writable_paths_are_at_their_place(boxed, tmp_path_factory):
    readable, writable = tmp_path_factory.mktemp("tools"), tmp_path_factory.mktemp("cache")
    (readable / "tool").write_text("tool\n")
    view = _view(boxed.base, network="none", readable=(str(readable),), writable=(str(writable),))
    text = f"cat {readable}/tool; ! touch {readable}/x 2>/dev/null; echo kept > {writable}/x"
    command = boxed.command("")

    argv = sandbox.wrap(("/bin/sh", "-ec", text), view)
    supervised = supervisor.start(
        boxed.fresh(), Command(argv, command.environment, boxed.workspace, True, 4096)
    )

    assert asyncio.run(supervisor.wait(supervised)) == Exit(0)
    assert (supervised.run / "raw").read_text() == "tool\n"
    assert (writable / "x").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("relative", "no absolute path"),
        ("/no/such/place", "does not exist"),
        ("/usr/../etc", "'..'"),
        ("/", "data directory"),
        ("{base}", "data directory"),
        ("{base}/data", "data directory"),
        ("{base}/data/runs", "data directory"),
        ("{base}/link", "data directory"),
        ("/proc", "show /proc"),
        ("/proc/1", "show /proc"),
        ("/etc", "would show /etc/"),
        ("/dev", "its own /dev"),
    ],
)
def test_paths_that_would_show_too_much_are_refused_with_a_sentence(boxed, path, sentence):
    (boxed.base / "data" / "runs").mkdir()
    (boxed.base / "link").symlink_to(boxed.base / "data" / "runs")
    named = path.format(base=boxed.base)
    for view in (_view(boxed.base, readable=(named,)), _view(boxed.base, writable=(named,))):
        with pytest.raises(SandboxRefused, match=sentence) as refusal:
            sandbox.wrap(("true",), view)
        assert repr(named) in str(refusal.value)


def test_bubblewraps_own_failure_is_told_from_the_scripts(boxed):

    command = boxed.command("exit 1")
    assert asyncio.run(supervisor.wait(supervisor.start(boxed.fresh(), command))) == Exit(1)
    broken = tuple("/no/such/place" if word == str(boxed.workspace) else word for word in command.argv)
    supervised = supervisor.start(boxed.fresh(), replace(command, argv=broken))
    assert asyncio.run(supervisor.wait(supervised)) == Exit(1, sandbox_failed=True)
    assert "/no/such/place" in (supervised.run / "raw").read_text()


def test_without_bubblewrap_wrapping_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_found", lambda: sandbox._Found(None, why="bubblewrap is not installed"))
    assert sandbox.bubblewrap() is None
    with pytest.raises(SandboxRefused, match="not installed"):
        sandbox.wrap(("true",), _view(tmp_path))


def test_a_data_directory_among_the_programs_is_covered(boxed):
    view = replace(_view(boxed.base), hidden=Path("/opt/steersman/data"))
    words = sandbox.wrap(("true",), view)
    place = words.index("/opt/steersman/data")
    assert words[place - 1] == "--tmpfs"
    assert place > words.index("/usr")
    assert "/opt/steersman/data" not in sandbox.wrap(("true",), _view(boxed.base))
