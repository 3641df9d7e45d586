"""What waits at the gate after a daemon was killed: nobody may have been left to look at what was said."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from reconciler.access import ROOT
from reconciler.commands import gate as commands
from reconciler.commands.gate import Said
from reconciler.installation import Installation
from reconciler.model.gate import NAME
from reconciler.passes import gate, routes
from reconciler.store import requests
from tests.shop import Open, Shop
from tests.support import eventually

WEB = "Deployment/shop/prod/web"


def test_an_approval_stored_just_before_a_kill_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next daemon lets it go at once; the comparison with the world, which would find it too, is an hour away."""
    shop = Shop(tmp_path)
    shop.declare("Environment", "prod", {"protected": True}, project="shop")
    shop.deployment("web", {"scripts": {"deploy": {"inline": "true"}}, "run_smoke": False})

    dead: list[Said] = []

    async def run(installation: Installation) -> datetime | None:
        """The pass of the gate, in a daemon that is killed once the approval is stored."""
        return None if dead else await gate.run(installation)

    async def approve(open_: Open) -> None:
        said = Said("approved", key=WEB)

        async def asked() -> bool:
            found = await open_.installation.database.read(requests.waiting)
            return bool(found)

        await eventually(asked, 60)
        dead.append(said)
        await commands.decide(open_.installation, ROOT, said)
        assert [job.state.finished for job in await open_.jobs(WEB)] == [False]

    async def wait(open_: Open) -> None:
        (job,) = await open_.jobs(WEB)
        await open_.ended(job.number)

    with monkeypatch.context() as killed:
        killed.setitem(routes._NAMES, NAME, run)  # type: ignore[index]
        shop.run(approve, resync_seconds=3600)
    shop.run(wait, resync_seconds=3600)
