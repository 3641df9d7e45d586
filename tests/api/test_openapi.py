"""The OpenAPI document, taken at its word by a fuzzer: as every identity, no server error and no undeclared answer."""

from __future__ import annotations

import zlib

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.api.test_identities import IDENTITIES, World, world  # noqa: F401  (a fixture)

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance)
TURNS = 5
FEW = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def document(world: World) -> schemathesis.BaseSchema:  # noqa: F811
    """As the daemon serves it; streams do not end, so they are left out."""
    headers = {"Authorization": f"Bearer {world.running.token}"}
    found = schemathesis.openapi.from_url(f"{world.running.url}/schema/openapi.json", headers=headers)
    return found.exclude(path_regex="stream|token/refresh")


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_answer_is_declared(world: World, document: schemathesis.BaseSchema, identity: str) -> None:  # noqa: F811
    """Whatever is asked, by whomever: each operation by a fifth of the identities, who take turns."""
    secret = world.secret(identity)
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    asked = 0
    for found in document.get_all_operations():
        operation = found.ok()
        if (zlib.crc32(operation.label.encode()) + IDENTITIES.index(identity)) % TURNS:
            continue

        @given(case=operation.as_strategy())
        @FEW
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers=headers, checks=CHECKS)

        ask()
    assert asked > 30
