"""The documentation has every setting, call, error, frame, close code and dependency there is."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from bytechat import create_app
from bytechat.chat import frames
from bytechat.config import Settings, describe
from bytechat.errors import ApiError
from bytechat.realtime.closing import Code

from ..support.databases import ROOT, settings

DOCS = ROOT / "docs"
PAGES = [*DOCS.glob("*.md"), *ROOT.glob("*.md")]
SETTINGS = msgspec.structs.fields(Settings)
FRAMES = [
    *((frame, "Frames from the client") for frame in get_args(frames.ClientFrame)),
    *((frame, "Frames from the server") for frame in get_args(frames.ServerFrame)),
]
ERRORS = sorted(ApiError.__subclasses__(), key=lambda error: error.__name__)
#: The same errors where they have another status.
VARIANTS = [variant for error in ERRORS for variant in error.__subclasses__()]


def rows(page: Path) -> list[list[str]]:
    """The cells of all the tables of a page."""
    lines = page.read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines
        if line.startswith("| ") and not line.startswith("| ---")
    ]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level."""
    text = f"\n{text}"
    level = re.search(rf"\n(#+) {re.escape(heading)}\n", text)
    assert level, f"there is no heading {heading!r}"
    rest = text[level.end() :]
    end = re.search(rf"\n#{{1,{len(level[1])}}} ", rest)
    return rest[: end.start()] if end else rest


def without_code(text: str) -> str:
    return re.sub(r"(?m)^```[^`]*^```$|^    .*$", "", text)


@pytest.mark.parametrize("field", SETTINGS, ids=lambda field: field.encode_name)
def test_each_setting_is_described_as_it_describes_itself_with_its_default(
    field: msgspec.structs.FieldInfo,
) -> None:
    (row,) = (row for row in rows(DOCS / "settings.md") if row[0] == f"`{field.encode_name}`")
    _name, takes, default, why = row
    assert takes == describe(field)
    shown = int(field.default) if isinstance(field.default, bool) else field.default
    assert default == (f"`{shown}`" if shown != "" else "none")
    assert why


def test_no_setting_is_documented_that_is_not_there() -> None:
    names = re.findall(r"(?m)^\| `([A-Z_]+)` \|", (DOCS / "settings.md").read_text())
    assert names == [field.encode_name for field in SETTINGS]


@pytest.mark.parametrize("error", ERRORS + VARIANTS, ids=lambda error: error.__name__)
def test_each_error_is_documented_with_its_status(error: type[ApiError]) -> None:
    assert [str(error.status), f"`{error.code}`"] in [row[:2] for row in rows(DOCS / "http.md")]


def test_error_codes_are_not_used_twice() -> None:
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


def test_each_call_is_documented(tmp_path: Path) -> None:
    app = create_app(settings(f"sqlite:///{tmp_path}/not-used.db"))
    text = (DOCS / "http.md").read_text()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<path:.*>", "...", rule.rule).replace("<", "{").replace(">", "}")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert f"`{method} {path}`" in text, f"{method} {path}"


@pytest.mark.parametrize(
    ("frame", "heading"), FRAMES, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_frame_is_documented_with_its_fields(
    frame: type[msgspec.Struct], heading: str
) -> None:
    tag = str(frame.__struct_config__.tag)
    text = section(section((DOCS / "websocket.md").read_text(), heading), f"`{tag}`")
    for field in frame.__struct_fields__:
        assert f"`{field}`" in text or f'"{field}"' in text, field
    assert f'{{"type": "{tag}"' in text.replace('{\n  "type"', '{"type"')


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_each_close_code_is_documented(code: Code) -> None:
    found = [row for row in rows(DOCS / "websocket.md") if row[0] == str(int(code))]
    if code == Code.ABNORMAL:
        assert found == [] or "never" in found[0][2]  # it is not sent
    else:
        (row,) = found
        assert row[1] == f"`{code.name}`"
        assert all(row[2:])


def requirements(file: str, *, direct: bool = False) -> set[str]:
    text = (ROOT / file).read_text()
    if direct:
        text = text.partition("# What those need.")[0]
    return set(re.findall(r"(?m)^([\w.-]+(?:\[[\w,]+\])?)==", text))


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_each_direct_requirement_has_its_reason(file: str) -> None:
    reasons = {row[0].strip("`"): row[1] for row in rows(DOCS / "dependencies.md")}
    needed = requirements(file, direct=True)
    assert needed
    assert needed <= set(reasons)
    assert all(reasons[name] for name in needed)


def test_each_package_that_is_imported_has_its_reason_and_is_pinned() -> None:
    reasons = {row[0].strip("`").partition("[")[0] for row in rows(DOCS / "dependencies.md")}
    pinned = {name.partition("[")[0] for name in requirements("requirements.txt")}
    distributions = packages_distributions()
    for path in (ROOT / "bytechat").rglob("*.py"):
        for name in _packages(ast.parse(path.read_text())):
            ours = {found.lower().replace("_", "-") for found in distributions.get(name, [])}
            assert name in sys.stdlib_module_names or ours & reasons & pinned, f"{path}: {name}"


def _packages(module: ast.AST) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def test_the_two_readmes_have_the_same_headings_and_the_same_code() -> None:
    english, russian = ((ROOT / name).read_text() for name in ("README.md", "README.ru.md"))
    assert _levels(english) == _levels(russian)
    assert _code(english) == _code(russian)
    assert _code(english)


def _levels(text: str) -> list[int]:
    return [len(level) for level in re.findall(r"(?m)^(#+) ", text)]


def _code(text: str) -> list[str]:
    """The lines of code, without their comments, which are translated."""
    return [re.sub(r" +# .*", "", line) for line in re.findall(r"(?m)^    \S.*$|^```.*$", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", without_code(page.read_text())):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked.read_text()), target


def _anchors(text: str) -> set[str]:
    """As GitHub makes them: the second heading of a name gets a number."""
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors
