"""Rows of `jobs`, `tasks`, `trials`, `scripts` and `specifications`.

States move only along the tables of `reconciler.model.job`: every update names the states it may start from, and
says whether it changed a row. Claims are by epoch (design 15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Text,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    type_coerce,
    update,
)

from reconciler.model.job import (
    ANYTHING,
    CONFIGURATION,
    JOB_MOVES,
    SCRIPT_MOVES,
    TASK_MOVES,
    TRIAL_MOVES,
    Checkout,
    Job,
    Of,
    OfRef,
    Origin,
    Reason,
    Script,
    State,
    Task,
    Trial,
    origins,
)
from reconciler.model.rights import Level
from reconciler.store import grants
from reconciler.store.database import Write
from reconciler.store.prepared import Prepared
from reconciler.store.rows import new_id, upsert
from reconciler.store.tables import Instant, jobs, numbers, scripts, specifications, tasks, trials
from specs.digest import canonical, tree_of_one

NIL = UUID(int=0)
MAIN = "run"  # the name of a task's own script; its services have theirs
_TABLES = {
    "job": (jobs, JOB_MOVES),
    "task": (tasks, TASK_MOVES),
    "trial": (trials, TRIAL_MOVES),
    "script": (scripts, SCRIPT_MOVES),
}
_CHECKOUT_SECRET = "checkout_secret"  # noqa: S105  (the name of a field)
_LIVE_JOB = jobs.c.finished_at.is_(None)
_LIVE_TRIAL = trials.c.finished_at.is_(None)


# Statements of the hot paths are built once: building costs more than running them.
_LAST = 200  # how many jobs of a KEY are looked through for those of a branch
_JOBS = select(jobs, specifications.c.data).select_from(jobs.join(specifications))
_JOB = Prepared(_JOBS.where(jobs.c.number == bindparam("of")))
_NEWEST = Prepared(
    _JOBS.where(jobs.c.key == bindparam("of"), jobs.c.work_digest == bindparam("work"))
    .order_by(jobs.c.number.desc())
    .limit(literal_column("1"))
)
_BELOW = trials.join(tasks)
_OF_JOB = tasks.c.job == bindparam("of")
_KEPT_OF_TRIAL = (  # all that a Trial has; its result, which may be large, is read alone
    trials.c.id,
    trials.c.task,
    trials.c.number,
    trials.c.state,
    trials.c.reason,
    trials.c.error,
    trials.c.executor,
    trials.c.epoch,
    trials.c.created_at,
    trials.c.started_at,
    trials.c.finished_at,
    trials.c.outputs,
    trials.c.actor,
    trials.c.worker,
)
_ALL_TASKS = (
    select(
        tasks.c.id.label("task_id"),
        tasks.c.job,
        tasks.c.position,
        tasks.c.name,
        tasks.c.state.label("task_state"),
        tasks.c.reason.label("task_reason"),
        tasks.c.policy,
        tasks.c.specification,
        *_KEPT_OF_TRIAL,
    )
    .select_from(tasks.outerjoin(trials))
    .order_by(tasks.c.position, trials.c.number)
)
_TASKS = Prepared(_ALL_TASKS.where(_OF_JOB))
_KEPT_OF_SCRIPT = [column for column in scripts.c if column.name != "result"]  # which may be large
_ALL_SCRIPTS = select(*_KEPT_OF_SCRIPT).select_from(scripts.join(_BELOW)).order_by(scripts.c.position)
_SCRIPTS = Prepared(_ALL_SCRIPTS.where(_OF_JOB))
_OF_TRIAL = (
    trials.c.id.label("trial"),
    trials.c.number.label("attempt"),
    trials.c.state.label("trial_state"),
    trials.c.epoch,
    trials.c.executor,
    trials.c.worker,
    tasks.c.job,
    tasks.c.name.label("task_name"),
    tasks.c.policy,
)
_ALL_LIVE_TRIALS = (
    select(*_OF_TRIAL).select_from(_BELOW).where(_LIVE_TRIAL).order_by(tasks.c.job, tasks.c.position)
)
_LIVE_TRIALS = Prepared(_ALL_LIVE_TRIALS)
_CLAIMED_FOR = Prepared(_ALL_LIVE_TRIALS.where(trials.c.worker.like(bindparam("signature", type_=Text))))
_CLAIMERS = Prepared(select(trials.c.worker).where(_LIVE_TRIAL, trials.c.worker.is_not(None)).distinct())
_LIVE_TRIAL_OF = Prepared(_ALL_LIVE_TRIALS.where(trials.c.id == bindparam("of")))
_TOUCH = Prepared(update(jobs).where(jobs.c.number == bindparam("of")).values(version=bindparam("to")))
_CLAIM = Prepared(
    update(trials)
    .where(trials.c.id == bindparam("of"), trials.c.state == State.PENDING.value)
    .values(
        state=bindparam("to"),
        executor=bindparam("by"),
        worker=bindparam("on"),
        epoch=trials.c.epoch + 1,
        started_at=bindparam("at", type_=Instant),
    )
    .returning(trials.c.epoch)
)
_CLAIMED = Prepared(
    select(jobs, specifications.c.data, *_OF_TRIAL)
    .select_from(trials.join(tasks).join(jobs).join(specifications))
    .where(trials.c.id == bindparam("of"))
)
_BEGIN = Prepared(
    update(trials)
    .where(
        trials.c.id == bindparam("of"),
        trials.c.epoch == bindparam("claim"),
        trials.c.state == State.DISPATCHING.value,
    )
    .values(state=State.EXECUTING.value, started_at=bindparam("now", type_=Instant))
)
_BEGIN_SCRIPTS = Prepared(
    update(scripts)
    .where(scripts.c.trial == bindparam("of"))
    .values(
        state=State.EXECUTING.value,
        started_at=bindparam("now", type_=Instant),
        run=case(
            (scripts.c.name == MAIN, bindparam("folder", type_=Text)),
            else_=bindparam("folder", type_=Text).concat("/services/").concat(scripts.c.name),
        ),
    )
)
_ITS_TASK = select(trials.c.task).where(trials.c.id == bindparam("of")).scalar_subquery()
_ITS_JOB = (
    select(tasks.c.job)
    .select_from(tasks.join(trials))
    .where(trials.c.id == bindparam("of"))
    .scalar_subquery()
)
_BEGIN_TASK = Prepared(
    update(tasks)
    .where(tasks.c.id == _ITS_TASK, tasks.c.state == State.PENDING.value)
    .values(state=State.EXECUTING.value, reason=None)
)
_PENDING_JOB = jobs.c.state == State.PENDING.value
_BEGIN_JOB = Prepared(
    update(jobs)
    .where(jobs.c.number == _ITS_JOB)
    .values(
        state=case((_PENDING_JOB, State.EXECUTING.value), else_=jobs.c.state),
        started_at=func.coalesce(jobs.c.started_at, bindparam("now", type_=Instant)),
        version=bindparam("to"),
    )
)
_HELD = Prepared(
    select(trials.c.state, trials.c.reason).where(
        trials.c.id == bindparam("of"), trials.c.epoch == bindparam("claim"), _LIVE_TRIAL
    )
)
_END_ALL_SCRIPTS = (
    update(scripts)
    .where(scripts.c.trial == bindparam("of"), scripts.c.finished_at.is_(None))
    .values(
        state=bindparam("to"),
        reason=bindparam("why"),
        exit_status=bindparam("status"),
        log_offset=bindparam("size"),
        finished_at=bindparam("now", type_=Instant),
    )
)
_END_SCRIPTS = Prepared(_END_ALL_SCRIPTS)
_END_SERVICE = Prepared(_END_ALL_SCRIPTS.where(scripts.c.name == bindparam("called")))
_NEW_TRIAL = Prepared(insert(trials), ("id", "task", "number", "state", "epoch", "load", "created_at"))
_NEW_SCRIPT = Prepared(insert(scripts), ("id", "trial", "position", "name", "state"))


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be made. `held`: nothing of it starts before somebody says so; `grants`: levels by subject."""

    key: str
    specification: Mapping[str, Any]
    work_digest: str
    checkout: Checkout
    trigger: Mapping[str, Any]
    inputs: Mapping[str, str]
    actor: str
    retry_of: int | None = None
    held: bool = False
    reason: Reason | None = None
    grants: Mapping[str, Level] = field(default_factory=dict)
    origin: Origin = Origin.DECLARED
    name: str | None = None


