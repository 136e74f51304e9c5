"""The description of the HTTP interface: complete, true, and on a page that needs no other site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import Shared

#: Not of the interface for programs: pages, and the description itself.
NOT_DESCRIBED = {"/", "/docs", "/openapi.json", "/static/<path:filename>", "/ws"}


@pytest.fixture
def description(shared: Shared) -> dict[str, Any]:
    found: dict[str, Any] = shared.client.get("/openapi.json").get_json()
    return found


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_described_with_its_methods(
    shared: Shared, description: dict[str, Any]
) -> None:
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in shared.app.url_map.iter_rules()
        if rule.rule not in NOT_DESCRIBED
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(description)} == routes


def test_every_operation_says_what_it_does_and_has_a_name_of_its_own(
    description: dict[str, Any],
) -> None:
    names = [operation["operationId"] for *_, operation in operations(description)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for *_, operation in operations(description))


def test_what_is_sent_may_have_no_other_fields(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    bodies = [
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for *_, operation in operations(description)
        if "requestBody" in operation
    ]
    assert bodies
    for ref in bodies:
        assert schemas[ref.rpartition("/")[2]]["additionalProperties"] is False, ref


def test_the_parts_of_addresses_and_queries_are_described(description: dict[str, Any]) -> None:
    history = description["paths"]["/rooms/{room}/messages"]["get"]
    where = {parameter["name"]: parameter["in"] for parameter in history["parameters"]}
    queries = dict.fromkeys(["limit", "before", "after", "around"], "query")
    assert where == {"room": "path", **queries}


def test_what_needs_a_token_says_so_and_says_what_comes_without(
    shared: Shared, description: dict[str, Any]
) -> None:
    for method, path, operation in operations(description):
        answer = shared.client.open(path.replace("{room}", "lobby"), method=method)
        assert operation["security"] == (
            [{"token": []}, {"cookie": []}] if answer.status_code == 401 else []
        ), path
        if operation["security"]:
            assert {"401", "503"} <= set(operation["responses"])


def test_errors_are_described_as_the_problems_that_they_are(description: dict[str, Any]) -> None:
    for method, path, operation in operations(description):
        for status, answer in operation["responses"].items():
            types = set(answer["content"])
            success = "text/plain" if path == "/metrics" else "application/json"
            expected = success if status < "400" else "application/problem+json"
            assert types == {expected}, (method, path, status)


# The same, tried out.

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_the_answers_to_anything_are_those_that_are_described(shared: Shared) -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", shared.app)
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path in ("/logout", "/logout/all"):
            continue  # alice is still needed

        @settings(
            deadline=None,
            max_examples=25,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=operation.as_strategy())
        def answers_as_described(case: schemathesis.Case[Any]) -> None:
            answer = case.call(headers=shared.alice)
            case.validate_response(answer, checks=CHECKS)

        answers_as_described()
        tried += 1
    assert tried >= 6


# The pages.


class Loaded(HTMLParser):
    """What a page loads, or leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "href", "srcset", "action", "data")
        self.addresses += [value or "" for name, value in attrs if name in names and tag != "a"]


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_a_page_loads_nothing_from_elsewhere(shared: Shared, path: str) -> None:
    answer = shared.client.get(path)
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    for address in Loaded(answer.get_data(as_text=True)).addresses:
        assert address.startswith(("/", "#", "data:")), address
        assert not address.startswith("//"), address
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|//|\*", policy), "nor would it be let"


def test_the_page_of_the_description_reads_this_servers_description(shared: Shared) -> None:
    assert "/openapi.json" in shared.client.get("/docs").get_data(as_text=True)
