"""Secrets of scripts: found, opened, put in place and masked; in every way to run a script."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyrage.x25519 import Identity

from reconciler.access import ROOT
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.errors import NotFound, Stalled
from reconciler.execution import memory, sandbox, secrets
from reconciler.execution.memory import Memory
from reconciler.execution.sandbox import bubblewrap, why_not
from reconciler.execution.secrets import Handed, SecretError, Secrets, filled, uses
from reconciler.model.job import Job, Reason, State
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from reconciler.sealing import Keys, seal
from tests.roots import CONTAINER_ARGUMENTS, IMAGE, container_trouble, make_root
from tests.running import build, finished, live, text_of
from tests.support import PROJECT, SpecRepository, daemon, eventually, holding, settings_for

S = State
KEYS = Keys((Identity.generate(),))
JOB = "Build/shop/_/work"
IN_STAGING = "Build/shop/staging/work"


def declared(key: str, value: bytes | None, **spec: Any) -> Resource:
    """A Secret as it is in the store; without a value one that never was valid."""
    _, project, environment, name = key.split("/", 3)
    whole = None if value is None else {"type": "value", "sealed": seal(value, KEYS.recipient, key), **spec}
    return Resource(
        key, "Secret", None if project == "_" else project, None if environment == "_" else environment, name,
        {}, {}, "s.yaml", 1, "", None, whole, (), (), 1, 1, Sync.SYNCED, Health.HEALTHY, (), "",
    )  # fmt: skip


def opener(*resources: Resource, keys: Keys = KEYS) -> Secrets:
    return Secrets(keys, {resource.key: resource for resource in resources}.get)


def variable(name: str) -> dict[str, Any]:
    return {"environment_variables": {"PLAIN": "x", "TOKEN": {"secret_ref": name}}}


# -- on a worker


def test_a_trial_on_a_worker_sees_what_came_with_it_and_no_nearer_secret_of_before():
    """The project's own was taken away; the one of all projects is what its name means from then on."""
    keys = Keys((Identity.generate(),))
    worker = Handed(keys)
    near, far = declared("Secret/shop/_/token", b"old"), declared("Secret/_/_/token", b"new")
    for trial, known in (("first", near), ("second", far)):
        sealed = seal(
            opener(known).open(JOB, variable("token")).variables["TOKEN"].encode(), keys.recipient, known.key
        )
        body = {
            "secrets": {known.key: {"type": "value", "sealed": sealed}},
            "token": "",
            "server": "http://x",
        }
        worker.take(trial, json.dumps(body))
    assert worker.open(JOB, variable("token"), trial="second").variables == {"TOKEN": "new"}
    assert worker.open(JOB, variable("token"), trial="first").variables == {"TOKEN": "old"}
    worker.forget("first")
    assert worker.declared(near.key) is None
    with pytest.raises(SecretError, match="there is no secret"):
        worker.open(JOB, variable("token"), trial="first")


# -- found by name


def test_the_nearest_secret_of_a_name_counts() -> None:
    """(project, environment), project, installation."""
    everywhere = declared("Secret/_/_/token", b"everywhere")
    project = declared("Secret/shop/_/token", b"project")
    near = declared("Secret/shop/staging/token", b"near")
    other = declared("Secret/other/_/token", b"other")
    cases = [
        (IN_STAGING, (everywhere, project, near, other), "near"),
        (JOB, (everywhere, project, near, other), "project"),
        (JOB, (everywhere, near, other), "everywhere"),
    ]
    for job, resources, expected in cases:
        opened = opener(*resources).open(job, variable("token"))
        assert opened.variables == {"TOKEN": expected}
        assert len(opened.sealed) == 1


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ((), "there is no secret token: none of Secret/shop/_/token, Secret/_/_/token is declared"),
        ((declared("Secret/other/_/token", b"other"),), "there is no secret token"),
        # a name is not sought further than where it is declared, or a typo would give away another value
        (
            (declared("Secret/shop/_/token", None), declared("Secret/_/_/token", b"everywhere")),
            "Secret/shop/_/token is declared, but was never valid",
        ),
        ((declared("Secret/shop/_/token", b"a\0b"),), "Secret/shop/_/token holds a NUL character"),
    ],
)
def test_what_cannot_be_given_names_the_key(resources: tuple[Resource, ...], told: str) -> None:
    """And never the value."""
    with pytest.raises(SecretError) as caught:
        opener(*resources).open(JOB, variable("token"))
    assert caught.value.message.startswith(told)
    assert caught.value.reason is Reason.SECRET


