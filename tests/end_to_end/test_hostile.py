"""Scripts that mean harm, in a real daemon as root and as an ordinary user: stopped, told, harming nobody."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconciler.execution import groups, supervisor
from reconciler.execution.sandbox import bubblewrap
from tests import ordinary
from tests.ordinary import Arrangement, User, until
from tests.support import PROJECT, Process, SpecRepository

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)
MIB = 1 << 20
HOOK = "the-hook-secret-of-the-daemon"
MARK = "31337"
LIMITS = {"processes": 64, "memory_bytes": 96 * MIB, "disk_bytes": 32 * MIB, "log_bytes": MIB}
TIGHT = {"traits": ["tight"]}


@dataclass(frozen=True)
class Case:
    """A script and what becomes of it: the task's state and reason, a text of its error, a text of its log."""

    script: str
    state: str = "passed"
    reason: str | None = None
    error: str = ""
    told: str = ""
    task: dict[str, Any] | None = None


# -- what it looks for: every hit is a line `leak …`

LOOK = r"""
seen() { if cat "$1" >/dev/null 2>&1 || ls "$1"/* >/dev/null 2>&1; then echo "leak $1"; fi; }
"""
DATA = r"""
for name in . admin.token steersman.db instance lock runs workspaces attachments mirrors sandbox; do
    seen "@DATA@/$name"
done
seen "@DATA@.err"
seen "@DATA@.ready"
for root in /proc/1/root /proc/$PPID/root /proc/self/root; do
    seen "$root/@DATA@"
    seen "$root/@DATA@/admin.token"
done
find / -xdev \( -name admin.token -o -name steersman.db \) 2>/dev/null | sed 's/^/leak /'
for handle in /proc/self/fd/*; do
    case $(readlink "$handle") in *@DATA@*) echo "leak $handle" ;; esac
done
"""
ENVIRONMENT = r"""
for file in /proc/*/environ; do
    tr '\0' '\n' <"$file" 2>/dev/null | grep -e the-hook -e STEERSMAN_READY | sed 's/^/leak /' || true
done
cat /proc/*/cmdline 2>/dev/null | tr '\0' '\n' | grep -e '[s]erve' -e '[s]upervisor.sh' | sed 's/^/leak /' || true
env | grep -e the-hook -e PYTHONPATH | sed 's/^/leak /' || true
test "$(ls -d /proc/[0-9]* | wc -l)" -lt 12 || echo "leak processes"
kill -9 -1 2>/dev/null || true
"""
ROOT = r"""
for path in /root /root/.ssh /root/.bashrc /etc/shadow /etc/ssh /etc/sudoers /home/* /var/lib /var/log /srv /boot; do
    [ "$path" = /home/steersman ] || seen "$path"
done
"""
RIGHTS = r"""
not() { if "$@" >/dev/null 2>&1; then echo "leak $*"; fi; }
put() { if echo "$1" 2>/dev/null >"$2"; then echo "leak $2"; fi; }
not mount -t tmpfs none /mnt
not mount --bind /tmp /usr
not mount -o remount,rw /
not umount /proc
not unshare --mount mount -o remount,bind,rw /usr
not chroot / true
not mknod disk b 254 0
not hostname owned
not date -s 2001-01-01
not nsenter -t 1 -n -m true
not chown 12345 .
put owned /usr/bin/owned
put owned /etc/passwd
put '|/workspace/owned' /proc/sys/kernel/core_pattern
put 1 /proc/sys/vm/drop_caches
put owned /proc/sys/kernel/hostname
put b /proc/sysrq-trigger
put 1 /sys/kernel/profiling
grep -q '^CapEff:.0000000000000000$' /proc/self/status || echo "leak capabilities"
cp /bin/sh shell
chmod 6755 shell
./shell -p -c 'id -u' >ids
test "$(cat ids)" = "$(id -u)" || echo "leak setuid"
python3 - <<'END'
import os
for number in range(3, 64):
    try:
        print("leak descriptor", number, os.readlink(f"/proc/self/fd/{number}")) if number != 3 else None
    except OSError:
        pass
END
"""
CALLS = r"""
cat >call.py <<'END'
import ctypes, mmap, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER, NEWNS, SIGCHLD = 0x10000000, 0x20000, 17
machine = os.uname().machine
clone, setns, add_key, keyctl = {"x86_64": (56, 308, 248, 250), "aarch64": (220, 268, 217, 219)}[machine]

def refused(what, answer):
    if answer == 0 and what.startswith("clone"):
        os._exit(0)
    if answer != -1:
        print("leak", what, answer)

def by_the_old_gate():
    # push rbx; mov eax, 310 (unshare of i386); mov ebx, NEWUSER; int 0x80; pop rbx; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x53\xb8\x36\x01\x00\x00\xbb\x00\x00\x00\x10\xcd\x80\x5b\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    print("gate", ctypes.CFUNCTYPE(ctypes.c_int)(address)())

if sys.argv[1:] == ["gate"]:
    by_the_old_gate()
    sys.exit()
refused("unshare", libc.unshare(NEWUSER))
refused("unshare of more", libc.unshare(NEWUSER | NEWNS))
refused("clone", libc.syscall(clone, NEWUSER | SIGCHLD, 0, 0, 0, 0))
refused("clone3", libc.syscall(435, 0, 0))
refused("add_key", libc.syscall(add_key, b"user", b"mark", b"secret", 6, -4))
refused("keyctl", libc.syscall(keyctl, 0, -4, 1))
refused("setns", libc.syscall(setns, os.open("/proc/self/ns/user", os.O_RDONLY), 0))
refused("x32", libc.syscall(0x40000000 | 272, NEWUSER))
thread = threading.Thread(target=print, args=("a thread",))
thread.start()
thread.join()
END
python3 call.py
if [ "$(uname -m)" = x86_64 ]; then python3 call.py gate | grep -x 'gate 0' | sed 's/^/leak /'; fi
(exit 0) && echo "a child"
"""
# -- what it does to the machine

