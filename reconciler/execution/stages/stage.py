"""One stage of a deployment: inputs, scripts, outputs, and its status, kept as they change (escape-state, 9).

Called by `build` and `deploy`. Every change of the state is one transaction, together with the start or the end of the
script that it is about.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.execution.command import Order
from reconciler.execution.stages import outputs as outputs_file
from reconciler.execution.stages import values
from reconciler.execution.stages.journal import Done, Failed
from reconciler.execution.stages.values import ValueFault, Variables
from reconciler.execution.stages.world import Run, moment
from reconciler.model import deployment as state_of
from reconciler.model.deployment import Place
from reconciler.model.job import Reason
from reconciler.store import deployments
from reconciler.store.database import Connection, Write

_CODES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "build": (
        ("pre_build", state_of.RUNNING_PRE_STEP),
        ("build", state_of.RUNNING_MAIN_STEP),
        ("post_build", state_of.RUNNING_POST_STEP),
    ),
    "deploy": (
        ("pre_deploy", state_of.RUNNING_PRE_STEP),
        ("deploy", state_of.RUNNING_MAIN_STEP),
        ("post_deploy", state_of.RUNNING_POST_STEP),
    ),
    "destroy": (
        ("pre_destroy", state_of.RUNNING_PRE_DESTROY_STEP),
        ("destroy", state_of.RUNNING_MAIN_DESTROY_STEP),
        ("post_destroy", state_of.RUNNING_POST_DESTROY_STEP),
    ),
}


@dataclass(frozen=True, slots=True)
class Provider:
    """A deployment that provides for a variable: its plan, its outputs, and where its package lies, if it is needed."""

    name: str
    plan: Mapping[str, Any]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage (`which`: build or deploy) of what stands at `path` in a deployment.

    `plan`: compiled, with its scripts; `folder`: that of the plan, below the workspace; `prefix` goes before the names
    of its scripts, `stages` is where the record tells of it. `inputs`: layers, the first ones are the most general.
    """

    run: Run
    place: Place
    path: str
    root_stage: str
    which: str
    plan: Mapping[str, Any]
    version: str
    folder: str
    prefix: str
    stages: list[dict[str, Any]]
    inputs: Sequence[Mapping[str, Any]] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)

    # -- what is done

    async def carry_out(self, name: str, *, tested: str | None = None) -> bool:
        """The stage's scripts, `pre`, main and `post`; False: it has none. Failed, Stopped.

        `tested`: the script that will test it then; until that has passed it is not ok.
        """
        await self._begin(name)
        scripts = [(sub, code) for sub, code in _CODES[self.which] if self._script_of(sub)]
        for position, (sub, code) in enumerate(scripts):
            last = position == len(scripts) - 1
            done = await self._script(sub, code, name, last=last, ended=self._take_outputs)
            self._pass_on(done, sub)
        code = state_of.TEST_PENDING if tested and self._script_of(tested) else state_of.OK
        await self._complete(name, code, ran=bool(scripts))
        return bool(scripts)

    async def test(self, name: str, script: str) -> bool:
        """`test` of the build stage, `smoke` or `check` of the deploy stage; False: there is none."""
        if not self._script_of(script):
            return False
        done = await self._script(
            script, state_of.RUNNING_TEST_STEP, name, last=True, ended=self._tested, outputs=True
        )
        self._pass_on(done, script)
        return True

    async def destroy(self, name: str) -> bool:
        """The scripts of destroy; what was calculated is forgotten, version and `provides` stay (9.2)."""
        scripts = [(sub, code) for sub, code in _CODES["destroy"] if self._script_of(sub)]
        for position, (sub, code) in enumerate(scripts):
            last = position == len(scripts) - 1
            done = await self._script(sub, code, name, last=last, ended=self._destroying, outputs=True)
            self._pass_on(done, sub)

        def empty(write: Write) -> None:
            fields = {
                "calculated_inputs": {},
                "calculated_outputs": {},
                "inputs": {},
                "status": status(write, "empty"),
            }
            self._set(write, fields)
            if not scripts:
                self.run.tell(self.stages, name, status="skipped", reason="no-script")

        await self.run.journal.once(f"{self.prefix}{name}-done", empty)
        return bool(scripts)

    async def errand(
        self, name: str, script: Mapping[str, Any], inputs: Mapping[str, Any], hidden: Collection[str]
    ) -> None:
        """An errand; the stage stays as it is. `hidden`: the inputs that no log shows."""
        own = values.Variables()
        values.add(own, "INPUT_", inputs, hidden)
        order = await self._order(f"errand {name}", script, outputs=True, own=own)
        name = f"errand-{name}"
        done = await self.run.journal.script(
            f"{self.prefix}{name}",
            order,
            begun=lambda write: self.run.tell(self.stages, name, started_at=moment(write)),
            ended=lambda write, done: self.run.told(self.stages, name, write, done, last=True),
        )
        self._pass_on(done, name)

    async def refuse(self, reason: str, message: str) -> None:
        """It cannot run: its status says why. Raises Failed."""

        def fail(write: Write) -> None:
            self._set(write, {"version": self.version, "status": status(write, state_of.FAILURE, message)})

        await self.run.journal.once(f"{self.prefix}{self.which}-refused", fail)
        raise Failed(reason, message)

    async def interrupted(self, why: str) -> None:
        """What was under way is over: nobody will ever finish it."""

        def fail(write: Write) -> None:
            code = state_of.code(self._state(write.connection), self.which)
            if not state_of.is_running(code) and code != state_of.PENDING:
                return
            over = state_of.DESTROY_FAILURE if "destroy" in code else state_of.FAILURE
            over = state_of.TEST_FAILURE if code == state_of.RUNNING_TEST_STEP else over
            self._set(write, {"status": status(write, over, why)})

        await self.run.journal.once(f"{self.prefix}{self.which}-interrupted", fail, stopping=True)

    async def state(self) -> dict[str, Any]:
        """The stage as it is stored."""
        found = await self.run.journal.read(self._state)
        return state_of.stage(found, self.which)

    # -- its parts

    async def _begin(self, name: str) -> None:
        """Inputs are calculated and kept, with those of the run before."""
        journal = self.run.journal
        declared = values.scoped(self.plan, "inputs", self.which)
        try:
            calculated, _ = values.calculated(declared, *self.inputs)
        except ValueFault as fault:
            await self.refuse(fault.reason, fault.message)
            raise
        given = self.inputs[-1] if self.inputs else {}

        def begin(write: Write) -> None:
            before = state_of.stage(self._state(write.connection), self.which)
            fields = {
                "inputs": dict(given),
                "calculated_inputs": calculated,
                "previous": {"inputs": before["calculated_inputs"], "outputs": before["calculated_outputs"]},
                "providers": {variable: each.name for variable, each in self.providers.items()},
                "version": self.version,
                "provides": list(self.plan.get("provides") or ()),
                "status": status(write, state_of.PENDING),
            }
            self._set(write, fields, release=_label(self.plan))
            self.run.tell(self.stages, name, status="running", started_at=moment(write))

        await journal.once(f"{self.prefix}{name}-begun", begin)

    async def _complete(self, name: str, code: str, *, ran: bool) -> None:
        declared = values.scoped(self.plan, "outputs", self.which)
        found = (await self.state())["calculated_outputs"]
        try:
            found = values.outputs(declared, {}, found)
            if ran:
                values.missing(declared, found)
        except ValueFault as fault:
            await self.refuse(fault.reason, fault.message)

        def complete(write: Write) -> None:
            self._set(write, {"calculated_outputs": found, "status": status(write, code)})
            if not ran:
                self.run.tell(
                    self.stages, name, status="skipped", reason="no-script", finished_at=moment(write)
                )

        await self.run.journal.once(f"{self.prefix}{name}-done", complete)

    async def _script(
        self,
        sub: str,
        code: str,
        name: str,
        *,
        last: bool,
        ended: Callable[[Write, Done, Order], None],
        outputs: bool = False,
    ) -> Done:
        """One script of it, with the status that it stands for."""
        order = await self._order(sub, self._script_of(sub), outputs=outputs or sub.startswith("post_"))
        title = (
            f"{self.prefix}{name}" if sub in (name, self.which, "destroy") else f"{self.prefix}{name}-{sub}"
        )

        def begun(write: Write) -> None:
            self._set(write, {"status": status(write, code)})
            self.run.tell(self.stages, name, status="running")
            if not any(each["name"] == name and each.get("started_at") for each in self.stages):
                self.run.tell(self.stages, name, started_at=moment(write))
            outputs_file.clear(order.folder.workspace, order.below)

        def over(write: Write, done: Done) -> None:
            try:
                ended(write, done, order)
            except Failed as error:
                self.run.tell(
                    self.stages, name, status="failed", reason=error.reason, finished_at=moment(write)
                )
                raise
            self.run.told(self.stages, name, write, done, last=last)

        return await self.run.journal.script(title, order, begun=begun, ended=over)

    def _take_outputs(self, write: Write, done: Done, order: Order) -> None:
        """After a script of build or deploy: what it wrote, or why it failed."""
        if not done.passed:
            self._set(write, {"status": status(write, state_of.FAILURE, _told(done))})
            return
        before = state_of.stage(self._state(write.connection), self.which)["calculated_outputs"]
        try:
            written = outputs_file.read(order.folder.workspace, order.below)
            found = values.outputs(values.scoped(self.plan, "outputs", self.which), written, before)
        except ValueFault as fault:
            self._set(write, {"status": status(write, state_of.FAILURE, fault.message)})
            raise Failed(fault.reason, fault.message) from None
        self._set(write, {"calculated_outputs": found})

    def _tested(self, write: Write, done: Done, _: Order) -> None:
        code = state_of.OK if done.passed else state_of.TEST_FAILURE
        self._set(write, {"status": status(write, code, "" if done.passed else _told(done))})

    def _destroying(self, write: Write, done: Done, _: Order) -> None:
        if not done.passed:
            self._set(write, {"status": status(write, state_of.DESTROY_FAILURE, _told(done))})

    def _pass_on(self, done: Done, sub: str) -> None:
        """Go on after what passed; Failed or Stopped after all else."""
        if done.passed:
            return
        self.run.journal.go_on()
        told = done.result.get("error") if isinstance(done.result, dict) else None
        reason = Reason.SCRIPT_FAILED if done.reason == Reason.EXIT_STATUS else done.reason
        raise Failed(str(reason or Reason.SCRIPT_FAILED), told or f"{sub}: {_told(done)}", done.state)

    def _script_of(self, sub: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (self.plan.get("scripts") or {}).get(sub) or {}
        return found

    # -- the state

    def _state(self, connection: Connection) -> dict[str, Any]:
        row = deployments.load(connection, self.run.around.keys, self.place)
        name = self.path.rpartition(":")[2]
        found = None if row is None else state_of.at_path(row.state, self.path, self.root_stage)
        return found or state_of.empty(name, _label(self.plan))

    def _set(self, write: Write, fields: Mapping[str, Any], *, release: str | None = None) -> None:
        keys = self.run.around.keys
        row = deployments.load(write.connection, keys, self.place)
        root = row.state if row is not None else state_of.empty(self.place.name)
        new = state_of.with_stage(self._state(write.connection), self.which, fields)
        if release:
            new = {**new, "release": release}
        # of a Deployment that was deleted meanwhile nothing is to come back
        there = self.run.order.job.key == self.place.key
        state = state_of.put_at(root, self.path, self.root_stage, new)
        deployments.save(write, keys, self.place, state, only_there=there)

    # -- what a script sees

    async def _order(
        self, sub: str, script: Mapping[str, Any], *, outputs: bool, own: Variables | None = None
    ) -> Order:
        """The task's order for one script of the stage."""
        stage = await self.state()
        variables = Variables()
        hidden = values.sensitive(self.plan, "inputs")
        shown = values.sensitive(self.plan, "outputs")
        given = own or Variables()
        named = {*given.plain, *given.sensitive, *given.secrets}
        values.add(
            variables,
            "INPUT_",
            {
                name: value
                for name, value in stage["calculated_inputs"].items()
                if f"INPUT_{name}" not in named
            },
            hidden,
        )
        variables.plain.update(given.plain)
        variables.sensitive.update(given.sensitive)
        variables.secrets.update(given.secrets)
        previous = stage.get("previous") or {}
        values.add(variables, "INPUT_PREVIOUS_", previous.get("inputs") or {}, hidden)
        values.add(variables, "INPUT_PREVIOUS_OUTPUT_", previous.get("outputs") or {}, shown)
        values.add(variables, "INPUT_METADATA_", self.plan.get("metadata") or {})
        if outputs:
            values.add(variables, "OUTPUT_", stage["calculated_outputs"], shown)
        for variable, provider in self.providers.items():
            name = f"PROVIDER_{variable.replace('-', '_')}_"
            values.add(variables, name, provider.outputs, values.sensitive(provider.plan, "outputs"))
            variables.plain[f"{name}DEPLOYMENT"] = provider.name
        facts = self.run.variables(
            STEERSMAN_STAGE=self.which,
            STEERSMAN_DEPLOYMENT=self.place.name,
            STEERSMAN_RELEASE=_label(self.plan),
            STEERSMAN_VERSION=self.version,
        )
        survivors = self.which == "deploy" and sub in ("pre_deploy", "deploy", "post_deploy")
        order = ordered(self.run.order, script, self.folder, variables, facts)
        return replace(order, survivors=survivors)


def ordered(
    order: Order, script: Mapping[str, Any], folder: str, variables: Variables, facts: Mapping[str, str]
) -> Order:
    """A run's order for one script of a plan in `folder`: a file, a text, or a program (escape-state, 8.3)."""
    policy = dict(order.policy) | {
        "run": None,
        "script": None,
        "timeout_seconds": script.get("timeout_seconds"),
    }
    program: tuple[str, ...] = ()
    if script.get("inline") is not None:
        policy["run"] = script["inline"]
    elif script.get("script"):
        policy["script"] = posixpath.normpath(posixpath.join(folder or ".", script["script"]))
    else:
        program = (script["cmd"], *(script.get("args") or ()))
    own = dict(order.policy.get("environment_variables") or {})
    policy["environment_variables"] = own | variables.plain | variables.secrets
    return replace(
        order,
        trial=replace(order.trial, policy=policy),
        below=folder,
        program=program,
        arguments=() if program else (outputs_file.PATH,),
        facts={**values.PLATFORM, **facts},
        sensitive=variables.sensitive,
    )


def status(write: Write, code: str, data: str = "") -> dict[str, Any]:
    """A stage's status as it is kept (7.14)."""
    found = {"status": code, "updated_at": moment(write), "updated_by": write.actor.subject}
    return found | ({"data": data} if data else {})


def _told(done: Done) -> str:
    """Why a script failed, in a sentence."""
    if done.reason == Reason.EXIT_STATUS and done.exit_status is not None:
        return f"Exit status {done.exit_status}"
    told = done.result.get("error") if isinstance(done.result, dict) else None
    return str(told or done.reason or "it failed")


def _label(plan: Mapping[str, Any]) -> str:
    return f"{plan['namespace']}/{plan['application']}"