def test_another_server_s_and_a_copied_secret_are_told() -> None:
    """By KEY."""
    foreign = opener(declared("Secret/shop/_/token", b"value"), keys=Keys((Identity.generate(),)))
    with pytest.raises(SecretError, match=r"^Secret/shop/_/token is sealed to another key"):
        foreign.open(JOB, variable("token"))
    sealed = seal(b"value", KEYS.recipient, "Secret/other/_/token")
    copied = opener(declared("Secret/shop/_/token", b"", sealed=sealed))
    with pytest.raises(SecretError, match=r"^Secret/shop/_/token holds what was sealed for another KEY"):
        copied.open(JOB, variable("token"))


def test_nothing_is_opened_where_nothing_is_named() -> None:
    """Which costs a look at the policy."""
    nothing = Secrets(KEYS, lambda key: pytest.fail(f"{key} was looked up"))
    for policy in ({}, {"secrets": []}, {"environment_variables": {"A": "1"}, "services": [{"name": "x"}]}):
        assert not nothing.open(JOB, policy)
        assert not uses(policy)


def test_no_value_is_in_a_representation() -> None:
    """Of what could come into a traceback."""
    path = {"type": "plaintext_file", "path": "~/x"}
    both = (
        declared("Secret/shop/_/token", b"the-value"),
        declared("Secret/shop/_/file", b"the-file", **path),
    )
    opened = opener(*both).open(JOB, {**variable("token"), "secrets": ["file"]})
    assert "the-" not in repr(opened)
    assert opened.files[0].content == b"the-file"


# -- put in place


def places(*resources: Resource) -> list[tuple[str, int]]:
    """Where the secrets `a`, `b`, … of a task are put, and their permissions."""
    names = [resource.name for resource in resources]
    return [(held.place, held.mode) for held in opener(*resources).open(JOB, {"secrets": names}).files]


def test_keys_and_files_are_put_where_builds_sr_ht_puts_them() -> None:
    """~/.ssh/NAME, the first one also as id_rsa; a file at its path with its mode."""
    home = "/home/steersman"
    found = places(
        declared("Secret/shop/_/a", b"1", type="ssh_key"),
        declared("Secret/shop/_/b", b"2", type="ssh_key"),
        declared("Secret/shop/_/c", b"3", type="plaintext_file", path="~/.config/c", mode="640"),
        declared("Secret/shop/_/d", b"4", type="plaintext_file", path="d", mode=None),
        declared("Secret/shop/_/e", b"5", type="plaintext_file", path="/workspace/in/e", mode="0755"),
        declared("Secret/shop/_/f", b"6", type="pgp_key"),
    )
    assert found == [
        (f"{home}/.ssh/a", 0o600), (f"{home}/.ssh/id_rsa", 0o600), (f"{home}/.ssh/b", 0o600),
        (f"{home}/.config/c", 0o640), (f"{home}/d", 0o600), ("/workspace/in/e", 0o755),
        ("/run/steersman/pgp/f", 0o600),
    ]  # fmt: skip