FORKS = rf"trap '' TERM; (trap '' TERM; setsid sleep {MARK}01 &); while :; do sleep {MARK}01 & wait; done"
LEFT = rf"(setsid sleep {MARK}02 >/dev/null 2>&1 &); (nohup sleep {MARK}02 &); sleep {MARK}02 & echo gone"
BOMB = f"""trap '' TERM; python3 -c '
import os
while True:
    try:
        os.fork()
    except OSError:
        os.execvp("sleep", ["sleep", "{MARK}03"])'"""
GIGABYTE = "head -c 1G /dev/zero"
DISK = "for place in . $HOME /tmp; do head -c 16M /dev/zero >$place/fill; done; sleep 30"
UNLINKED = "exec 3>fill; rm fill; head -c 64M /dev/zero >&3; sleep 30"
BY_OUTPUTS = 'head -c 64M /dev/zero >"$STEERSMAN_OUTPUTS"; sleep 30'
DEEP_DISK = """python3 -c '
import os
for _ in range(3000):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open("fill", "wb").write(bytes(64 << 20))
'; sleep 30"""
PTRACE = """python3 -c '
import ctypes
print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))
'; sleep 30"""
HOG = "python3 -c 'held = bytearray(256 << 20); print(len(held))'"
# -- what it prints and leaves

