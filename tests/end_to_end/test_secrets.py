"""The life of secrets in a real daemon: they work, and neither they nor their encodings are found anywhere else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from zstandard import ZstdDecompressor

from reconciler.execution.masking import patterns
from reconciler.execution.sandbox import bubblewrap
from tests.api.test_access import routes
from tests.support import PROJECT, Process, SpecRepository, contents, process, start, stop

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)
TOKENS = ("old & secret/token+value=1", 'new "secret" tök€n/value+2 \\ %')
FILES = (
    "machine old.example.org\n  password old-file-passphrase\n",
    "machine new.example.org\n  new-file-passphrase\n",
)
KEY, FILE = "Secret/shop/_/token", "Secret/shop/_/netrc"
LARGE = "head -c 90000 /dev/zero | tr '\\0' x; echo"
CHECK = """
test "$(printf %s "$TOKEN" | sha256sum | cut -c1-64)" = "$TOKEN_DIGEST"
test "$(sha256sum <~/.netrc | cut -c1-64)" = "$FILE_DIGEST"
"""
PRINTS = """
echo "plain $TOKEN"
cat ~/.netrc
printf %s "$TOKEN" | base64 -w0; echo
printf 'x%s' "$TOKEN" | base64; echo
printf 'xx%s' "$TOKEN" | base64 -w0; echo
base64 -w0 ~/.netrc; echo
python3 -c 'import os, urllib.parse, json; t = os.environ["TOKEN"]
print(urllib.parse.quote(t), urllib.parse.quote_plus(t), t.encode().hex())
print(json.dumps(t), json.dumps(t, ensure_ascii=False))'
env | grep TOKEN=
"""
SLOW = """
python3 -c 'import os, time
t = os.environ["TOKEN"].encode()
half = len(t) // 2
os.write(1, b"split " + t[:half])
time.sleep(4)
os.write(1, t[half:] + b" end\\n")'
"""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def build(name: str, script: str, turn: int) -> dict[str, Any]:
    """A Build whose script has the token, the file, and their digests."""
    variables = {
        "TOKEN": {"secret_ref": "token"},
        "TOKEN_DIGEST": digest(TOKENS[turn]),
        "FILE_DIGEST": digest(FILES[turn]),
    }
    task = {"name": "t", "environment_variables": variables, "secrets": ["netrc"], "run": CHECK + script}
    return {
        "apiVersion": "steersman/v1",
        "kind": "Build",
        "metadata": {"name": name, "project": "shop"},
        "spec": {"concurrency": "allow", "tasks": [task]},
    }


SCRIPTS = {"prints": PRINTS + LARGE, "fails": 'echo "no such user: $TOKEN" >&2; exit 3', "slow": SLOW}


class Life:
    """One daemon after the other on the same data, and what they were told."""

    def __init__(self, running: Process, repo: SpecRepository) -> None:
        self.running, self.repo = running, repo

    def command(self, *arguments: str, value: str = "") -> str:
        """Standard output of `steersman …` in a process of its own."""
        environment = os.environ | {
            "STEERSMAN_SERVER": self.running.url,
            "STEERSMAN_TOKEN": self.running.token,
        }
        argv = [sys.executable, "-c", "from api.cli import main; main()", *arguments]
        done = subprocess.run(argv, input=value.encode(), env=environment, capture_output=True, check=True)
        return done.stdout.decode()

    def declare(self, turn: int) -> None:
        """Commit the secrets, sealed by the command line, and the Builds that know their digests."""
        secrets = {
            "token.yaml": self.command("secret", "seal", KEY, value=TOKENS[turn] + "\n"),
            "netrc.yaml": self.command(
                "secret", "seal", FILE, "--type", "plaintext_file", "--path", "~/.netrc", value=FILES[turn]
            ),
        }
        builds = {f"{name}.yaml": json.dumps(build(name, text, turn)) for name, text in SCRIPTS.items()}
        head = self.repo.commit({"project.yaml": PROJECT, **secrets, **builds})
        self.running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
        )

    def trigger(self, name: str) -> int:
        with self.running.client() as client:
            made = client.post("/reconciler/trigger", json={"key": f"Build/shop/_/{name}"})
            assert made.status_code == 202, made.text
            number: int = made.json()["number"]
            return number

    def ended(self, number: int) -> tuple[str, str]:
        """State and log of a job that has ended."""
        job = self.running.job(number, "passed", "failed", "defective", "aborted", seconds=60)
        return job["state"], self.log(number)

    def log(self, number: int) -> str:
        with self.running.client() as client:
            return client.get(f"/reconciler/jobs/{number}/log").text

    def again(self) -> None:
        """Kill the daemon, and start another one."""
        self.running.kill()
        self.running = start(self.repo.path, self.running.data)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    base = tmp_path_factory.mktemp("secrets")
    repo = SpecRepository(base / "specs")
    repo.commit({"project.yaml": PROJECT})
    with process(repo.path, base / "data") as running:
        found = Life(running, repo)
        yield found
        stop(found.running)


@pytest.fixture(scope="module")
def seen(life: Life) -> list[tuple[str, bytes]]:
    """All of it, once: what was found of processes meanwhile, with where it was."""
    found: list[tuple[str, bytes]] = []
    for turn in (0, 1):
        life.declare(turn)
        state, log = life.ended(life.trigger("prints"))
        assert state == "passed", log
        assert "plain ***\n" in log
        assert "TOKEN=***\n" in log
        assert life.ended(life.trigger("fails")) == ("failed", "no such user: ***\n")
        slow = life.trigger("slow")
        life.running.wait_for(lambda c, number=slow: "split " in c.get(f"/reconciler/jobs/{number}/log").text)
        found += list(of_processes(life.running))
        assert life.log(slow) == "split "
        life.again()
        assert life.ended(slow) == ("passed", "split *** end\n")
    settled(life.running.data)
    return found


def settled(data: Path) -> None:
    """What ended trials left has been tidied."""
    for _ in range(600):
        if not [path for path in (data / "runs").rglob("*") if path.name in ("raw", "secrets")]:
            return
        time.sleep(0.05)
    raise AssertionError("raw output is left")


def of_processes(running: Process) -> Iterator[tuple[str, bytes]]:
    """Command lines and environments of the daemon and all that belongs to it outside of sandboxes."""
    own = os.readlink("/proc/self/ns/pid")
    count = 0
    for found in psutil.process_iter():
        folder = Path("/proc") / str(found.pid)
        try:
            command = (folder / "cmdline").read_bytes()
            mine = found.pid == running.popen.pid or os.fsencode(running.data) in command
            if not mine or os.readlink(folder / "ns/pid") != own:
                continue
            yield str(folder / "cmdline"), command
            yield str(folder / "environ"), (folder / "environ").read_bytes()
            count += 1
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert count >= 3, "the daemon, the supervisor and bubblewrap"


def hits(places: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]]) -> list[str]:
    """Where any form of a value is; what is not looked at cannot be found, so there must be something."""
    forms = sorted(patterns([*TOKENS, *FILES]))
    found, looked = [], 0
    for place, content in places:
        looked += 1
        found += [f"{place}: {form!r}" for form in forms if form in content]
    assert looked
    return found


def test_no_process_of_the_daemon_shows_a_value(seen: list[tuple[str, bytes]]) -> None:
    """In its command line or environment, while the script runs that has it."""
    assert hits(seen) == []


def test_no_object_of_the_spec_repository_holds_a_value(life: Life, seen: object) -> None:
    """Also of those that are no longer reachable."""
    command = ["git", "-C", str(life.repo.path), "cat-file", "--batch-all-objects", "--batch"]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    assert content.count(b"sealed: ") >= 4
    assert hits([("git", content)]) == []


def test_no_file_of_the_data_directory_holds_a_value(life: Life, seen: object) -> None:
    """Database, logs (those that are compressed too), run folders, mirrors; nor what the daemons said."""
    packed = 0

    def files() -> Iterator[tuple[str, bytes]]:
        nonlocal packed
        told = life.running.data.parent / "data.err"
        for path, content in [*contents(life.running.data), (told, told.read_bytes())]:
            yield str(path), content
            if path.suffix == ".zst":
                packed += 1
                reader = ZstdDecompressor().stream_reader(BytesIO(content), read_across_frames=True)
                yield f"{path} (unpacked)", reader.read()

    assert hits(files()) == []
    assert packed == 2


def test_no_answer_holds_a_value(life: Life, seen: object) -> None:
    """Of any GET route, for every job and resource; and of plans."""
    with life.running.client() as client:
        jobs = [item["number"] for item in client.get("/reconciler/jobs").json()["items"]]
        keys = [item["key"] for item in client.get("/reconciler/resources").json()["items"]]
        assert (len(jobs), KEY in keys) == (6, True)
        addresses = sorted(
            {address for method, path in routes() if method == "GET" for address in filled(path, jobs, keys)}
        )
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda address: (address, answer(client, address)), addresses))
        plan = client.post("/reconciler/plan", json={"ref": "main"})
        before = client.post("/reconciler/plan", json={"ref": life.repo.git("rev-parse", "HEAD~1")})
    assert before.json()["actions"], "a rotation is seen in a plan"
    assert hits([*answers, ("plan", plan.content), ("before", before.content)]) == []
    told = dict(answers)
    assert b"age-encryption" not in told["/reconciler/secrets/key"]
    assert b'"sealed"' in told[f"/reconciler/resources/{KEY}"]


def filled(path: str, jobs: list[int], keys: list[str]) -> Iterator[str]:
    """A route for each of its possible arguments."""
    if "{number:int}" in path:
        yield from (path.replace("{number:int}", str(number)).replace("{path:path}", "x") for number in jobs)
    elif "{key:path}" in path:
        yield from (path.replace("{verb:str}", "read").replace("{key:path}", key) for key in keys)
    else:
        yield path


def answer(client: httpx.Client, address: str) -> bytes:
    """What is answered, of a stream for a second."""
    params = {"q": "*", "search": "*"} if address.endswith("search") else {}
    endless = "stream" in address
    content = b""
    try:
        with client.stream("GET", address, params=params, timeout=1 if endless else 60) as response:
            for chunk in response.iter_raw():
                content += chunk
    except httpx.TimeoutException:
        assert endless, address
    return content


def test_the_document_is_what_the_command_line_printed(life: Life, seen: object) -> None:
    """Readable and reviewable: all but the sealed text stands there as it was asked for."""
    found: Mapping[str, Any] = yaml.safe_load((life.repo.path / "netrc.yaml").read_text())
    sealed = found["spec"].pop("sealed")
    assert (found["metadata"], found["spec"]) == (
        {"name": "netrc", "project": "shop"},
        {"type": "plaintext_file", "path": "~/.netrc"},
    )
    assert sealed.isascii()