def test_a_key_that_is_called_id_rsa_is_there_once() -> None:
    """It is its own first."""
    assert len(places(declared("Secret/shop/_/id_rsa", b"1", type="ssh_key"))) == 1


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"type": "value"}, "is a value: name it in environment_variables as {secret_ref: a}"),
        ({"type": "plaintext_file", "path": "/etc/a"}, "put it below ~, /tmp or /workspace"),
        ({"type": "plaintext_file", "path": "/home/steersman"}, "put it below ~, /tmp or /workspace"),
        ({"type": "plaintext_file", "path": "~/.ssh/config"}, "where the SSH configuration is"),
    ],
)
def test_what_cannot_be_placed_is_told(spec: Mapping[str, Any], told: str) -> None:
    """Before anything starts."""
    with pytest.raises(SecretError, match=r"^Secret/shop/_/a is") as caught:
        places(declared("Secret/shop/_/a", b"value", **spec))
    assert told in caught.value.message


def test_two_secrets_at_one_place_are_told() -> None:
    """Which of them would win is nobody's guess."""
    spec = {"type": "plaintext_file", "path": "~/same"}
    with pytest.raises(SecretError, match="where Secret/shop/_/a is"):
        places(declared("Secret/shop/_/a", b"1", **spec), declared("Secret/shop/_/b", b"2", **spec))


def test_plain_and_secret_variables_go_together() -> None:
    """Numbers as they are written."""
    assert filled({"A": 1, "B": {"secret_ref": "x"}}, {"B": "v"}) == {"A": "1", "B": "v"}


# -- in memory


def test_a_run_s_folder_in_memory_is_private_and_swept(tmp_path: Path) -> None:
    """What a killed daemon left goes at its next start, but for what lives."""
    place = Memory(memory.SHARED / f"steersman-test-{os.getpid()}")
    try:
        for run in ("one", "two"):
            memory.write(place.folder(run), "x", b"value", 0o640)
        assert (place.root.stat().st_mode & 0o777, place.folder("one").stat().st_mode & 0o777) == (
            0o700,
            0o700,
        )
        assert (place.folder("one") / "x").stat().st_mode & 0o777 == 0o640
        place.sweep({"two"})
        assert [path.name for path in place.root.iterdir()] == ["two"]
        place.remove("two")
        assert list(place.root.iterdir()) == []
        place.root.chmod(0o755)
        with pytest.raises(Stalled, match="not the daemon's own folder"):
            place.folder("three")
    finally:
        place.sweep(())
        place.close()
    assert not place.root.exists()
    with pytest.raises(Stalled, match="no file system in memory"):
        Memory(tmp_path / "none").folder("one")


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """Everybody may write /dev/shm."""
    place = Memory(memory.SHARED / f"steersman-link-{os.getpid()}")
    place.root.symlink_to(tmp_path)
    try:
        with pytest.raises(Stalled, match="not the daemon's own folder"):
            place.folder("one")
        (tmp_path / "kept").mkdir()
        place.sweep(())
        assert (tmp_path / "kept").is_dir()
    finally:
        place.root.unlink()


# -- real scripts

TOKEN = "the token's value, with spaces & more"
FILE = 'user = "alice"\npassword = "correct horse"\n'