def create(connection: Connection, new: NewJob, now: datetime, version: int) -> int:
    """Insert a job with its tasks; gives its number. Of a project configuration, its specification is kept as it is."""
    number = next_number(connection, "job")
    data = dict(new.specification)
    if new.origin is not Origin.CONFIGURATION:
        name = f"{new.key}#{number}"
        data |= {"key": name, "name": name, "number": number}
    if new.checkout.secret is not None:
        data[_CHECKOUT_SECRET] = new.checkout.secret
    text = canonical(data)
    uuid = str(uuid5(NIL, text.decode()))
    upsert(connection, specifications, [{"uuid": uuid, "data": data}], ["uuid"])
    job_id = new_id()
    connection.execute(
        insert(jobs).values(
            number=number,
            id=job_id,
            key=new.key,
            origin=new.origin.value,
            project=new.key.partition("/")[2].partition("/")[0] or None,
            name=new.name,
            specification=uuid,
            work_digest=new.work_digest,
            url=new.checkout.url,
            commit=new.checkout.commit,
            tree=new.checkout.tree or tree_of_one("specification.json", text),
            branch=new.checkout.branch,
            tag=new.checkout.tag,
            trigger=dict(new.trigger),
            inputs=dict(new.inputs),
            actor=new.actor,
            state=State.PENDING.value,
            held=new.held,
            reason=new.reason,
            retry_of=new.retry_of,
            created_at=now,
            version=version,
        )
    )
    rows = [_task_row(job_id, number, position, policy) for position, policy in enumerate(data["tasks"])]
    if rows:
        connection.execute(insert(tasks), rows)
    grants.save(connection, number, new.grants)
    return number


def let_go(connection: Connection, number: int, version: int, reason: Reason | None = None) -> bool:
    """A job that is held for this reason may start; False: it is not, or has ended."""
    held = update(jobs).where(jobs.c.number == number, jobs.c.held, jobs.c.reason == reason, _LIVE_JOB)
    return connection.execute(held.values(held=False, reason=None, version=version)).rowcount == 1


def hold_again(connection: Connection, number: int, reason: Reason, version: int) -> bool:
    """One that has not begun waits again, and its trials with it; False: it has begun, or ended."""
    pending = jobs.c.state == State.PENDING.value
    query = update(jobs).where(jobs.c.number == number, pending, ~jobs.c.held, jobs.c.started_at.is_(None))
    if connection.execute(query.values(held=True, reason=reason, version=version)).rowcount != 1:
        return False
    own = select(tasks.c.id).where(tasks.c.job == number)
    waiting = trials.c.state == State.PENDING.value
    connection.execute(delete(trials).where(trials.c.task.in_(own), waiting))
    return True


def load(connection: Connection, number: int, *, scripts: bool = True) -> Job | None:
    """One job, with its tasks and their trials, with the trials' scripts."""
    row = _JOB.one_or_none(connection, of=number)
    return None if row is None else _job(row, _tasks_of(connection, number, scripts))


