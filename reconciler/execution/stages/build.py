"""The steps of a Build, one after the other in one checkout (escape-state, 8.4; the numbers are those there).

Called by `execution.run` for a claim whose task says `stages: {type: build, …}`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from reconciler.errors import SteersmanError
from reconciler.execution import processes
from reconciler.execution.packages import PackageError, Packed
from reconciler.execution.stages import parts
from reconciler.execution.stages.journal import Done, Failed, Found, Stopped
from reconciler.execution.stages.stage import Provider, Stage
from reconciler.execution.stages.world import Run, moment, skipped
from reconciler.model.deployment import Place
from reconciler.model.execution import ulid
from reconciler.model.job import Reason, State
from reconciler.model.release import Release
from reconciler.source.git import UnknownCommit
from reconciler.source.tagging import push_tag
from reconciler.store import deployments, executions, releases
from reconciler.store.database import Write
from reconciler.store.jobs import Ending
from reconciler.store.rows import new_id
from specs import escapekit, versions
from specs.build_step import BuildStep
from specs.digest import digest
from specs.globs import any_match
from specs.plan import compile_plan, of_release, with_scripts
from specs.release import NO_NAMESPACE, not_owned

_LARGEST_FILE = 1 << 20
_BUSY_SECONDS = 1.0
_BY_ITSELF = frozenset({"poll", "webhook", "schedule"})
_SKIPS = frozenset({Reason.EXISTS, Reason.NO_MATCHING_CHANGES})


async def carry_out(run: Run) -> Ending:
    """All steps, or those up to the first that fails."""
    record = run.journal.record
    try:
        await _commit(run)
        steps = await _steps(run)
        chosen = run.order.job.trigger.get("steps")
        for number, spec in enumerate(steps):
            if chosen is None or number in chosen:
                await _Step(run, number, spec).carry_out()
            else:
                await _note(run, number, "ok", Reason.NOT_RUN)
    except Failed as error:
        await _rest(run)
        return Ending(error.state, error.reason, error.message)
    except Stopped:
        await _rest(run)
        return Ending(State.ABORTED, Reason.CANCELLED)
    done = [step for step in record["steps"] if step["status_reason"] != Reason.NOT_RUN]
    idle = all(step["status_reason"] in _SKIPS for step in done)
    only = {step["status_reason"] for step in done}
    reason = (only.pop() if len(only) == 1 else Reason.NOTHING_TO_DO) if idle and done else None
    return Ending(State.PASSED, reason)


async def _commit(run: Run) -> None:
    """The commit that is built, for all to see."""
    checkout = run.order.job.checkout
    if run.journal.record.get("commit") or checkout.url is None or checkout.commit is None:
        return
    mirror = await run.around.mirrors.get(checkout.url, checkout.secret)
    facts = await mirror.facts(checkout.commit)
    found: dict[str, Any] = {
        "git_revision": checkout.commit,
        "branch": checkout.branch or "",
        "repository": checkout.url,
    }
    if facts is not None:
        found |= {
            "revision_message": "\n\n".join(part for part in (facts.subject, facts.body) if part),
            "revision_author": f"{facts.author_name} <{facts.author_email}>",
            "committed_at": facts.committer_date.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
    await run.journal.once("commit", lambda _: run.journal.record.update(commit=found))


async def _steps(run: Run) -> Sequence[Mapping[str, Any]]:
    """Those of the Build, or of `escapekit.yml` in the checkout. Failed."""
    if not run.wanted.get("steps_from_yml"):
        steps: Sequence[Mapping[str, Any]] = run.wanted["steps"]
    else:

        async def work() -> Found:
            text = await asyncio.to_thread(_text, run, escapekit.FILE)
            if text is None:
                raise Failed(Reason.ESCAPEKIT_INVALID, f"there is no {escapekit.FILE} in the checkout")
            found, errors = escapekit.read_steps(text)
            if errors:
                raise Failed(Reason.ESCAPEKIT_INVALID, "\n".join(errors))
            return Found(found, [f"{len(found)} steps in {escapekit.FILE}"])

        done = await run.journal.act("steps", work)
        _pass_on(run, done)
        steps = done.result
    default = BuildStep().model_dump(mode="json")

    def queue(_: Write) -> None:
        run.journal.record["steps"] = [
            {
                "index": number,
                "plan_location": step.get("plan_location", default["plan_location"]),
                "status": "queued",
                "status_reason": "",
                "release": "",
                "version": "",
                "git_tag": "",
                "stages": [],
            }
            for number, step in enumerate(steps)
        ]

    await run.journal.once("steps", queue)
    return [default | dict(step) for step in steps]


async def _note(run: Run, number: int, status: str, reason: str) -> None:
    def note(_: Write) -> None:
        run.journal.record["steps"][number].update(status=status, status_reason=str(reason))

    await run.journal.once(f"{number}-noted", note)


async def _rest(run: Run) -> None:
    """Steps that nothing came of."""

    def note(_: Write) -> None:
        for step in run.journal.record.get("steps") or ():
            if step["status"] == "queued":
                step["status_reason"] = Reason.NOT_RUN.value

    await run.journal.once("rest", note, stopping=True)


class _Step:
    """One step."""

    def __init__(self, run: Run, number: int, spec: Mapping[str, Any]) -> None:
        self.run = run
        self.number = number
        self.spec = spec
        self.prefix = f"{number}-"
        self.plan: Mapping[str, Any] = {}
        self.folder = ""
        self.version = ""
        self.held: Place | None = None
        self.active: list[tuple[str, Place, Mapping[str, Provider]]] = []

    @property
    def entry(self) -> dict[str, Any]:
        """What the record tells of it."""
        found: dict[str, Any] = self.run.journal.record["steps"][self.number]
        return found

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Its stages in the record."""
        found: list[dict[str, Any]] = self.entry["stages"]
        return found

    @property
    def name(self) -> str:
        """`namespace/application`."""
        return f"{self.plan['namespace']}/{self.plan['application']}"

    @property
    def label(self) -> str:
        """`namespace/application-v1.2.3`."""
        return versions.release_id(self.plan["namespace"], self.plan["application"], self.version)

    async def carry_out(self) -> None:
        """All of it. Failed, Stopped."""
        journal = self.run.journal
        current: Stage | None = None
        try:
            await journal.once(f"{self.prefix}begun", lambda _: self.entry.update(status="running"))
            reason = await self._prepare()
            if reason is not None:
                await self._over(reason)
                return
            for current in await self._stages_of():
                await (self._build(current) if current.which == "build" else self._deploy(current))
            current = None
            await self._publish()
            await self._deactivate()
            await self._over("")
        except (Failed, Stopped) as error:
            failed = isinstance(error, Failed)
            told = str(error) if failed else "cancelled"
            if current is not None:
                await current.interrupted(told)
            await self._deactivate()
            await self._failed(error.reason if isinstance(error, Failed) else Reason.CANCELLED)
            raise

    # -- 1 to 6

    async def _prepare(self) -> str | None:
        """Plan, changes, identity, version; why there is nothing to do, if there is not."""
        journal = self.run.journal
        planned = await journal.act(f"{self.prefix}plan", self._read_plan)
        _pass_on(self.run, planned)
        self.plan, self.folder = planned.result["plan"], planned.result["folder"]
        if planned.result["skip"]:
            return str(planned.result["skip"])
        numbered = await journal.act(f"{self.prefix}version", partial(self._number, planned.result["digest"]))
        _pass_on(self.run, numbered)
        self.version = numbered.result["version"]
        self.plan = {**self.plan, "version": self.version}
        return str(numbered.result["skip"]) if numbered.result["skip"] else None

    async def _read_plan(self) -> Found:
        location = self.spec["plan_location"]
        folder = str(PurePosixPath(location).parent)
        folder = "" if folder == "." else folder
        text = await asyncio.to_thread(_text, self.run, location) if location else None
        told: list[str] = []
        scripts = (self.spec.get("scripts"), self.run.wanted.get("scripts"))
        if text is not None:
            compiled = compile_plan(text, location)
            told += compiled.warnings
            if compiled.plan is None:
                raise Failed(Reason.PLAN_INVALID, "\n".join((*told, *compiled.errors)))
            plan = compiled.plan
        elif self.run.wanted.get("release"):
            plan = of_release(self.run.wanted["release"])
        else:
            raise Failed(
                Reason.PLAN_MISSING, f"there is no {location} in the checkout, and the Build has no `release`"
            )
        plan = with_scripts(plan, *scripts)
        if location and text is None and not plan["scripts"]:
            raise Failed(Reason.PLAN_MISSING, f"there is no {location} in the checkout, and no script")
        known = {item["id"] for item in plan["inputs"]}
        given = [name for name in (*self.spec["variables"], *self.run.order.job.inputs) if name not in known]
        told += [f"the variable {name} is no input of the plan" for name in dict.fromkeys(given)]
        if self.spec["override_namespace"]:
            plan = {**plan, "namespace": self.spec["override_namespace"]}
        self._may(plan["namespace"])
        skip = None if await self._changed() else Reason.NO_MATCHING_CHANGES
        if skip:
            told.append("no file has changed that this step looks at")

        def store(_: Write) -> None:
            self.entry.update(release=f"{plan['namespace']}/{plan['application']}")

        result = {"plan": plan, "folder": folder, "digest": digest(plan), "skip": skip}
        return Found(result, told or [f"{plan['namespace']}/{plan['application']} {plan['version']}"], store)

    def _may(self, namespace: str) -> None:
        """The project owns the namespace, and whoever the build acts as may write there. Failed."""
        key = f"Project/{self.run.project}"
        project = self.run.around.declared(key)
        if namespace != NO_NAMESPACE:
            for message in not_owned(namespace, self.run.project, (project.spec if project else None) or {}):
                raise Failed(Reason.PERMISSION_DENIED, message)
        if not self.run.around.may(self.run.identity, "trigger", self.run.order.job.key):
            told = f"{self.run.identity} may not write in {self.run.project}/{self.run.environment}"
            raise Failed(Reason.PERMISSION_DENIED, told)

    async def _changed(self) -> bool:
        """Has a file changed that the step looks at, since the commit that it was last done for?"""
        wanted, ignored = self.spec["build_on_file_changes"], self.spec["ignore_file_changes"]
        if not self._by_itself() or not (wanted or ignored):
            return True
        job = self.run.order.job
        location = self.spec["plan_location"]
        old = await self.run.journal.read(
            lambda c: executions.last_built(c, job.key, job.number, self.number, location)
        )
        if old is None or job.checkout.commit is None or job.checkout.url is None:
            return True
        mirror = await self.run.around.mirrors.get(job.checkout.url, job.checkout.secret)
        try:
            changes = await mirror.diff(old, job.checkout.commit)
        except UnknownCommit:
            return True
        left = [change.path for change in changes if not any_match(ignored, change.path)]
        return any(any_match(wanted, path) for path in left) if wanted else bool(left)

    def _by_itself(self) -> bool:
        """Did a commit or a due time start it, or whoever wants only what has changed?"""
        trigger = self.run.order.job.trigger
        return bool(trigger.get("only_changed")) or trigger.get("type") in _BY_ITSELF

    async def _number(self, plan_digest: str) -> Found:
        """4 and 5. The version, and whether there is nothing to do as it is there."""
        namespace, application, pattern = (
            self.plan[name] for name in ("namespace", "application", "version")
        )
        commit = self.run.order.job.checkout.commit or ""

        def existing() -> Callable[[Any], Release | None]:
            if versions.is_pattern(pattern):
                return lambda c: releases.built_from(c, namespace, application, commit, plan_digest)
            return lambda c: releases.find(c, namespace, application, pattern)

        if self.spec["skip_if_exists"]:
            there = await self.run.journal.read(existing())
            if there is not None and there.job != self.run.order.job.number:
                return Found(
                    {"version": there.version, "skip": Reason.EXISTS},
                    [f"{there.label} exists"],
                    self._known(there.version),
                )
        version: str = await self.run.journal.write(
            lambda w: releases.reserve(
                w, namespace, application, pattern, self.run.order.job.number, self.number
            )
        )
        return Found({"version": version, "skip": None}, [f"version {version}"], self._known(version))

    def _known(self, version: str) -> Callable[[Write], None]:
        return lambda _: self.entry.update(version=version)

    async def _stages_of(self) -> list[Stage]:
        """Build and deploy, as far as the flags say; those that do not run are told."""
        found = []
        for which, flag, names in (
            ("build", "run_build", ("build", "test", "destroy_build")),
            ("deploy", "run_deploy", ("deploy", "smoke", "destroy_deploy")),
        ):
            if self.spec[flag]:
                found.append(await self._stage(which))
            else:
                await self._left(*names, reason="flag", of=which)
        return found

    async def _stage(self, which: str) -> Stage:
        place = Place(self.run.project, self.run.environment, self.name)
        row = await self.run.journal.read(lambda c: deployments.load(c, self.run.around.keys, place))
        own = dict(row.state.get("inputs") or {}) if row is not None else {}
        around = self.run.environment_inputs
        variables = dict(self.spec["variables"]) | dict(self.run.order.job.inputs)
        return Stage(
            run=self.run,
            place=place,
            path=place.name,
            root_stage="",
            which=which,
            plan=self.plan,
            version=self.version,
            folder=self.folder,
            prefix=self.prefix,
            stages=self.stages,
            inputs=(around, own, variables),
        )

    async def _with_others(self, stage: Stage) -> tuple[Stage, tuple[parts.Dependency, ...]]:
        """The stage with its providers, activated, and the releases that it depends on, unpacked."""
        prefix = f"{self.prefix}{stage.which}-"
        chosen = dict(self.spec["providers"])
        try:
            found = await parts.providers(
                self.run, f"{prefix}providers", stage.place, stage.which, self.plan, chosen
            )
            wanted = await parts.fetch(self.run, f"{prefix}dependencies", self.plan, self.folder)
        except Failed as error:
            await stage.refuse(error.reason, str(error))
            raise
        stage = replace(stage, providers=found)
        if found:
            self.active.append((prefix, stage.place, found))
            await parts.activate(self.run, prefix, stage.place, found)
        await parts.deploy_nested(stage, wanted)
        return stage, wanted

    # -- 7 to 12

    async def _build(self, stage: Stage) -> None:
        spec = self.spec
        stage, wanted = await self._with_others(stage)
        await stage.carry_out("build")
        if not spec["run_tests"]:
            await self._left("test", reason="flag")
        elif not await stage.test("test", "test"):
            await self._left("test", reason="no-script")
        if spec["run_destroy"] and spec["run_destroy_build"]:
            await stage.destroy("destroy_build")
            await parts.destroy_nested(stage, wanted)
        else:
            await self._left("destroy_build", reason="flag")

    async def _deploy(self, stage: Stage) -> None:
        spec = self.spec
        declared = self.run.around.declared(stage.place.key)
        fixed = declared is not None and _fixed(declared.spec or {})
        if fixed and declared is not None and (declared.spec or {})["version"] != self.version:
            told = f"{stage.place.key} is declared with version {(declared.spec or {})['version']}, not {self.version}"
            raise Failed(Reason.DECLARED_VERSION, told)
        shut = await self.run.around.shut(stage.place.key, self.name, self.version)
        if shut is not None:
            raise Failed(Reason.HELD, shut)
        await self._hold(stage.place)
        stage, wanted = await self._with_others(stage)
        smoke = spec["run_smoke"] and spec["run_tests"]
        await stage.carry_out("deploy", tested="smoke" if smoke else None)
        if not smoke:
            await self._left("smoke", reason="flag")
        elif not await stage.test("smoke", "smoke"):
            await self._left("smoke", reason="no-script")
        if declared is not None:
            await self._left("destroy_deploy", reason="declared")
        elif spec["run_destroy"] and spec["run_destroy_deploy"]:
            await stage.destroy("destroy_deploy")
            await parts.destroy_nested(stage, wanted)
        else:
            await self._left("destroy_deploy", reason="flag")
        await self._let_go(stage.place)

    async def _left(self, *names: str, reason: str, of: str | None = None) -> None:
        def note(_: Write) -> None:
            skipped(self.run, self.stages, names, reason)

        await self.run.journal.once(f"{self.prefix}{of or names[0]}-left", note)

    async def _hold(self, place: Place) -> None:
        """One execution at a time is at a deployment; wait until it is ours."""
        job = self.run.order.job.number
        while not await self.run.journal.write(lambda w: deployments.hold(w, place, job)):
            await self.run.journal.lasting(asyncio.sleep(_BUSY_SECONDS))
        self.held = place

    async def _let_go(self, place: Place) -> None:
        job = self.run.order.job.number
        await self.run.journal.write(lambda w: deployments.release_hold(w, place, job))
        self.held = None

    # -- 13 to 16

    async def _publish(self) -> None:
        packed_done = await self._act("package", self._pack)
        packed = Packed(packed_done.result["digest"], packed_done.result["size"])
        if self.spec["cache_release"]:
            await self._act("cache", partial(self._cache, packed))
        else:
            await self._left("cache", reason="flag")
        if self.spec["push_release"]:
            await self._act("push", partial(self._push, packed))
        else:
            await self._left("push", reason="flag")
        if self.spec["tag_git"]:
            await self._act("tag_git", self._tag)
        else:
            await self._left("tag_git", reason="flag")

    async def _act(self, name: str, work: Callable[[], Any]) -> Done:
        """A stage that this server does itself."""
        await self.run.journal.once(
            f"{self.prefix}{name}-begun", lambda w: self.run.tell(self.stages, name, started_at=moment(w))
        )
        done = await self.run.journal.act(f"{self.prefix}{name}", work)
        fields = {
            "status": "ok" if done.passed else "failed",
            "reason": "" if done.passed else str(done.reason),
        }
        await self.run.journal.once(
            f"{self.prefix}{name}-over",
            lambda w: self.run.tell(self.stages, name, finished_at=moment(w), **fields),
            stopping=True,
        )
        _pass_on(self.run, done)
        return done

    async def _pack(self) -> Found:
        packages, workspace = self.run.around.packages, self.run.order.folder.workspace
        within: dict[str, Packed] = {}
        if self.run.wanted.get("handed"):
            await asyncio.to_thread(_lay_out, self.run.order.folder.needs, workspace)
        if self.spec["fat_package"]:
            within = await self._dependencies(self.plan, {})
        try:
            packed = await asyncio.to_thread(packages.pack, workspace, self.folder, self.plan, within)
        except PackageError as error:
            raise Failed(
                Reason.SCRIPT_MISSING if error.missing else Reason.EXECUTOR_ERROR, str(error)
            ) from error
        told = f"{self.label}: {packed.size:,} bytes, {packed.digest}"
        return Found({"digest": packed.digest, "size": packed.size}, [told])

    async def _dependencies(self, plan: Mapping[str, Any], found: dict[str, Packed]) -> dict[str, Packed]:
        """The packages of all that a plan depends on, by release id."""
        for text in plan.get("depends") or ():
            label, digest, whole = await parts.release_of(
                self.run, *versions.split(text.partition(" as ")[0]), {}
            )
            if label not in found:
                found[label] = Packed(digest, 0)
                await self._dependencies(whole, found)
        return found

    async def _cache(self, packed: Packed) -> Found:
        await asyncio.to_thread(self.run.around.packages.keep, self.label, packed)
        return Found(None, [f"{self.label} is kept here"])

    async def _push(self, packed: Packed) -> Found:
        job, record = self.run.order.job, self.run.journal.record
        plan = dict(self.plan)
        original = {**plan, "version": self._pattern()}
        release = Release(
            id=new_id(),
            namespace=plan["namespace"],
            application=plan["application"],
            version=self.version,
            project=self.run.project,
            commit=record.get("commit") or {},
            plan=plan,
            plan_digest=digest(original),
            digest=packed.digest,
            size=packed.size,
            fat=bool(self.spec["fat_package"]),
            job=job.number,
            execution=ulid(job.id),
        )

        def store(write: Write) -> None:
            if not releases.register(write, release, force=self.spec["force_overwrite"]):
                raise Failed(
                    Reason.VERSION_EXISTS,
                    f"{release.label} exists; raise the version, or use force_overwrite",
                )
            published = record.setdefault("releases", [])
            if release.label not in published:
                published.append(release.label)
            write.record("release-registered", job.key, {"release": release.label, "digest": release.digest})
            write.wake(f"releases/{release.name}")

        return Found(None, [f"{release.label} is registered"], store)

    def _pattern(self) -> str:
        """The version as the plan has it."""
        found = self.run.journal.result(f"{self.prefix}plan")
        return str(found["plan"]["version"])

    async def _tag(self) -> Found:
        message = f"Release {self.label}"
        try:
            await push_tag(
                self.run.around.mirrors,
                self.run.order.job.checkout,
                self.label,
                message,
                force=self.spec["force_overwrite"],
            )
        except SteersmanError as error:
            raise Failed(Reason.TAG_PUSH_FAILED, error.message) from error
        return Found(None, [f"{self.label} is pushed"], lambda _: self.entry.update(git_tag=self.label))

    # -- the end

    async def _deactivate(self) -> None:
        for prefix, place, found in reversed(self.active):
            await parts.deactivate(self.run, prefix, place, found)
        self.active = []

    async def _over(self, reason: str) -> None:
        await self.run.journal.once(
            f"{self.prefix}over", lambda _: self.entry.update(status="ok", status_reason=str(reason))
        )

    async def _failed(self, reason: str) -> None:
        job = self.run.order.job.number

        def fail(write: Write) -> None:
            self.entry.update(status="failed", status_reason=str(reason))
            for stage in self.stages:
                if stage["status"] == "running":
                    stage.update(status="failed", reason=str(reason), finished_at=moment(write))
            if self.held is not None:
                deployments.release_hold(write, self.held, job)

        await self.run.journal.once(f"{self.prefix}failed", fail, stopping=True)