def ssh_key(folder: Path) -> bytes:
    """A real one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    return (folder / "key").read_bytes()


def pgp_key() -> bytes:
    """Likewise. Its agent's socket needs a short path, which a test's folder may not have."""
    with tempfile.TemporaryDirectory(prefix="gnupg-", dir="/tmp") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
        made = [*gpg, "--passphrase", "", "--quick-gen-key", "bob@example.org", "ed25519"]
        subprocess.run(made, check=True, capture_output=True)
        exported = subprocess.run(
            [*gpg, "--armor", "--export-secret-keys"], check=True, capture_output=True
        ).stdout
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    return exported


def document(running: Daemon, key: str, value: bytes, **spec: Any) -> str:
    """A Secret, sealed to the daemon."""
    _, project, environment, name = key.split("/", 3)
    metadata = {"name": name}
    metadata |= {} if project == "_" else {"project": project}
    metadata |= {} if environment == "_" else {"environment": environment}
    sealed = seal(value, running.installation.keys.recipient, key)
    whole = {
        "apiVersion": "steersman/v1",
        "kind": "Secret",
        "metadata": metadata,
        "spec": {**spec, "sealed": sealed},
    }
    return json.dumps(whole)


async def ran(running: Daemon, repo: SpecRepository, specs: list[str], task: str) -> Job:
    """The next job of the Build `work` with this specification, once it has ended."""
    text = build(f"concurrency: allow\ntriggers: [{{type: change}}]\n{task}")
    repo.commit({"work.yaml": "\n---\n".join([*specs, text])})
    await running.installation.run_now("source")
    return await finished(running)


def _sqlite() -> None:
    """The database is none of this."""


WAYS = ("host", "root", "container", "bare")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, dict[str, Any]]:
    """(name, an Executor for it, settings)."""
    name: str = request.param
    if name in ("host", "root") and bubblewrap() is None:
        pytest.skip(f"needs bubblewrap: {why_not()}")
    if name == "container" and container_trouble():
        pytest.skip(f"needs podman: {container_trouble()}")
    images: dict[str, Any] = {"host": {"type": "host"}}
    if name == "root":
        images = {"small": {"type": "root", "path": str(make_root(tmp_path / "root"))}}
    if name == "container":
        images = {"small": {"type": "container", "reference": IMAGE, "arguments": CONTAINER_ARGUMENTS}}
    spec = {
        "images": images,
        "default_image": next(iter(images)),
        "sandbox": "off" if name == "bare" else "required",
    }
    executor = {"apiVersion": "steersman/v1", "kind": "Executor", "metadata": {"name": "local"}, "spec": spec}
    return name, json.dumps(executor), {"allow_unsandboxed": True} if name == "bare" else {}


LOOK = """
tasks:
  - name: t
    environment_variables: {TOKEN: {secret_ref: token}, PLAIN: "1"}
    secrets: [key, other, file]
    run: |
      printf %s "$TOKEN" > here
      cp -L ~/.ssh/key ~/.ssh/other ~/.ssh/id_rsa ~/.config/file .
      for f in ~/.ssh/key ~/.config/file ~/.ssh/config; do find -L "$f" -printf "%f %m\\n"; done
      grep -c IdentityFile ~/.ssh/config
      echo more >> ~/.ssh/config
      chmod 400 ~/.ssh/key
      echo "$PLAIN [$TOKEN]"
      cat ~/.config/file
      echo "token=$TOKEN" >> "$STEERSMAN_OUTPUTS"
      echo "fine=$PLAIN" >> "$STEERSMAN_OUTPUTS"
    attachments: [here, key, other, id_rsa, file]
"""
LOG = """\
key 600
file 640
config 600
2
1 [***]
***
steersman: its output token was left out: it holds a secret
"""


def test_variables_keys_and_files_are_there_and_masked(
    way: tuple[str, str, dict[str, Any]], tmp_path: Path
) -> None:
    """The same in every way; nothing is left in memory, and no file of the data directory holds a value."""
    name, executor, settings = way
    key = ssh_key(tmp_path)

    async def work(running: Daemon, repo: SpecRepository) -> None:
        specs = [
            executor,
            document(running, "Secret/shop/_/token", TOKEN.encode()),
            document(running, "Secret/shop/_/key", key.rstrip(), type="ssh_key"),
            document(running, "Secret/_/_/other", b"other-key", type="ssh_key"),
            document(
                running,
                "Secret/shop/_/file",
                FILE.encode(),
                type="plaintext_file",
                path="~/.config/file",
                mode="640",
            ),
        ]
        job = await ran(running, repo, specs, LOOK)
        (trial,) = job.tasks[0].trials
        log = await text_of(running)
        assert (job.state, trial.error, log) == (S.PASSED, None, LOG)
        assert trial.outputs == {"fine": "1"}
        store = tmp_path / "data/attachments"
        kept = {path.read_bytes() for path in store.rglob("*") if path.is_file()}
        assert kept == {TOKEN.encode(), key, b"other-key\n", FILE.encode()}
        for path in store.rglob("*"):  # what the script has kept on purpose
            path.unlink() if path.is_file() else None
        root, runs = running.installation.runs._memory.root, tmp_path / "data/runs"
        await eventually(lambda: not root.exists() or not list(root.iterdir()))
        await eventually(
            lambda: not [path for path in runs.rglob("*") if path.name in ("secrets", "outputs")]
        )
        held = [TOKEN.encode(), b"correct horse", b"other-key", key.splitlines()[1]]
        assert holding(tmp_path / "data", *held) == []

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work, **settings)
    if name in ("container", "bare"):
        instance = (tmp_path / "data/instance").read_text().strip()
        assert not (memory.SHARED / f"steersman-{instance}").exists()


SERVICES = """
tasks:
  - name: t
    services:
      - {name: db, run: 'echo "[$PASSWORD]"; touch up; exec sleep 60', ready: test -f up,
         environment_variables: {PASSWORD: {secret_ref: token}, PLAIN: "1"}}
    run: echo "[$PASSWORD]"