OUTPUTS_LINK = 'rm -f "$STEERSMAN_OUTPUTS" || ln -sf /etc/passwd "$STEERSMAN_OUTPUTS" || echo kept'
OUTPUTS_LARGE = 'echo a=1 >"$STEERSMAN_OUTPUTS"; head -c 3M /dev/zero | tr "\\0" x >>"$STEERSMAN_OUTPUTS"'
OUTPUTS_ODD = r"""
printf 'good=1\nPATH\nLD_PRELOAD\0=x\n=x\na b=c\n\377=1\nnul=\0\nlast=$(id)\n' >"$STEERSMAN_OUTPUTS"
"""
CLOSED = "echo before; exec >&- 2>&-; sleep 0.3; exit 3"
BINARY = r"""printf '\033]0;owned\007\033[2J\033[31mred\033[0m \000\377\376<script>alert(1)</script>\r\n\342\200\256'"""
UNREADABLE = "mkdir -p out/in; echo x >out/in/file; chmod 0 out/in out . $HOME /tmp 2>/dev/null || true"
NAMES = r"""
mkdir out
cd out
echo plain >plain.txt
python3 - <<'END'
import os, socket
odd = [b"new\nline", b"esc\x1b[2J", b"no-utf8-\xff", "turn\u202e".encode()]
for name in (*odd, b"-rf", b"quote\"'", b"back\\slash", b"x" * 255):
    open(name, "w").write("x")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
os.link("plain.txt", "hard.txt")
links = {"passwd": "/etc/passwd", "token": "@DATA@/admin.token", "root": "/", "up": "../..", "self": "self"}
for name, target in links.items():
    os.symlink(target, name)
END
"""
NAMED = {
    "out/plain.txt", "out/hard.txt", "out/-rf", "out/quote\"'", "out/back\\slash", "out/" + "x" * 255, "out/turn\u202e",
}  # fmt: skip
CASES = {
    "data": Case(LOOK + DATA),
    "environment": Case(LOOK + ENVIRONMENT),
    "root": Case(LOOK + ROOT),
    "rights": Case(RIGHTS),
    "token": Case("env", told="STEERSMAN_TOKEN=***\n"),
    "token-later": Case('sleep 0.2; env; echo "$STEERSMAN_TOKEN" | base64', told="STEERSMAN_TOKEN=***\n"),
    "token-handed-on": Case(
        'echo "mine=$STEERSMAN_TOKEN" >>"$STEERSMAN_OUTPUTS"',
        told="steersman: its output mine was left out: it holds a secret\n",
    ),
    "calls": Case(CALLS, told="a thread\na child\n"),
    "forks": Case(FORKS, "defective", "timeout", task={"timeout_seconds": 1}),
    "ptrace": Case(PTRACE, "defective", "timeout", task={"timeout_seconds": 1}),
    "background": Case(LEFT, told="gone\n"),
    "gigabyte": Case(GIGABYTE, "failed", "log-limit", "its log grew beyond the limit of 1,048,", task=TIGHT),
    "disk": Case(DISK, "failed", "disk-limit", "beyond limits.disk_bytes", task=TIGHT),
    "unlinked": Case(UNLINKED, "failed", "disk-limit", "beyond limits.disk_bytes", task=TIGHT),
    "disk-by-outputs": Case(BY_OUTPUTS, "failed", "disk-limit", "beyond limits.disk_bytes", task=TIGHT),
    "deep-disk": Case(DEEP_DISK, "failed", "disk-limit", "beyond limits.disk_bytes", task=TIGHT),
    "outputs-link": Case(OUTPUTS_LINK, told="kept"),
    "outputs-large": Case(OUTPUTS_LARGE, told="steersman: its outputs were not read: they are larger than"),
    "outputs-odd": Case(OUTPUTS_ODD, told="steersman: line 7 of its outputs is not NAME=value"),
    "closed": Case(CLOSED, "failed", "exit-status", told="before\n"),
    "unreadable": Case(UNREADABLE, task={"attachments": ["out/**"]}),
    "names": Case(NAMES, told="steersman: attachment", task={"attachments": ["out/**"]}),
}
CALLING = """python3 -c '
import socket
ways = [(socket.AF_INET, ("127.0.0.1", PORT)), (socket.AF_UNIX, chr(0) + "steersman-PORT")]
ways += [(socket.AF_INET, ("192.0.2.1", 80))]
for family, address in ways:
    caller = socket.socket(family)
    caller.settimeout(5)
    try:
        caller.connect(address)
        print("leak", address)
    except OSError:
        print("shut")
'"""
NEIGHBOUR = "echo own >note; sleep 0.3; (sleep 0.1; cat note) | cat; test $(ls | wc -l) = 1"


