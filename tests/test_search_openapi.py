"""The server keeps to its own description, whatever a generator of requests makes of it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from coa.search import Passage
from coa.search.app import Serving
from coa.search.embedded import EmbeddedSearch

schemathesis = pytest.importorskip("schemathesis")
ENGINE = EmbeddedSearch.in_memory(
    [Passage("p1", "Danube", "A river."), Passage("p2", "Rhine", "Another river.")]
)


@pytest.fixture(scope="module")
def server(served_search: Any) -> Iterator[Any]:
    with served_search(ENGINE, Serving()) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_server_keeps_to_its_description(server: Any, mode: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 24
    for operation in operations:
        if operation.method == "post" or mode == "positive":
            check(operation, schemathesis.GenerationMode(mode))


def check(operation: Any, mode: Any) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
    def keeps_to_it(case: Any) -> None:
        case.call_and_validate()

    keeps_to_it()


def test_every_reference_in_the_description_leads_to_a_schema(server: Any) -> None:
    description = server.send("/openapi.json")[1]
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description)))
    assert named
    assert named <= description["components"]["schemas"].keys()