"""
SERVICE_OF_CONTAINER = """
tasks:
  - name: t
    services:
      - {name: db, image: service, ready: 'test -n "$PASSWORD"',
         environment_variables: {PASSWORD: {secret_ref: token}, PLAIN: "1"}}
    run: echo "[$PASSWORD]"
"""


def test_a_service_has_its_own_secrets_and_they_are_masked(
    way: tuple[str, str, dict[str, Any]], tmp_path: Path
) -> None:
    """Not the script's, and not by a file on the disk."""
    name, executor, settings = way
    if name == "container":
        executor = executor.replace('"small"', '"service"')

    async def work(running: Daemon, repo: SpecRepository) -> None:
        specs = [executor, document(running, "Secret/shop/_/token", TOKEN.encode())]
        job = await ran(running, repo, specs, SERVICE_OF_CONTAINER if name == "container" else SERVICES)
        assert (job.state, job.tasks[0].trials[0].error) == (S.PASSED, None), await text_of(
            running, script="db"
        )
        assert await text_of(running, script="run") == "[]\n"
        if name != "container":
            assert await text_of(running, script="db") == "[***]\n"
        assert holding(tmp_path / "data", TOKEN.encode()) == []

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work, **settings)


PGP = """
tasks:
  - name: t
    secrets: [signing]
    run: |
      echo text > file
      gpg --batch --yes --local-user bob@example.org --detach-sign file
      gpg --batch --verify file.sig file 2>&1 | grep -o 'Good signature'
      df --output=fstype "${GNUPGHOME:-$HOME/.gnupg}" | tail -1
"""


def test_a_pgp_key_is_imported_into_a_keyring_in_memory(
    way: tuple[str, str, dict[str, Any]], tmp_path: Path
) -> None:
    """Where there is gpg; where there is none, the trial is defective and says so."""
    name, executor, settings = way
    key = pgp_key()

    async def work(running: Daemon, repo: SpecRepository) -> None:
        job = await ran(
            running, repo, [executor, document(running, "Secret/shop/_/signing", key, type="pgp_key")], PGP
        )
        log, (trial,) = await text_of(running), job.tasks[0].trials
        if name in ("root", "container"):
            assert (job.state, trial.reason) == (S.DEFECTIVE, Reason.SECRET)
            assert trial.error == "a PGP key could not be imported by gpg; the log says why"
            assert "importing a PGP key has failed" in log
            return
        assert (job.state, log.splitlines()[-2:]) == (S.PASSED, ["Good signature", "tmpfs"]), log
        agents = [
            p
            for p in psutil.process_iter(["cmdline"])
            if str(memory.SHARED) in " ".join(p.info["cmdline"] or ())
        ]
        await eventually(lambda: not any(agent.is_running() for agent in agents))

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work, **settings)