def build(name: str, **task: Any) -> dict[str, Any]:
    """A Build of one task, several of which may run side by side."""
    return {
        "apiVersion": "steersman/v1",
        "kind": "Build",
        "metadata": {"name": name, "project": "shop"},
        "spec": {
            "concurrency": "allow",
            "tasks": [{"name": "main", "timeout_seconds": 120, "traits": ["roomy"], **task}],
        },
    }


def executor(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "steersman/v1", "kind": "Executor", "metadata": {"name": name}, "spec": spec}


@dataclass
class Place:
    """A daemon as one user; `mounts` are those of the machine before."""

    running: Process
    user: User
    base: Path
    mounts: str

    @property
    def data(self) -> Path:
        return self.base / "data"

    def trigger(self, name: str) -> int:
        with self.running.client() as client:
            made = client.post("/reconciler/trigger", json={"key": f"Build/shop/_/{name}"})
            assert made.status_code == 202, made.text
            number: int = made.json()["number"]
            return number

    def ended(self, number: int) -> tuple[dict[str, Any], str]:
        """A job that has ended, and its log; odd bytes as surrogates."""
        job = self.running.job(number, "passed", "failed", "defective", "aborted", seconds=120)
        return job, self.log(number)

    def log(self, number: int) -> str:
        with self.running.client() as client:
            return client.get(f"/reconciler/jobs/{number}/log").content.decode("utf-8", "surrogateescape")

    def attachments(self, number: int) -> dict[str, bytes]:
        with self.running.client() as client:
            items = client.get(f"/reconciler/jobs/{number}/attachments").json()["items"]
        digests = {item["path"]: item["digest"].removeprefix("sha256:") for item in items}
        store = self.data / "attachments"
        return {path: (store / digest[:2] / digest[2:]).read_bytes() for path, digest in digests.items()}

    def health(self) -> str:
        with self.running.client() as client:
            word: str = client.get("/health").json()["status"]
            return word

    def left(self) -> list[str]:
        """What trials should not have left: folders, groups, processes, mounts."""
        found = [str(path) for path in (self.data / "workspaces").iterdir()]
        cookies = {supervisor.cookie(run) for run in (self.data / "runs").glob("*/*")}
        for folder, names, _ in os.walk("/sys/fs/cgroup"):
            found += [f"{folder}/{name}" for name in names if name.removeprefix("steersman-") in cookies]
        for cookie in cookies:
            found += [f"process {pid}" for pid in supervisor.sweep(cookie)]
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or ()
            if any(word.startswith(MARK) for word in words) and process.is_running():
                found.append(f"process {process.pid} {words}")
        return found if Path("/proc/self/mounts").read_text() == self.mounts else [*found, "mounts"]

    def clean(self) -> None:
        """Nothing is left, in a moment."""
        seen: list[str] = []

        def gone() -> bool:
            seen[:] = self.left()
            return not seen

        until(gone, 60, seen)
        assert self.health() == "ok"
        assert self.running.popen.poll() is None


