"""The layers, by what imports what: a part may know only what is under it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.databases import ROOT

PACKAGE = ROOT / "bytechat"

REALTIME = sorted((PACKAGE / "realtime").glob("*.py"))
CLIENT = sorted((PACKAGE / "client").glob("*.py"))
RULES = [
    *(PACKAGE / "chat" / name for name in ("rooms.py", "messages.py", "journal.py")),
    *(PACKAGE / "auth" / name for name in ("accounts.py", "names.py", "passwords.py")),
]
#: Libraries that serve, store, or patch the standard library.
SERVERS = ["flask", "flask_sock", "flask_sqlalchemy", "werkzeug", "sqlalchemy", "gevent"]
#: What gunicorn's master reads, before gevent has patched anything in the workers.
MASTER = [
    ROOT / "gunicorn.conf.py",
    *(PACKAGE / name for name in ("config.py", "logs.py", "capacity.py")),
]


def module_of(path: Path) -> list[str]:
    return list(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path, *, of_the_module: bool = False) -> Iterator[str]:
    """The dotted names that a file imports, relative ones written out.

    With ``of_the_module`` only those that run when it is imported: not those inside functions, nor
    those for type checkers.
    """
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if of_the_module and (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = module_of(path)[: -node.level] if node.level else []
            base = ".".join([*start, node.module] if node.module else start)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_this_test_sees_imports_of_every_kind(tmp_path: Path) -> None:
    path = PACKAGE / "chat" / "peer.py"
    seen = set(imports(path))
    assert {"logging", "collections.deque"} <= seen
    assert "bytechat.errors.ApiError" in seen
    assert "bytechat.realtime.connection.Connection" in seen
    assert "bytechat.chat.frames" in seen
    assert "flask.Flask" in set(imports(PACKAGE / "config.py"))


@pytest.mark.parametrize("path", REALTIME, ids=lambda path: path.stem)
def test_realtime_knows_nothing_of_flask_or_of_tables(path: Path) -> None:
    wrong = [
        name
        for name in imports(path)
        if under(name, *SERVERS)
        or (under(name, "bytechat") and not under(name, "bytechat.realtime"))
    ]
    assert wrong == []


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: path.stem)
def test_the_client_knows_nothing_of_the_server(path: Path) -> None:
    """Nor inside its functions, which importing it does not run."""
    wrong = [
        name
        for name in imports(path)
        if under(name, *SERVERS) or (under(name, "bytechat") and not under(name, "bytechat.client"))
    ]
    assert wrong == []


def modules_after(script: str) -> set[str]:
    """What a Python of its own has loaded, which prints it; no coverage, which loads gevent too."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


def test_realtime_runs_without_flask_and_tables() -> None:
    modules = [".".join(module_of(path)) for path in REALTIME if path.stem != "__init__"]
    script = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    loaded = modules_after(script)
    assert set(modules) <= loaded
    assert not {"flask", "sqlalchemy", "gevent"} & loaded


def test_the_client_runs_without_anything_of_the_server() -> None:
    loaded = modules_after("import bytechat.client.__main__, sys; print(*sys.modules)")
    assert "bytechat.client.link" in loaded
    assert not {"flask", "sqlalchemy", "gevent", "wsproto", "gunicorn"} & loaded
    ours = {name for name in loaded if under(name, "bytechat")}
    assert {name for name in ours if not under(name, "bytechat.client")} == {"bytechat"}


@pytest.mark.parametrize("path", RULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_rules_know_nothing_of_requests(path: Path) -> None:
    asked = {"flask.request", "flask.g", "flask.session", "flask.current_app", "flask.abort"}
    wrong = [
        name
        for name in imports(path)
        if name in asked or name == "flask" or under(name, "flask_jwt_extended", "werkzeug")
    ]
    assert wrong == []


@pytest.mark.parametrize("path", MASTER, ids=lambda path: path.name)
def test_what_gunicorns_master_reads_imports_nothing_that_gevent_must_patch_first(
    path: Path,
) -> None:
    patched = ["flask", "sqlalchemy", "psycopg2", "bytechat.extensions"]
    # gunicorn.conf.py is the workers' too: there it starts threads, which gevent has made its own.
    patched += [] if path.name == "gunicorn.conf.py" else ["threading", "gevent"]
    assert [name for name in imports(path, of_the_module=True) if under(name, *patched)] == []


def test_gunicorns_master_has_loaded_nothing_that_gevent_must_patch_first() -> None:
    script = "import bytechat.capacity, bytechat.config, bytechat.logs, sys; print(*sys.modules)"
    assert not {"flask", "sqlalchemy", "gevent", "ssl", "socket"} & modules_after(script)


def test_every_module_says_what_it_is_in_its_first_line() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
        if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