def test_ssh_finds_its_keys_and_git_too(tmp_path: Path) -> None:
    """Whatever home the machine's passwd names."""
    if bubblewrap() is None:
        pytest.skip(f"needs bubblewrap: {why_not()}")
    key = ssh_key(tmp_path)
    body = """
tasks:
  - name: t
    secrets: [key]
    run: |
      ssh -G example.org 2>/dev/null | grep -i identityfile
      ssh-keygen -y -f ~/.ssh/key | cut -d' ' -f1
      echo $GIT_SSH_COMMAND
      ls -l /proc/self/fd | grep -c memfd || true
"""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        job = await ran(running, repo, [document(running, "Secret/shop/_/key", key, type="ssh_key")], body)
        expected = 'identityfile /home/steersman/.ssh/key\nssh-ed25519\nssh -F "$HOME/.ssh/config"\n0\n'
        assert (job.state, await text_of(running)) == (S.PASSED, expected)

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work)


@pytest.mark.parametrize("link", ["conf", "conf/token"])
def test_a_checkout_cannot_lead_a_file_elsewhere(link: str, tmp_path: Path) -> None:
    """bubblewrap would follow a link of the workspace while it still sees the machine."""
    code = SpecRepository(tmp_path / "code")
    path = code.path / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("../../../oldroot/tmp" if link == "conf" else "/etc/owned")
    code.commit()
    body = f"repo: {code.path}\ntasks: [{{name: t, secrets: [file], run: echo}}]"

    async def work(running: Daemon, repo: SpecRepository) -> None:
        where = {"type": "plaintext_file", "path": "/workspace/conf/token"}
        secret = document(running, "Secret/shop/_/file", b"value", **where)
        text = build(body)
        repo.commit({"work.yaml": f"{secret}\n---\n{text}"})
        await running.installation.run_now("source")
        await commands.trigger(running.installation, ROOT, JOB, {}, None, None)
        job = await finished(running)
        (trial,) = job.tasks[0].trials
        assert (job.state, trial.reason) == (S.DEFECTIVE, Reason.SECRET)
        assert trial.error == (
            "Secret/shop/_/file is to be put at /workspace/conf/token, where the checkout has something else"
        )

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work)


def test_an_unopenable_secret_is_defective_and_a_skipped_task_opens_none(tmp_path: Path) -> None:
    """One copied from elsewhere; the task of another branch has the same and is skipped."""
    code = SpecRepository(tmp_path / "code")
    code.commit()
    body = f"""
repo: {code.path}
tasks:
  - {{name: bad, environment_variables: {{TOKEN: {{secret_ref: token}}}}, run: echo started}}
  - {{name: skipped, branches: [none], environment_variables: {{TOKEN: {{secret_ref: token}}}}, run: echo started}}
"""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        good = document(running, "Secret/other/_/token", b"the-value")
        copied = good.replace('"other"', '"shop"')
        job = await ran(running, repo, [copied], body)
        bad, skipped = job.tasks
        assert (bad.state, bad.trials[0].reason) == (S.DEFECTIVE, Reason.SECRET)
        assert (bad.trials[0].error or "").startswith(
            "Secret/shop/_/token holds what was sealed for another KEY"
        )
        assert (skipped.state, skipped.trials) == (S.SKIPPED, ())
        assert "started" not in await text_of(running)

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work)


def test_a_trial_without_secrets_has_no_more_files_than_before(tmp_path: Path) -> None:
    """Nothing is noted, and its output goes straight into its log."""
    body = "tasks: [{name: t, run: 'echo up; sleep 1'}]"

    async def work(running: Daemon, repo: SpecRepository) -> None:
        await ran(running, repo, [], body)
        assert not (memory.SHARED / running.installation.runs._memory.root.name).exists()
        (run,) = (tmp_path / "data/runs").glob("*/*")
        assert not {path.name for path in run.iterdir()} & {"raw", "secrets", "keys"}

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work)


def test_what_is_said_of_a_script_that_prints_nothing_is_masked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has called its files is told. It has ended before anybody began to follow its log."""
    monkeypatch.setattr("reconciler.execution.run._SHORT", 60.0)
    body = """
