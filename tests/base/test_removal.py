"""Nothing is deleted through a link, beyond a mount, or without a mark; and nothing elsewhere in the program deletes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.base import removal
from orchestrator.base.removal import Folder, RefusedRemovalError

ROOT = Path(__file__).resolve().parents[2]


def anything(folder: Folder) -> bool:
    return True


def marked(folder: Folder) -> bool:
    return folder.read("mark") == b"ours"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of somebody else's, outside of what is deleted in."""
    folder = tmp_path / "precious"
    (folder / "deeper").mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    (folder / "deeper" / "data.csv").write_text("1,2,3")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


THEIRS = {"thesis.tex": "years of work", "deeper/data.csv": "1,2,3"}


def test_a_tree_goes_with_all_that_is_in_it_and_its_neighbours_stay(runs: Path) -> None:
    for name in ("goes", "stays"):
        (runs / name / "a" / "b").mkdir(parents=True)
        (runs / name / "a" / "b" / "file").write_text("x")
    with removal.opened(runs) as root:
        root.remove_tree("goes", anything)
        root.remove_tree("was never there", anything)
    assert os.listdir(runs) == ["stays"]
    assert (runs / "stays/a/b/file").read_text() == "x"


def test_a_link_is_not_a_tree_and_within_one_it_goes_alone(runs: Path, precious: Path) -> None:
    (runs / "link").symlink_to(precious)
    (runs / "tree").mkdir()
    (runs / "tree" / "inner").symlink_to(precious)
    (runs / "tree" / "file").symlink_to(precious / "thesis.tex")
    with removal.opened(runs) as root:
        with pytest.raises(RefusedRemovalError, match="link is a link; put the folder itself in its place"):
            root.remove_tree("link", anything)
        root.remove_tree("tree", anything)
    assert os.listdir(runs) == ["link"]
    assert contents(precious) == THEIRS


def test_without_a_mark_nothing_goes(runs: Path) -> None:
    (runs / "tree").mkdir()
    (runs / "tree" / "file").write_text("x")
    with removal.opened(runs) as root:
        with pytest.raises(
            RefusedRemovalError, match=r"tree is not removed: nothing in it says that it is orchestrator"
        ):
            root.remove_tree("tree", marked)
        assert (runs / "tree" / "file").read_text() == "x"
        (runs / "tree" / "elsewhere").write_text("ours")
        (runs / "tree" / "mark").symlink_to(runs / "tree" / "elsewhere")
        with pytest.raises(RefusedRemovalError, match="nothing in it says"):
            root.remove_tree("tree", marked)
        (runs / "tree" / "mark").unlink()
        (runs / "tree" / "mark").write_text("ours")
        root.remove_tree("tree", marked)
    assert os.listdir(runs) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../precious", "a/b", "/etc", "a\0b"])
def test_a_name_is_no_path(runs: Path, precious: Path, name: str) -> None:
    with removal.opened(runs) as root:
        for remove in (root.remove_file, root.remove_empty, lambda name: root.remove_tree(name, anything)):
            with pytest.raises(RefusedRemovalError, match="is not the name of a file in a folder"):
                remove(name)
    assert contents(precious) == THEIRS


def test_a_folder_swapped_for_a_link_behind_the_check_leads_nowhere(runs: Path, precious: Path) -> None:
    """The mark is looked at, then the folder is moved away and a link put in its place: the folder that was seen is emptied."""
    (runs / "tree").mkdir()
    (runs / "tree" / "mark").write_text("ours")

    def swap(folder: Folder) -> bool:
        os.rename(runs / "tree", runs / "aside")
        (runs / "tree").symlink_to(precious)
        return marked(folder)

    with removal.opened(runs) as root:
        root.remove_tree("tree", swap)
    assert contents(precious) == THEIRS
    assert os.listdir(runs / "aside") == []
    assert (runs / "tree").is_symlink()


def test_no_other_file_system_is_entered(runs: Path, precious: Path) -> None:
    """In a name space of its own, where this user may mount: the folder is bound into what is deleted."""
    (runs / "tree" / "mounted").mkdir(parents=True)
    script = f"""
import sys
from pathlib import Path
from orchestrator.base import removal
with removal.opened(Path({str(runs)!r})) as root:
    try:
        root.remove_tree("tree", lambda folder: True)
    except removal.RefusedRemovalError as error:
        print(error)
"""
    mount = f"mount --bind {precious} {runs}/tree/mounted && exec {os.environ.get('PYTHON', 'python')} -c '{script}'"
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", mount.replace("'" + script + "'", '"$0"'), script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert "tree/mounted is another file system, which is left alone; unmount it first" in done.stdout, done.stderr
    assert contents(precious) == THEIRS


