"""The private names of Ray are there, and in one file."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from orchestrator.scheduling.ray import private

ROOT = Path(__file__).resolve().parents[3]


def test_ray_still_has_every_private_name_that_is_used() -> None:
    assert private.missing() == []


def test_a_name_that_is_gone_is_told_with_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(private.PRIVATE, "ray._private.node:Node.start_oracle", "knows the future")
    monkeypatch.setitem(private.PRIVATE_FIELDS, "ray._private.node:Node", ("_oracle",))
    first, second = private.missing()
    assert "has no ray._private.node:Node.start_oracle (knows the future)" in first
    assert "has no ray._private.node:Node._oracle" in second


def test_the_pinned_version_is_the_one_that_the_names_were_read_in() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert f"ray[tune]=={private.PINNED}" in project["project"]["dependencies"]


def test_no_other_file_uses_private_names_of_ray() -> None:
    found = []
    used = {name.rpartition(":")[2].rpartition(".")[2] for name in private.PRIVATE}
    used |= {name for names in private.PRIVATE_FIELDS.values() for name in names}
    for path in (ROOT / "orchestrator").rglob("*.py"):
        if path == Path(private.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"{path}: {name}" for name in modules if name.startswith("ray.") and "._" in name]
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr in used:
                found.append(f"{path}: .{node.attr}")
    assert found == []