tasks:
  - name: t
    environment_variables: {TOKEN: {secret_ref: token}}
    attachments: ["*"]
    run: ln -s nowhere "$TOKEN"
"""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        secret = document(running, "Secret/shop/_/token", TOKEN.encode())
        assert (await ran(running, repo, [secret], body)).state is S.PASSED
        told = 'steersman: attachment "***" was not kept: it is a link or cannot be read\n'
        assert await text_of(running) == told

    live(tmp_path, _sqlite, build("tasks: [{name: t, run: echo}]"), work)


def test_values_are_kept_sealed_only(tmp_path: Path) -> None:
    """What a restart masks by."""
    given = opener(declared("Secret/shop/_/token", b"the-value"))
    given.keep(tmp_path, given.open(JOB, variable("token")))
    text = (tmp_path / "secrets").read_bytes()
    assert b"the-value" not in text
    assert base64.b64encode(b"the-value").rstrip(b"=") not in text
    assert given.kept(tmp_path) == [b"the-value"]
    with pytest.raises(SecretError, match="sealed to another key"):
        opener(keys=Keys((Identity.generate(),))).kept(tmp_path)
    (tmp_path / "secrets").unlink()
    with pytest.raises(SecretError, match="not known any more"):
        given.kept(tmp_path)
    assert secrets.NOTHING.files == ()


def test_the_rest_of_a_log_is_not_shown_when_it_can_no_longer_be_masked(tmp_path: Path) -> None:
    """The server's key was replaced while a script ran: its end is judged as ever, its log says why it stops."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    body = """
tasks:
  - name: t
    environment_variables: {TOKEN: {secret_ref: token}}
    run: |
      echo "first $TOKEN"
      while ! [ -e /tmp/go ]; do sleep 0.05; done
      echo "second $TOKEN"
      echo "token=$TOKEN" >> "$STEERSMAN_OUTPUTS"
"""
    settings = settings_for(repo, tmp_path / "data", allow_unsandboxed=True)

    async def before() -> None:
        async with Daemon(settings) as running:
            text = build(f"triggers: [{{type: change}}]\n{body}")
            secret = document(running, "Secret/shop/_/token", TOKEN.encode())
            repo.commit({"work.yaml": f"{secret}\n---\n{text}"})
            await running.installation.run_now("source")

            async def begun() -> bool:
                try:
                    return await text_of(running) == "first ***\n"
                except NotFound:
                    return False

            await eventually(begun)

    async def after() -> None:
        async with daemon(settings.model_copy(update={"accept_key": True})) as running:
            (tmp,) = (tmp_path / "data/workspaces").glob("*/tmp")
            await asyncio.sleep(0.3)
            (tmp / "go").touch()
            job = await finished(running)
            (trial,) = job.tasks[0].trials
            assert (job.state, trial.outputs) == (S.PASSED, {})
            log = await text_of(running)
            told = "the rest of its log is not shown: Secret/shop/_/token is sealed to another key"
            assert log.startswith("first ***\nsteersman: "), log
            assert told in log
            assert "its outputs were left out" in log
            runs = tmp_path / "data/runs"
            await eventually(lambda: not list(runs.rglob("secrets")) and not list(runs.rglob("outputs")))
            assert holding(runs, TOKEN.encode()) == []

    asyncio.run(before())
    (tmp_path / "data/server.key").unlink()
    asyncio.run(after())


def test_the_key_file_cannot_be_shown_to_scripts(tmp_path: Path) -> None:
    """Not by an executor that names its folder, and not where it lies among the programs."""
    key = tmp_path / "keys/server.key"
    key.parent.mkdir()
    key.write_text("x")
    view = sandbox.View(tmp_path / "work", tmp_path / "data", readable=(str(key.parent),), key_file=key)
    with pytest.raises(sandbox.SandboxRefused, match="would show the daemon's key file"):
        sandbox.wrap(("true",), view)
    program = Path("/usr/bin/env").resolve()
    assert sandbox._covered(program) == ("--ro-bind", "/dev/null", str(program))