def result_of(connection: Connection, trial: str) -> Any:
    """What a trial left as its result: any JSON value; None also where it left none."""
    return connection.execute(select(trials.c.result).where(trials.c.id == trial)).scalar()


def load_many(connection: Connection, numbers: Sequence[int]) -> list[Job]:
    """Whole jobs in this order, as far as they are there; a few hundred at most."""
    known = {row.number: row for row in connection.execute(_JOBS.where(jobs.c.number.in_(numbers)))}
    below = _tasks_by_job(
        connection.execute(_ALL_SCRIPTS.where(tasks.c.job.in_(numbers))),
        connection.execute(_ALL_TASKS.where(tasks.c.job.in_(numbers))),
    )
    return [_job(known[number], below.get(number, ())) for number in numbers if number in known]


def by_id(connection: Connection, job_id: str) -> int | None:
    """The number of the job with this id."""
    return connection.execute(select(jobs.c.number).where(jobs.c.id == job_id)).scalar()


@dataclass(frozen=True, slots=True)
class Sight:
    """Whose jobs are seen: those of KEYs with one of the `prefixes`, the one `own`, and those granted to `subject`."""

    prefixes: Sequence[str] = ()
    own: int | None = None
    subject: str | None = None


def within(sight: Sight | None) -> ColumnElement[bool]:
    """Only jobs that are seen; no `sight`: all are."""
    if sight is None:
        return true()
    seen = [func.substr(jobs.c.key, 1, len(prefix)) == prefix for prefix in sight.prefixes]
    if sight.subject is not None:
        seen.append(grants.granted(jobs.c.number, sight.subject))
    return or_(jobs.c.number == sight.own, *seen)


def _narrowed(of: Of) -> ColumnElement[bool]:
    wanted = true() if of.branch is None else jobs.c.branch == of.branch
    if of.project is None:
        return wanted
    prefixes = [f"{kind}/{of.project}/" for kind in ("Build", "Deployment", CONFIGURATION)]
    return wanted & or_(*(func.substr(jobs.c.key, 1, len(prefix)) == prefix for prefix in prefixes))


def page(
    connection: Connection,
    *,
    key: str | None,
    state: str | None,
    limit: int,
    after: int | None,
    sight: Sight | None = None,
    of: Of = ANYTHING,
) -> list[Job]:
    """Jobs without their tasks, newest first; `after` is the number before which to go on. No `sight`: all of them.
    `state`: one, or several with commas between them.
    """
    query = _JOBS.order_by(jobs.c.number.desc()).limit(limit)
    if key is not None:
        query = query.where(jobs.c.key == key)
    if state is not None:
        query = query.where(jobs.c.state.in_(state.split(",")))
    if after is not None:
        query = query.where(jobs.c.number < after)
    query = query.where(within(sight), _narrowed(of))
    return [_job(row, ()) for row in connection.execute(query)]


def configured(
    connection: Connection, project: str, tree: str, key: str, name: str | None = None
) -> Job | None:
    """The job of a project configuration that a tree has of a KEY, or of a name, without its tasks."""
    same = jobs.c.key == key if name is None else or_(jobs.c.key == key, jobs.c.name == name)
    query = _JOBS.where(
        jobs.c.origin == Origin.CONFIGURATION.value, jobs.c.project == project, jobs.c.tree == tree, same
    )
    row = connection.execute(query.order_by(jobs.c.number).limit(1)).first()
    return None if row is None else _job(row, ())


def configured_of(connection: Connection, project: str, tree: str) -> list[Job]:
    """All jobs of the configuration of a tree, oldest first, without their tasks."""
    query = _JOBS.where(
        jobs.c.origin == Origin.CONFIGURATION.value, jobs.c.project == project, jobs.c.tree == tree
    )
    return [_job(row, ()) for row in connection.execute(query.order_by(jobs.c.number))]


def replace_configured(connection: Connection, number: int, version: int) -> bool:
    """A finished job makes room for another one of its tree and key; False: it has not finished."""
    query = update(jobs).where(jobs.c.number == number, jobs.c.finished_at.is_not(None))
    values = {"origin": Origin.REPLACED.value, "version": version}
    return connection.execute(query.values(**values)).rowcount == 1


def key_of(connection: Connection, number: int) -> str | None:
    """The KEY that a job is a run of."""
    return connection.execute(select(jobs.c.key).where(jobs.c.number == number)).scalar()


def live(connection: Connection, key: str | None = None) -> list[Job]:
    """Unfinished jobs without their tasks, oldest first."""
    query = _JOBS.where(_LIVE_JOB).order_by(jobs.c.number)
    if key is not None:
        query = query.where(jobs.c.key == key)
    return [_job(row, ()) for row in connection.execute(query)]


def move_live(connection: Connection, by: timedelta, since: datetime, until: datetime) -> None:
    """Move the times at which unfinished jobs, their trials and scripts began and ended, and since when trials wait,
    but for those in between.
    """
    live = select(jobs.c.number).where(_LIVE_JOB)
    of_jobs = select(trials.c.id).select_from(_BELOW).where(tasks.c.job.in_(live))
    further = by // timedelta(microseconds=1)
    for table, ours, waiting in (
        (scripts, scripts.c.trial.in_(of_jobs), ()),
        (trials, trials.c.id.in_(of_jobs), (trials.c.created_at,)),
        (jobs, _LIVE_JOB, ()),
    ):
        for column in (table.c.started_at, table.c.finished_at, *waiting):
            before = ~column.between(since, until)
            moved = {column.name: type_coerce(column, BigInteger) + further}
            connection.execute(update(table).where(ours, before).values(moved))


