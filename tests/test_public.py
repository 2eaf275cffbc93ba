"""The names of the package: what an editor or a notebook offers, before anything heavy is imported."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator

NAMES = sorted(orchestrator.PUBLIC)


def test_every_public_name_is_offered() -> None:
    assert set(NAMES) <= set(dir(orchestrator))
    assert set(orchestrator.__all__) == {*NAMES, "__version__"}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_says_what_it_is(name: str) -> None:
    found = getattr(orchestrator, name)
    assert callable(found)
    assert found.__module__ == orchestrator.PUBLIC[name]
    first = (inspect.getdoc(found) or "").partition("\n")[0]
    assert len(first) > 20


def test_a_type_checker_sees_what_is_imported_later() -> None:
    """The imports under TYPE_CHECKING are those that `__getattr__` does, and the package says that it is typed."""
    path = Path(orchestrator.__file__)
    guarded = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    found = {
        alias.asname: node.module
        for block in guarded
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert found == orchestrator.PUBLIC
    assert (path.parent / "py.typed").is_file()


def test_looking_at_the_names_imports_nothing() -> None:
    code = "import sys, orchestrator; dir(orchestrator); print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_modle'"):
        _ = orchestrator.load_modle  # type: ignore[attr-defined]
