"""The rights that `api/docs/databases.md` gives to a role that owns no table are enough for a daemon."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text

from tests import databases
from tests.support import PROJECT, SpecRepository, process

ROOT = Path(__file__).resolve().parents[2]
BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: b, project: shop}
spec: {tasks: [{name: t, run: "echo done"}]}
"""


def test_a_role_with_the_rights_of_the_page_runs_a_daemon(tmp_path: Path) -> None:
    """The statements are the page's own, and a job runs."""
    url = databases.new_postgresql()
    name = url.partition("@/")[2].partition("?")[0]
    page = (ROOT / "api" / "docs" / "databases.md").read_text(encoding="utf-8")
    (grants,) = [block for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "GRANT" in block]
    role = f"daemon_{name}"
    with databases.server().admin(name) as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        for statement in filter(str.strip, grants.replace(" steersman;", f" {role};").split(";\n")):
            connection.execute(text(statement))
    try:
        limited = url.replace("://postgres@", f"://{role}@")
        repo = SpecRepository(tmp_path / "specs")
        repo.commit({"p.yaml": PROJECT, "b.yaml": BUILD})
        own = {"STEERSMAN_DATABASE": limited}
        with process(repo.path, tmp_path / "data", **own) as running, running.client() as client:
            running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
            made = client.post("/reconciler/trigger", json={"key": "Build/shop/_/b"}).json()["number"]
            assert running.job(made, "passed", "failed", "defective")["state"] == "passed"
            assert client.get("/health").json()["status"] == "ok"
    finally:
        with databases.server().admin(name) as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