def _of_ref(checkout: Checkout) -> ColumnElement[bool]:
    """Jobs of the same branch or tag; a tag that is named like a branch is another one."""
    if checkout.branch is not None:
        return jobs.c.branch == checkout.branch
    return jobs.c.branch.is_(None) & jobs.c.tag.is_not_distinct_from(checkout.tag)


def replaceable(connection: Connection, key: str, checkout: Checkout, *, running: bool) -> list[int]:
    """Unfinished jobs of a KEY and branch or tag: those of which no trial has been claimed, or all if `running`."""
    query = select(jobs.c.number).where(jobs.c.key == key, _LIVE_JOB, _of_ref(checkout))
    if not running:
        begun = select(tasks.c.job).select_from(_BELOW).where(trials.c.state != State.PENDING.value)
        pending = jobs.c.state == State.PENDING.value
        query = query.where(pending, jobs.c.number.not_in(begun.where(tasks.c.job == jobs.c.number)))
    return list(connection.execute(query.order_by(jobs.c.number)).scalars())


def latest(connection: Connection, key: str) -> Job | None:
    """The newest job of a KEY, without its tasks."""
    row = connection.execute(_JOBS.where(jobs.c.key == key).order_by(jobs.c.number.desc()).limit(1)).first()
    return None if row is None else _job(row, ())


def newest_states(connection: Connection, keys: Sequence[str]) -> dict[str, State]:
    """The state of the newest job of each of these KEYs that has one."""
    found: dict[str, State] = {}
    for start in range(0, len(keys), 500):
        some = jobs.c.key.in_(keys[start : start + 500])
        newest = select(func.max(jobs.c.number)).where(some).group_by(jobs.c.key)
        rows = connection.execute(select(jobs.c.key, jobs.c.state).where(jobs.c.number.in_(newest)))
        found.update((row.key, State(row.state)) for row in rows)
    return found


@dataclass(frozen=True, slots=True)
class Beside:
    """Jobs of the same KEY: the one before, the next one, the next one of the same branch or tag, and the retries."""

    before: int | None
    after: int | None
    after_of_ref: int | None
    retries: tuple[int, ...]


def beside(connection: Connection, job: Job, most_retries: int = 20) -> Beside:
    """What came before and after a job."""
    same, later = jobs.c.key == job.key, jobs.c.number > job.number
    before = select(func.max(jobs.c.number)).where(same, jobs.c.number < job.number)
    after = select(func.min(jobs.c.number)).where(same, later)
    retries = select(jobs.c.number).where(same, later, jobs.c.retry_of == job.number)
    return Beside(
        connection.execute(before).scalar(),
        connection.execute(after).scalar(),
        connection.execute(after.where(_of_ref(job.checkout))).scalar(),
        tuple(connection.execute(retries.order_by(jobs.c.number).limit(most_retries)).scalars()),
    )


def latest_of_spec(connection: Connection, key: str, work_digest: str) -> Job | None:
    """The newest job of a KEY with this work, without its tasks."""
    row = _NEWEST.one_or_none(connection, of=key, work=work_digest)
    return None if row is None else _job(row, ())


def latest_of_main(
    connection: Connection, key: str, main: Checkout, work_digest: str | None, *, of_tree: bool
) -> Job | None:
    """The newest job of a KEY for what a branch's head holds (`of_tree`: whatever branch it was made for); else, as
    far as its last jobs show, the newest of that branch, or of none. Without tasks; `work_digest` None: with any work.
    """
    query = _JOBS.where(jobs.c.key == key).order_by(jobs.c.number.desc()).limit(1)
    if work_digest is not None:
        query = query.where(jobs.c.work_digest == work_digest)
    of_branch, last = jobs.c.branch == main.branch, jobs.c.number >= _first_of_last(key)
    ways: list[ColumnElement[bool]] = [
        of_branch & last,
        jobs.c.branch.is_(None) & jobs.c.tag.is_(None) & last,
    ]
    if main.tree is not None:
        head = jobs.c.tree == main.tree
        ways.insert(0, head if of_tree else head & of_branch)
    for way in ways:
        row = connection.execute(query.where(way)).first()
        if row is not None:
            return _job(row, ())
    return None


def newest_by_ref(connection: Connection, key: str) -> list[OfRef]:
    """Of each branch and tag that the last jobs of a KEY were made for, the newest job; newest first."""
    columns = (jobs.c.branch, jobs.c.tag, jobs.c.number, jobs.c.state, jobs.c.reason)
    query = select(*columns).where(jobs.c.key == key, jobs.c.number >= _first_of_last(key))
    found: dict[tuple[str | None, str | None], OfRef] = {}
    for row in connection.execute(query.order_by(jobs.c.number.desc())):
        if row.branch is not None or row.tag is not None:
            of_ref = OfRef(row.branch, row.tag, row.number, State(row.state), row.reason)
            found.setdefault((row.branch, row.tag), of_ref)
    return list(found.values())


def _first_of_last(key: str) -> ColumnElement[int]:
    """The number of the oldest of the last jobs of a KEY: what looks through its jobs goes no further back."""
    numbers_ = select(jobs.c.number).where(jobs.c.key == key).order_by(jobs.c.number.desc())
    return func.coalesce(numbers_.limit(1).offset(_LAST - 1).scalar_subquery(), 0)


def exists(
    connection: Connection, key: str, work_digest: str, tree: str | None = None, ref: Checkout | None = None
) -> bool:
    """Is there a job in any state for this work (and tree, and the branch or tag of `ref`)? None is made twice."""
    query = select(jobs.c.number).where(jobs.c.key == key, jobs.c.work_digest == work_digest)
    if tree is not None:
        query = query.where(jobs.c.tree == tree)
    if ref is not None:
        query = query.where(_of_ref(ref))
    return connection.execute(query.limit(1)).first() is not None