def _pass_on(run: Run, done: Done) -> None:
    if not done.passed:
        run.journal.go_on()
        raise Failed(str(done.reason), (done.result or {}).get("error"), done.state)


def _lay_out(needs: Path, workspace: Path) -> None:
    """What other tasks left, at its places in the checkout, no link of which leads out of it. Blocks."""
    root = workspace.resolve()
    for task in sorted(needs.iterdir()) if needs.is_dir() else ():
        for source in sorted(path for path in task.rglob("*") if path.is_file()):
            target = workspace / source.relative_to(task)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(root):
                raise Failed(
                    Reason.ATTACHMENT, f"{source.relative_to(task)} would lie outside of the checkout"
                )
            target.unlink(missing_ok=True)
            shutil.copy2(source, target)
            if os.access(target, os.X_OK):
                processes.await_copies(target)


def _fixed(spec: Mapping[str, Any]) -> bool:
    """Does a Deployment want one version, and sees to it by itself?"""
    version = spec.get("version") or ""
    moving = not version or versions.is_pattern(version) or version == versions.LATEST
    by_hand = spec.get("reconcile") == "manual" or spec.get("suspend")
    return not moving and not by_hand and version[:1].isdigit()


def _text(run: Run, location: str) -> str | None:
    """A file of the checkout; None where there is none. Failed where it leads out of it. Blocks."""
    workspace = run.order.folder.workspace
    path = workspace / location
    resolved = Path(os.path.realpath(path))
    if not resolved.is_relative_to(os.path.realpath(workspace)):
        raise Failed(Reason.PLAN_OUTSIDE_CHECKOUT, f"{location} leads out of the checkout")
    try:
        handle = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        content = file.read(_LARGEST_FILE + 1)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Failed(Reason.PLAN_INVALID, f"{location} is not UTF-8") from None