@pytest.fixture(scope="module", params=ordinary.users(), ids=lambda user: user.name)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One daemon a user, with a Build for every script."""
    user: User = request.param
    if user.uid is not None and ordinary.trouble():
        pytest.skip(f"no daemon can be started as an ordinary user: {ordinary.trouble()}")
    base = tmp_path_factory.mktemp("hostile")
    repo = SpecRepository(base / "specs")
    (base / "outside").mkdir()
    data = str(base / "data")
    specs = [
        executor("local", max_load=16, traits=["roomy"]),
        executor("tight", max_load=8, traits=["tight"], limits=LIMITS),
        *(
            build(name, run=case.script.replace("@DATA@", data), **(case.task or {}))
            for name, case in CASES.items()
        ),
        *special(base),
    ]
    listeners = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX)]
    listeners[0].bind(("127.0.0.1", 0))
    port = str(listeners[0].getsockname()[1])
    listeners[1].bind(f"\0steersman-{port}")
    for listener in listeners:
        listener.listen()
    texts = [json.dumps(spec).replace("PORT", port) for spec in specs]
    repo.commit({"project.yaml": PROJECT, "all.yaml": "\n---\n".join(texts)})
    environment = {"STEERSMAN_STOP_GRACE_SECONDS": "1", "STEERSMAN_WEBHOOK_SECRET": HOOK}
    head = repo.head()
    mounts = Path("/proc/self/mounts").read_text()
    with ordinary.running(repo.path, base / "data", Arrangement(user), **environment) as running:
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
        )
        yield Place(running, user, base, mounts)
    for listener in listeners:
        listener.close()
    assert ordinary.of(base / "data") == []


def special(base: Path) -> list[dict[str, Any]]:
    """Builds of the tests that do more than look at an end."""
    cache = [{"key": "k", "paths": ["deps", "more/deps"]}]
    turned = f"""
ls -l deps more/deps 2>/dev/null | grep -c -e '->' || true
mkdir -p more
ln -sfn {base}/outside deps
ln -sfn {base}/outside more/deps
(echo owned >deps/file) 2>/dev/null || echo nowhere
"""
    theirs = (
        "echo theirs >neighbours-secret; touch /tmp/neighbours-tmp ~/neighbours-home; echo there; sleep 3"
    )
    return [
        build("neighbour", run=NEIGHBOUR),
        build("hog", run=HOG, **TIGHT),
        build("bomb", run=BOMB, **TIGHT),
        build("secretive", run=theirs),
        build("prying", run="find / -name 'neighbours-*' 2>/dev/null || true"),
        build("turned", run=turned, cache=cache),
        build("deep", run=DEEP, attachments=["**/x"]),
        build("binary", run=BINARY),
        build("offline", run=CALLING, network="none"),
    ]


DEEP = """python3 -c '
import os
for _ in range(5_000):
    os.mkdir("d")
    os.chdir("d")
open("x", "w").write("x")
'"""


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_script_is_stopped_and_told_and_harms_nobody(place: Place, name: str) -> None:
    """It ends as it should, a neighbour passes meanwhile, nothing of the daemon's is shown, nothing is left."""
    case = CASES[name]
    number, beside = place.trigger(name), place.trigger("neighbour")
    job, log = place.ended(number)
    (trial,) = job["tasks"][0]["trials"]
    assert (job["state"], job["reason"]) == (case.state, case.reason), (trial["error"], log[-2000:])
    assert case.error in (trial["error"] or "")
    assert case.told in log
    if name == "unreadable" and not place.user.root:
        assert "steersman: the workspace could not be read" in log
    assert [line for line in log.splitlines() if line.startswith("leak ")] == []
    assert place.running.token not in log
    assert "stm_run_" not in log
    assert "c3RtX3J1bl" not in log  # the same in base64
    assert HOOK not in log.replace("leak", "")
    neighbour, said = place.ended(beside)
    assert (neighbour["state"], said) == ("passed", "own\n")
    place.clean()


def test_without_a_network_nobody_is_reached(place: Place) -> None:
    """Neither the machine's own address, nor an abstract socket, nor the world."""
    job, log = place.ended(place.trigger("offline"))
    assert (job["state"], log) == ("passed", "shut\n" * 3)


