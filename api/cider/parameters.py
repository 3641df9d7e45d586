"""The parameters of an endpoint's query, for the OpenAPI document: handlers read them as they were sent."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType

from api.cider.relations import Endpoint


def documented(endpoint: Endpoint) -> type[Operation]:
    """An operation that names them beside what the handler itself takes."""
    query = [
        Parameter(name=name, param_in="query", schema=Schema(type=OpenAPIType.STRING))
        for name in endpoint.query
    ]

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or ()), *query]

    return Documented
