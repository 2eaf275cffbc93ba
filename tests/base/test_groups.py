"""The table of groups, and that nothing else lists them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.base.groups import ENSEMBLE, GROUPS, PARTS, SEARCHES, SHOWN_GROUPS
from orchestrator.base.settings import CONF, ROOT_KEYS, launch_defaults

ROOT = Path(__file__).resolve().parents[2]
TABLES = {"base/groups.py", "base/settings.py"}
RECORDS = {"verify/evidence.py"}
"""What an event of the journal holds, some of it by the same names."""


def test_every_group_is_a_folder_with_a_default_choice() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*GROUPS, *PARTS, *SEARCHES, ENSEMBLE}
    assert {group for entry in launch_defaults()["defaults"][1:] for group in entry} == {
        *GROUPS,
        *PARTS,
        *SEARCHES,
    }


def test_every_root_key_has_a_default() -> None:
    assert set(launch_defaults()) - {"defaults"} == set(ROOT_KEYS)


def test_what_tells_trials_apart_is_shown_first() -> None:
    assert SHOWN_GROUPS[:3] == ("optimizer", "model", "schedule")


def lists(tree: ast.AST) -> Iterator[tuple[int, set[object]]]:
    """The tuples, lists and sets of constants, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            yield node.lineno, {item.value for item in node.elts if isinstance(item, ast.Constant)}


@pytest.mark.parametrize("names", [{*GROUPS, *PARTS}, set(ROOT_KEYS)], ids=["groups", "root keys"])
def test_nothing_else_lists_them(names: set[object]) -> None:
    """Three names together are a list that the next group or root key would have to be added to."""
    found = [
        f"{path.name}:{line}: {sorted(map(str, listed & names))}"
        for path in sorted((ROOT / "orchestrator").rglob("*.py"))
        if "/".join(path.parts[-2:]) not in TABLES | RECORDS
        for line, listed in lists(ast.parse(path.read_text()))
        if len(listed & names) >= 3
    ]
    assert not found