def keys_with_jobs(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of the KEYs that ever had a job which is still known."""
    found: set[str] = set()
    for start in range(0, len(keys), 500):
        chosen = jobs.c.key.in_(keys[start : start + 500])
        found.update(connection.execute(select(jobs.c.key).where(chosen).distinct()).scalars())
    return found


def last_commit(connection: Connection, key: str, branch: str | None) -> str | None:
    """The commit of the newest job of a KEY on a branch: what file filters compare with."""
    query = select(jobs.c.commit).where(
        jobs.c.key == key, jobs.c.branch == branch, jobs.c.commit.is_not(None)
    )
    return connection.execute(query.order_by(jobs.c.number.desc()).limit(1)).scalar()


def counts(connection: Connection) -> dict[str, int]:
    """Unfinished jobs by state."""
    query = select(jobs.c.state, func.count()).where(_LIVE_JOB).group_by(jobs.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def counts_by_key(connection: Connection) -> dict[tuple[str, str], int]:
    """Unfinished jobs by KEY and state."""
    query = select(jobs.c.key, jobs.c.state, func.count()).where(_LIVE_JOB).group_by(jobs.c.key, jobs.c.state)
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def move(
    connection: Connection,
    entity: str,
    row_id: str,
    state: State,
    reason: str | None,
    now: datetime,
    **values: Any,
) -> bool:
    """Set a state along the table of moves; a reason alone may change too. False: the row is not where it must be.

    The end of a job is stored with its `version`.
    """
    statement, timed = _move(entity, state, tuple(sorted(values)))
    given = {f"new_{name}": value for name, value in values.items()}
    if timed:
        given["now"] = now
    return statement.run(connection, row=row_id, why=reason, **given) == 1


@cache
def _move(entity: str, state: State, more: tuple[str, ...]) -> tuple[Prepared, bool]:
    """The statement of one kind of move, with the states that it may start from; does it take the time?"""
    table, moves = _TABLES[entity]
    allowed = origins(moves, state) | ({state} if not state.finished else frozenset())
    now = bindparam("now", type_=Instant)
    values: dict[str, Any] = {"state": state.value, "reason": bindparam("why")}
    values |= {name: bindparam(f"new_{name}") for name in more}
    ends, begins = entity != "task" and state.finished, entity == "job" and state is State.EXECUTING
    if ends:
        values["finished_at"] = now
    if ends and entity == "job":
        values["finished_version"] = bindparam("new_version")
    if begins:
        values["started_at"] = func.coalesce(jobs.c.started_at, now)
    from_one = or_(*(table.c.state == origin.value for origin in sorted(allowed)))
    statement = update(table).where(table.c.id == bindparam("row"), from_one).values(**values)
    return Prepared(statement), ends or begins


def touch(connection: Connection, number: int, version: int) -> None:
    """Note that a job, or anything below it, changed in this transaction."""
    _TOUCH.run(connection, of=number, to=version)


def add_trial(
    connection: Connection, task: str, number: int, policy: Mapping[str, Any], now: datetime
) -> str:
    """One more attempt at a task: with its scripts, or its own and those of its services, which begin before it."""
    trial = new_id()
    _NEW_TRIAL.run(
        connection,
        id=trial,
        task=task,
        number=number,
        state=State.PENDING.value,
        epoch=0,
        load=float(policy.get("load") or 1),
        created_at=now,
    )
    names = [script["name"] for script in policy.get("scripts") or ()]
    if not names and "stages" not in policy:
        names = [service["name"] for service in policy.get("services") or ()] + [MAIN]
    rows = [
        {"id": new_id(), "trial": trial, "position": i, "name": name, "state": State.PENDING.value}
        for i, name in enumerate(names)
    ]
    if rows:
        _NEW_SCRIPT.run_many(connection, rows)
    return trial


def reopen(connection: Connection, task: str) -> None:
    """A task that has ended is to be decided anew."""
    values = {"state": State.PENDING.value, "reason": None}
    connection.execute(update(tasks).where(tasks.c.id == task).values(**values))


def note_resumed(connection: Connection, number: int, actor: str, now: datetime) -> None:
    """Who asked for it, and when."""
    connection.execute(update(jobs).where(jobs.c.number == number).values(resumed_by=actor, resumed_at=now))


def again(connection: Connection, job: Job, task: Task, actor: str, now: datetime, version: int) -> str:
    """One more attempt by hand, whatever the task is: the job goes on, or begins anew. The trial."""
    trial = add_trial(connection, task.id, len(task.trials) + 1, task.policy, now)
    connection.execute(update(trials).where(trials.c.id == trial).values(actor=actor))
    reopen(connection, task.id)
    fresh = {
        "state": State.PENDING.value,
        "reason": None,
        "held": False,
        "started_at": None,
        "finished_at": None,
        "finished_version": None,
    }
    values = fresh if job.state.finished else {}
    connection.execute(update(jobs).where(jobs.c.number == job.number).values(version=version, **values))
    return trial


def claim(connection: Connection, trial: str, executor: str, worker: str) -> int | None:
    """`pending → dispatching` for one executor; the new epoch, or None if somebody else was first."""
    state = State.DISPATCHING.value
    row = _CLAIM.one_or_none(connection, of=trial, by=executor, on=worker, to=state, at=None)
    return None if row is None else int(row.epoch)


def start(
    write: Write, trial: str, executor: str, worker: str, *, ready: bool
) -> tuple[LiveTrial, Job] | None:
    """A claim for one executor, with the job without its tasks; None if somebody else was first.

    `ready`: nothing has to be fetched first, so that it is `begin` as well.
    """
    connection, now = write.connection, write.now
    state = State.EXECUTING if ready else State.DISPATCHING
    given = {"by": executor, "on": worker, "to": state.value, "at": now if ready else None}
    row = _CLAIM.one_or_none(connection, of=trial, **given)
    if row is None:
        return None
    (found,) = _CLAIMED.all(connection, of=trial)
    claimed = _live_trial(found)
    if ready:
        _begin_rest(connection, trial, None if claimed.several else claimed.run, now, write.version)
    else:
        touch(connection, found.number, write.version)
    return claimed, _job(found, ())


def reclaim(connection: Connection, trial: str, epoch: int, worker: str) -> int | None:
    """A new epoch for a claim whose script certainly never began; None if the claim is no longer ours."""
    changed = connection.execute(
        update(trials)
        .where(
            trials.c.id == trial,
            trials.c.epoch == epoch,
            trials.c.state.in_([State.DISPATCHING.value, State.EXECUTING.value]),
        )
        .values(state=State.DISPATCHING.value, epoch=epoch + 1, worker=worker)
        .returning(trials.c.epoch)
    ).scalar()
    if changed is None:
        return None
    connection.execute(
        update(scripts)
        .where(scripts.c.trial == trial)
        .values(state=State.PENDING.value, started_at=None, run=None)
    )
    return int(changed)


def give_back(connection: Connection, trial: LiveTrial, version: int) -> bool:
    """A claim that has not begun, and from now on cannot, waits again; False: it has, or is somebody else's."""
    query = update(trials).where(
        trials.c.id == trial.id, trials.c.epoch == trial.epoch, trials.c.state == State.DISPATCHING.value
    )
    values = {"state": State.PENDING.value, "epoch": trial.epoch + 1, "executor": None, "worker": None}
    if connection.execute(query.values(**values)).rowcount != 1:
        return False
    touch(connection, trial.job, version)
    return True


def begin(
    connection: Connection, trial: str, epoch: int, run: str | None, now: datetime, version: int
) -> bool:
    """`dispatching → executing` before the script is set up; exactly one row or nothing may start.

    With it its task and its job are executing, if they were pending (cider-ci 5.1, 5.2), and its scripts, all of them
    in the folder `run`. None: they begin one by one.
    """
    if _BEGIN.run(connection, of=trial, claim=epoch, now=now) != 1:
        return False
    _begin_rest(connection, trial, run, now, version)
    return True


def has_begun(connection: Connection, trial: str, epoch: int) -> bool:
    """Did `begin` or a start that is one change its row, and has nothing else since?"""
    where = trials.c.id == trial, trials.c.epoch == epoch, trials.c.state == State.EXECUTING.value
    return connection.execute(select(trials.c.id).where(*where)).first() is not None


def _begin_rest(connection: Connection, trial: str, run: str | None, now: datetime, version: int) -> None:
    if run is not None:
        _BEGIN_SCRIPTS.run(connection, of=trial, now=now, folder=run)
    _BEGIN_TASK.run(connection, of=trial)
    _BEGIN_JOB.run(connection, of=trial, now=now, to=version)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial ended, in one piece: its own state, and its scripts'.

    `services`: log sizes in bytes by name of service; `failed`: the service that was not ready; `result`: any JSON.
    """

    state: State
    reason: str | None
    error: str | None = None
    exit_status: int | None = None
    log_size: int | None = None
    services: Mapping[str, int] = field(default_factory=dict)
    failed: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    result: Any = None


def scripts_of_trial(connection: Connection, trial: str) -> list[Script]:
    """In their order."""
    query = select(scripts).where(scripts.c.trial == trial).order_by(scripts.c.position)
    return [_script(row) for row in connection.execute(query)]


def move_script(
    connection: Connection,
    trial: LiveTrial,
    name: str,
    state: State,
    now: datetime,
    version: int,
    **values: Any,
) -> bool:
    """One of several scripts of a claim goes on; False: it is not where it must be, or the claim is no longer ours."""
    times = (
        {"finished_at": now} if state.finished else {"started_at": now} if state is State.EXECUTING else {}
    )
    claim = select(trials.c.id).where(trials.c.id == trial.id, trials.c.epoch == trial.epoch, _LIVE_TRIAL)
    allowed = [origin.value for origin in origins(SCRIPT_MOVES, state)]
    changed = connection.execute(
        update(scripts)
        .where(scripts.c.trial.in_(claim), scripts.c.name == name, scripts.c.state.in_(allowed))
        .values(state=state.value, **times, **values)
    ).rowcount
    if changed:
        touch(connection, trial.job, version)
    return changed == 1


def begin_script(write: Write, trial: LiveTrial, name: str, position: int, run: str) -> Script:
    """A script of a run of a release begins, for the first time or in another folder."""
    values = {"state": State.EXECUTING.value, "started_at": write.now, "run": run}
    where = scripts.c.trial == trial.id, scripts.c.name == name
    if write.connection.execute(update(scripts).where(*where).values(**values)).rowcount == 0:
        row = {"id": new_id(), "trial": trial.id, "position": position, "name": name}
        write.connection.execute(insert(scripts).values(**row, **values))
    return _script(write.connection.execute(select(scripts).where(*where)).one())


def end_script(write: Write, trial: LiveTrial, name: str, ending: Ending, result: Any) -> Script:
    """It has ended, and this is what came of it."""
    where = scripts.c.trial == trial.id, scripts.c.name == name
    values = {
        "state": ending.state.value,
        "reason": ending.reason,
        "exit_status": ending.exit_status,
        "log_offset": ending.log_size,
        "result": result,
        "finished_at": write.now,
    }
    write.connection.execute(update(scripts).where(*where).values(**values))
    return _script(write.connection.execute(select(scripts).where(*where)).one())


def is_claimed(connection: Connection, trial: LiveTrial) -> bool:
    """Is the claim still the one that counts?"""
    query = select(trials.c.id).where(trials.c.id == trial.id, trials.c.epoch == trial.epoch, _LIVE_TRIAL)
    return connection.execute(query).first() is not None


def finish(
    connection: Connection, trial: str, epoch: int, ending: Ending, now: datetime, *, several: bool = False
) -> State | None:
    """Store the end of a claim; the state it got (a cancelled one is `aborted` unless it passed), None if not ours.

    `several`: scripts that have not begun are not what ended it.
    """
    row = _HELD.one_or_none(connection, of=trial, claim=epoch)
    if row is None:
        return None
    state, reason = ending.state, ending.reason
    if State(row.state) is State.ABORTING and state is not State.PASSED:
        state, reason = State.ABORTED, row.reason
    more: dict[str, Any] = {"error": ending.error}
    if ending.outputs:
        more["outputs"] = dict(ending.outputs)
    if ending.result is not None:
        more["result"] = ending.result
    if not move(connection, "trial", trial, state, reason, now, **more):
        raise RuntimeError(f"trial {trial} cannot go from {row.state} to {state}")
    if several:
        connection.execute(
            update(scripts)
            .where(scripts.c.trial == trial, scripts.c.state.in_([State.PENDING.value, State.WAITING.value]))
            .values(state=State.SKIPPED.value, reason=Reason.NOT_REACHED.value, finished_at=now)
        )
    end: dict[str, Any] = {"of": trial, "now": now}
    for name, size in ending.services.items():
        failed = name == ending.failed
        to = (State.DEFECTIVE if failed else State.PASSED).value
        why = reason if failed else None
        more = {"called": name, "to": to, "why": why, "status": None, "size": size}
        _END_SERVICE.run(connection, **end, **more)
    outcome = {"to": state.value, "why": reason, "status": ending.exit_status, "size": ending.log_size}
    _END_SCRIPTS.run(connection, **end, **outcome)
    return state


@dataclass(frozen=True, slots=True)
class LiveTrial:
    """A trial that is not finished, with what running it needs of its task."""

    id: str
    number: int
    job: int
    task: str
    state: State
    epoch: int
    executor: str | None
    worker: str | None
    policy: Mapping[str, Any]

    @property
    def run(self) -> str:
        """Name of the claim's run folder, below DATA/runs."""
        return f"{self.id}/{self.epoch}"

    @property
    def instance(self) -> str:
        """The data directory that it was claimed for; "" where that is not known."""
        return instance_of(self.worker)

    @property
    def several(self) -> bool:
        """Has it scripts that wait for each other, and none of its own?"""
        return bool(self.policy.get("scripts")) or self.staged

    @property
    def staged(self) -> bool:
        """Is it a run of a release, whose scripts are known only as it goes on?"""
        return "stages" in self.policy

    @property
    def handed(self) -> bool:
        """Does an external worker run it?"""
        return bool((self.policy.get("stages") or {}).get("worker"))


def instance_of(worker: str | None) -> str:
    """The data directory in the signature of a claim, KIND@INSTANCE@BOOT."""
    return ((worker or "") + "@").split("@")[1]


def live_trials(connection: Connection, trial: str | None = None) -> list[LiveTrial]:
    """All unfinished trials in order of their jobs, or the one asked for."""
    found = _LIVE_TRIALS.all(connection) if trial is None else _LIVE_TRIAL_OF.all(connection, of=trial)
    return [_live_trial(row) for row in found]


def claimed_for(connection: Connection, instance: str) -> list[LiveTrial]:
    """Unfinished trials that were claimed for a data directory."""
    return [_live_trial(row) for row in _CLAIMED_FOR.all(connection, signature=f"%@{instance}@%")]


def claimers(connection: Connection) -> set[str]:
    """The data directories that unfinished trials were claimed for."""
    return {instance_of(row.worker) for row in _CLAIMERS.all(connection)} - {""}


def is_live(connection: Connection, trial: str, job: int) -> bool:
    """Is it an unfinished trial of this job?"""
    found = connection.execute(
        select(trials.c.id)
        .join(tasks, tasks.c.id == trials.c.task)
        .where(trials.c.id == trial, tasks.c.job == job, _LIVE_TRIAL)
    )
    return found.first() is not None


def _live_trial(row: Any) -> LiveTrial:
    return LiveTrial(
        id=row.trial,
        number=row.attempt,
        job=row.job,
        task=row.task_name,
        state=State(row.trial_state),
        epoch=row.epoch,
        executor=row.executor,
        worker=row.worker,
        policy=row.policy,
    )


@dataclass(frozen=True, slots=True)
class LogScript:
    """What the log of a script needs. `at`: when it began, or ended without having begun; None: neither yet."""

    id: str
    task: str
    trial: int
    name: str
    run: str | None
    log_size: int | None
    error: str | None
    reason: str | None
    ended: bool
    at: datetime | None
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class JobScripts:
    """A job's scripts at one moment, with (state, reason) of the job, its tasks and its trials."""

    version: int
    job: tuple[State, str | None]
    tasks: Mapping[str, tuple[State, str | None]]
    trials: Mapping[tuple[str, int], tuple[State, str | None]]
    scripts: tuple[LogScript, ...]


_LOG_SCRIPTS = (
    select(
        jobs.c.version,
        jobs.c.state.label("job_state"),
        jobs.c.reason.label("job_reason"),
        tasks.c.name.label("task"),
        tasks.c.state.label("task_state"),
        tasks.c.reason.label("task_reason"),
        trials.c.number.label("trial"),
        trials.c.state.label("trial_state"),
        trials.c.reason.label("trial_reason"),
        trials.c.error,
        trials.c.worker,
        trials.c.finished_at.label("trial_finished_at"),
        scripts.c.id,
        scripts.c.name,
        scripts.c.state.label("script_state"),
        scripts.c.run,
        scripts.c.log_offset,
        scripts.c.started_at,
        scripts.c.finished_at,
    )
    .select_from(jobs.outerjoin(tasks).outerjoin(trials).outerjoin(scripts))
    .where(jobs.c.number == bindparam("number"))
    .order_by(tasks.c.position, trials.c.number, scripts.c.position)
)
_VERSION = select(jobs.c.version).where(jobs.c.number == bindparam("number"))


def version_of(connection: Connection, number: int) -> int | None:
    """The version of the last change of a job or of anything below it; None: there is no such job."""
    return connection.execute(_VERSION, {"number": number}).scalar()


def scripts_of(connection: Connection, number: int) -> JobScripts | None:
    """Every script of a job, without what only running it needs."""
    found = connection.execute(_LOG_SCRIPTS, {"number": number}).all()
    if not found:
        return None
    below = [row for row in found if row.trial is not None]
    return JobScripts(
        version=found[0].version,
        job=(State(found[0].job_state), found[0].job_reason),
        tasks={row.task: (State(row.task_state), row.task_reason) for row in found if row.task is not None},
        trials={(row.task, row.trial): (State(row.trial_state), row.trial_reason) for row in below},
        scripts=tuple(_log_script(row) for row in below if row.id is not None),
    )


def _log_script(row: Any) -> LogScript:
    ended = row.finished_at or row.trial_finished_at  # a trial that never began ends without its script's row
    return LogScript(
        id=row.id,
        task=row.task,
        trial=row.trial,
        name=row.name,
        run=row.run,
        log_size=row.log_offset,
        error=row.error,
        reason=row.trial_reason,
        ended=ended is not None,
        at=None if row.script_state == State.SKIPPED.value else row.started_at or ended,
        worker=row.worker,
    )


def next_number(connection: Connection, space: str) -> int:
    """One more than the last number of a kind of thing; never the same again."""
    return next_numbers(connection, space, 1)


def next_numbers(connection: Connection, space: str, count: int) -> int:
    """So many more numbers of a kind of thing, up to this one."""
    changed = connection.execute(
        update(numbers)
        .where(numbers.c.space == space, numbers.c.name == "last")
        .values(number=numbers.c.number + count)
        .returning(numbers.c.number)
    ).scalar()
    if changed is None:
        connection.execute(insert(numbers).values(space=space, name="last", number=count))
        return count
    return int(changed)


def _task_row(job_id: str, number: int, position: int, policy: Mapping[str, Any]) -> dict[str, Any]:
    specification = str(uuid5(NIL, canonical(policy).decode()))
    return {
        "id": str(uuid5(UUID(job_id), specification)),
        "specification": specification,
        "job": number,
        "position": position,
        "name": policy["name"],
        "state": State.PENDING.value,
        "policy": dict(policy),
    }


def _tasks_of(connection: Connection, number: int, with_scripts: bool) -> tuple[Task, ...]:
    of_scripts = _SCRIPTS.all(connection, of=number) if with_scripts else ()
    return _tasks_by_job(of_scripts, _TASKS.all(connection, of=number)).get(number, ())


def _tasks_by_job(of_scripts: Iterable[Any], of_tasks: Iterable[Any]) -> dict[int, tuple[Task, ...]]:
    """Tasks with all below them from the rows of both statements, by the numbers of their jobs."""
    of_task: dict[str, tuple[Any, list[Trial]]] = {}
    of_trial: dict[str, list[Script]] = {}
    for row in of_scripts:
        of_trial.setdefault(row.trial, []).append(_script(row))
    for row in of_tasks:
        _, below = of_task.setdefault(row.task_id, (row, []))
        if row.id is not None:
            below.append(_trial(row, of_trial.get(row.id, [])))
    found: dict[int, list[Task]] = {}
    for task, (row, trials_of_task) in of_task.items():
        found.setdefault(row.job, []).append(
            Task(
                task,
                row.job,
                row.position,
                row.name,
                State(row.task_state),
                row.task_reason,
                row.policy,
                tuple(trials_of_task),
                row.specification,
            )
        )
    return {number: tuple(items) for number, items in found.items()}


def _job(row: Row[Any], items: tuple[Task, ...]) -> Job:
    return Job(
        number=row.number,
        id=row.id,
        key=row.key,
        state=State(row.state),
        reason=row.reason,
        held=row.held,
        specification=row.data,
        work_digest=row.work_digest,
        checkout=Checkout(row.url, row.commit, row.tree, row.branch, row.tag, row.data.get(_CHECKOUT_SECRET)),
        trigger=row.trigger,
        inputs=row.inputs,
        actor=row.actor,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        retry_of=row.retry_of,
        tasks=items,
        origin=Origin(row.origin),
        project=row.project,
        name=row.name,
        group=row.group,
        aborted_by=row.aborted_by,
        aborted_at=row.aborted_at,
        resumed_by=row.resumed_by,
        resumed_at=row.resumed_at,
        specification_id=row.specification,
    )


def _trial(row: Row[Any], items: Sequence[Script]) -> Trial:
    return Trial(
        id=row.id,
        task=row.task,
        number=row.number,
        state=State(row.state),
        reason=row.reason,
        error=row.error,
        executor=row.executor,
        epoch=row.epoch,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        scripts=tuple(items),
        outputs=row.outputs or {},
        actor=row.actor,
        worker=row.worker,
    )


def _script(row: Row[Any]) -> Script:
    return Script(
        id=row.id,
        trial=row.trial,
        name=row.name,
        state=State(row.state),
        reason=row.reason,
        exit_status=row.exit_status,
        log_size=row.log_offset,
        started_at=row.started_at,
        finished_at=row.finished_at,
        run=row.run,
        result=getattr(row, "result", None),
    )