def test_files_go_by_their_whole_names_alone(runs: Path) -> None:
    for name in ("best.safetensors.7.tmp", "notes.tmp", "best.safetensors"):
        (runs / name).write_text("x")
    (runs / "a.7.tmp").mkdir()
    with removal.opened(runs) as root:
        root.remove_files(re.compile(r".*\.7\.tmp"))
    assert sorted(os.listdir(runs)) == ["a.7.tmp", "best.safetensors", "notes.tmp"]


def test_a_temporary_folder_of_a_killed_process_goes_by_its_mark(runs: Path, precious: Path) -> None:
    with removal.temporary_folder(runs, ".new-") as folder:
        (folder / "half").write_text("x")
        assert folder.parent == runs
    assert os.listdir(runs) == []
    (runs / ".new-killed").mkdir()
    (runs / ".new-killed" / removal.TEMPORARY_MARK).write_text(".new-killed")
    (runs / ".new-killed" / "half").write_text("x")
    (runs / ".new-somebodys").mkdir()
    (runs / ".new-somebodys" / "file").write_text("x")
    (runs / ".new-link").symlink_to(precious)
    removal.remove_abandoned(runs, ".new-")
    assert sorted(os.listdir(runs)) == [".new-link", ".new-somebodys"]
    assert contents(precious) == THEIRS


def test_a_trials_folder_is_reached_through_no_link(runs: Path, precious: Path) -> None:
    sweep = runs / "digits-0a1b2c3d"
    sweep.mkdir()
    with removal.opened_trial(sweep / "trials" / "00007", create=True) as folder:
        folder.touch("attempt")
    assert (sweep / "trials/00007/attempt").is_file()
    os.rename(sweep / "trials", sweep / "aside")
    (sweep / "trials").symlink_to(precious)
    with (
        pytest.raises(RefusedRemovalError, match="trials is a link"),
        removal.opened_trial(sweep / "trials" / "00007", create=True),
    ):
        pass
    assert contents(precious) == THEIRS
    with (
        pytest.raises(FileNotFoundError, match="gone-00000000"),
        removal.opened_trial(runs / "gone-00000000" / "trials" / "00007", create=True),
    ):
        pass
    assert not (runs / "gone-00000000").exists(), "the folder of a sweep is made by its launch alone"


# the table ----------------------------------------------------------------------------------------------------------

REMOVES = {"rmtree", "unlink", "rmdir", "removedirs", "TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "renames"}
ELSEWHERE = {
    ("orchestrator/stores/artifacts.py", "os.replace"): "a file that is whole takes its name",
    ("orchestrator/stores/schema.py", "os.replace"): "a store that is whole takes its name",
    ("orchestrator/training/checkpoint.py", "os.replace"): "a file that is whole takes its name",
    ("orchestrator/training/data/cache.py", "rename"): "an entry that is whole takes its name",
    ("orchestrator/config/machine.py", "rename"): "the probe of a file system tries just this",
    ("orchestrator/stores/copy_schema.py", "TemporaryDirectory"): "Python's own, made and removed in one statement",
    ("orchestrator/stores/client.py", "TemporaryDirectory"): "Python's own, made and removed in one statement",
    (
        "orchestrator/ensembles/served.py",
        "mkdtemp",
    ): "Python's own, made by the process that removes it, and named by nobody else",
    ("orchestrator/cli/running.py", "NamedTemporaryFile"): "Python's own, made and removed in one statement",
}
"""(file, call) -> why it stands outside of `base/removal.py`."""


def removing_calls(tree: ast.AST) -> Iterator[str]:
    """Calls by which something is removed or renamed over; `str.replace` has two arguments, `Path.replace` one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = (
            function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
        )
        if name in REMOVES or (owner, name) == ("shutil", "move"):
            yield name
        elif owner == "os" and name in ("remove", "rename", "replace"):
            yield f"os.{name}"
        elif isinstance(function, ast.Attribute) and name in ("rename", "replace") and len(node.args) == 1:
            yield from () if node.keywords else (name,)


def test_the_scan_sees_what_removes() -> None:
    source = "shutil.rmtree(a); p.unlink(); os.remove(a); p.rename(b); p.replace(b); os.replace(a, b); text.replace('a', 'b')"
    assert sorted(removing_calls(ast.parse(source))) == sorted(
        ["rmtree", "unlink", "os.remove", "rename", "replace", "os.replace"]
    )


def test_nothing_is_removed_outside_of_this_module() -> None:
    found = {
        (str(path.relative_to(ROOT)), call)
        for package in ("orchestrator", "models")
        for path in sorted((ROOT / package).rglob("*.py"))
        for call in removing_calls(ast.parse(path.read_text()))
        if path != ROOT / "orchestrator/base/removal.py"
    }
    assert found - set(ELSEWHERE) == set(), "remove with orchestrator.base.removal, or say in the table why not"
    assert set(ELSEWHERE) - found == set(), "these lines of the table are of no use any more"
