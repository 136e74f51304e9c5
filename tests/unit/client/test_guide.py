"""docs/client.md has every name, argument and code that there is."""

from __future__ import annotations

import inspect
import re

import pytest

import bytechat.client
from bytechat.client import Client, GaveUp
from bytechat.client.retry import AT_LEAST, FATAL

from ...support.databases import ROOT

GUIDE = (ROOT / "docs" / "client.md").read_text()
#: What a program is given or catches; the shapes of the server are in docs/http.md.
NAMES = sorted(set(bytechat.client.__all__) - {"Event", "Hello", "Limits", "Page", "Reaction"})


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"Room", "User"}))
def test_each_public_name_is_in_the_guide(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b", GUIDE)


@pytest.mark.parametrize("name", [n for n in vars(Client) if not n.startswith("_")])
def test_each_public_method_is_in_the_guide(name: str) -> None:
    assert re.search(rf"`[^`\n]*\.{name}\b|`{name}\(", GUIDE)


def test_each_argument_is_in_the_guide_with_its_default() -> None:
    parameters = inspect.signature(Client).parameters
    for name in ("window", "backlog", "ping_every"):
        assert f"| `{name}` | {parameters[name].default:,g} |" in GUIDE
    for name in parameters:
        assert f"`{name}`" in GUIDE or f"({name}" in GUIDE or f", {name}" in GUIDE, name


def test_login_takes_what_the_client_takes() -> None:
    ours = {
        n: p for n, p in inspect.signature(Client).parameters.items() if p.kind is p.KEYWORD_ONLY
    }
    login = inspect.signature(Client.login).parameters
    assert ours == {n: p for n, p in login.items() if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize(("code", "error"), FATAL.items())
def test_each_code_that_ends_a_client_is_in_the_guide(code: int, error: type[GaveUp]) -> None:
    lines = [line for line in GUIDE.splitlines() if re.search(rf"\| .*\b{code}\b.* \|", line)]
    assert any(f"gives up: `{error.__name__}`" in line for line in lines)


@pytest.mark.parametrize("code", AT_LEAST)
def test_each_code_that_sends_away_is_in_the_guide(code: int) -> None:
    assert f"| {code} | comes back after" in GUIDE