def test_another_jobs_files_are_not_seen(place: Place) -> None:
    """Its workspace, /tmp and home, while it runs."""
    theirs = place.trigger("secretive")
    until(lambda: "there" in place.log(theirs))
    job, log = place.ended(place.trigger("prying"))
    assert (job["state"], log.partition("steersman:")[0]) == ("passed", "")
    assert place.ended(theirs)[0]["state"] == "passed"
    place.clean()


def test_a_fork_bomb_is_bounded_and_ended(place: Place) -> None:
    """It has no more processes than allowed; a neighbour passes meanwhile; a cancel ends all of it."""
    number = place.trigger("bomb")
    until(lambda: len(sleepers("03")) > 20)
    neighbour, said = place.ended(place.trigger("neighbour"))
    assert (neighbour["state"], said) == ("passed", "own\n")
    assert place.health() == "ok"
    assert len(sleepers("03")) <= LIMITS["processes"]
    with place.running.client() as client:
        assert client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
    job, _ = place.ended(number)
    assert (job["state"], job["reason"]) == ("aborted", "cancelled")
    assert sleepers("03") == []
    place.clean()


def sleepers(mark: str) -> list[int]:
    """Pids of the processes that a script marked."""
    words = [(process.pid, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [pid for pid, line in words if MARK + mark in line]


def test_memory_is_bounded_where_the_machine_offers_it(place: Place) -> None:
    """`memory-limit` by a control group; where none can be made, a sentence of the log says so."""
    number, beside = place.trigger("hog"), place.trigger("neighbour")
    job, log = place.ended(number)
    if place.user.root and "memory" in groups.offered():
        assert (job["state"], job["reason"]) == ("failed", "memory-limit")
        assert "limits.memory_bytes" in job["tasks"][0]["trials"][0]["error"]
    else:
        assert job["state"] == "passed"
        assert "steersman: limits.memory_bytes is not enforced on this machine: " in log
    assert place.ended(beside)[0]["state"] == "passed"
    place.clean()


def test_only_regular_files_with_plain_names_are_kept(place: Place) -> None:
    """Links, pipes, sockets and odd names are told and left out; what is kept is what lies in the workspace."""
    number = place.trigger("names")
    _, log = place.ended(number)
    kept = place.attachments(number)
    assert set(kept) == NAMED
    assert kept["out/plain.txt"] == kept["out/hard.txt"] == b"plain\n"
    for name in ("passwd", "token", "root", "up", "self", "pipe", "socket"):
        assert f"steersman: attachment 'out/{name}' was not kept" in log
    assert all(line.isprintable() for line in log.splitlines())


def test_a_log_is_given_as_it_was_printed_and_as_text(place: Place) -> None:
    """Control sequences and bytes that are no text stay data: nothing interprets them on the way."""
    number = place.trigger("binary")
    place.ended(number)
    with place.running.client() as client:
        answer = client.get(f"/reconciler/jobs/{number}/log")
        assert client.get(f"/reconciler/jobs/{number}").status_code == 200
    assert answer.content.startswith(b"\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m \x00\xff\xfe<script>")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_cache_that_became_links_leads_nowhere(place: Place) -> None:
    """It comes back as links inside of the sandbox; nothing is written or read where they point."""
    outside = place.base / "outside"
    logs = [place.ended(place.trigger("turned"))[1].partition("steersman:")[0] for _ in range(2)]
    assert [log.splitlines() for log in logs] == [["0", "nowhere"], ["2", "nowhere"]]
    assert list(outside.iterdir()) == []
    place.clean()


def test_a_tree_of_five_thousand_levels_is_removed(place: Place) -> None:
    """It is too deep for attachments, which is told, and not too deep to go."""
    number, beside = place.trigger("deep"), place.trigger("neighbour")
    job, log = place.ended(number)
    assert job["state"] == "passed"
    assert "is too deep to look for attachments" in log
    assert place.ended(beside)[0]["state"] == "passed"
    place.clean()
