"""Nothing that lies in the current folder is imported by a process that we start."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).resolve().parent.parent

STARTS = {
    "orchestrator.base.environment": "git, in our own checkout",
    "orchestrator.cli.__init__": "python(): the same command again, without a password",
    "orchestrator.cli.gallery": "python(): runs an experiment",
    "orchestrator.cli.running": "python(): plans a sweep",
    "orchestrator.stores.schema": "python(): MLflow makes its database",
    "orchestrator.sweep.diagnoses": "python(): draws the figures of trials",
    "orchestrator.sweep.reporting": "python(): writes a report",
    "orchestrator.tracking.preflight": "python(): looks at a server",
    "orchestrator.tracking.supervisor": "python(): ships a sweep",
    "orchestrator.training.data.decoding": "python(): decodes images",
    "orchestrator.scheduling.ray.cluster": "Ray, whose workers get a job without the driver's folders",
}
"""Every module that starts a process, and which."""

STARTING = {
    "subprocess": "",
    "multiprocessing": "",
    "concurrent.futures": "ProcessPoolExecutor",
    "asyncio": "create_subprocess",
    "pty": "",
    "os": "exec spawn fork system popen posix_spawn",
    "ray": "init",
    "torch.multiprocessing": "",
    "runpy": "",
}
"""Library -> how the names in it begin that start a process; all of them where nothing is named."""


def dotted(node: ast.expr) -> str:
    """`os.path.join` of an expression that is a dotted name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported as."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if isinstance(node, ast.ImportFrom):
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            else:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
    return names


def starts(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls that may start a process."""
    names = imported(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = dotted(node.func).partition(".")
        called = names.get(first, "") + (f".{rest}" if rest else "")
        for library, begins in STARTING.items():
            name = called.removeprefix(f"{library}.")
            if name != called and (not begins or name.startswith(tuple(begins.split()))):
                yield node


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("orchestrator", "models"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text())


def test_every_start_of_a_process_is_in_the_table() -> None:
    found = {name for name, tree in modules() if any(True for _ in starts(tree))}
    assert found == set(STARTS)


def _is_executable(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and dotted(node) == "sys.executable"


def test_python_is_started_in_one_way() -> None:
    naming = {name for name, tree in modules() for node in ast.walk(tree) if _is_executable(node)}
    assert naming == {"orchestrator.base.processes"}


def test_ray_is_always_given_a_job_without_the_drivers_folders() -> None:
    (tree,) = (tree for name, tree in modules() if name == "orchestrator.scheduling.ray.cluster")
    calls = list(starts(tree))
    assert len(calls) == 2
    assert all(any(keyword.arg == "job_config" for keyword in call.keywords) for call in calls)


LIBRARIES = "yaml random models orchestrator torch ray numpy mlflow PIL hydra_plugins sitecustomize conf"
"""Folders that a hostile place holds; beside them lie modules of the standard library."""

OWN_NET = """
import random
import yaml
from models.mlp import mlp

def net(*, num_classes: int, in_channels: int, image_size: tuple[int, int]):
    return mlp(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
"""


def hostile(folder: Path) -> Path:
    """A folder in which every library that we import lies again, and writes a file when it is imported."""
    mark = f"open({str(folder / 'marker')!r}, 'a').write(__name__ + chr(10))\n"
    for name in LIBRARIES.split():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(mark)
    for name in ("json", "subprocess", "sqlite3", "triton", "cli", "string"):
        (folder / f"{name}.py").write_text(mark)
    (folder / "hydra_plugins" / "evil.py").write_text(mark)
    (folder / "conf" / "model").mkdir()
    (folder / "conf" / "model" / "mlp.yaml").write_text("_target_: evil.net\n")
    (folder / "conf" / "launch.yaml").write_text("a: [\n")
    return folder


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(command, cwd=folder, env=own | environment, capture_output=True, text=True, check=False)


SMALL = (
    "data=synthetic",
    "model.width=4",
    "epochs=1",
    "optimizer.lr=0.1",
    "norm=default",
    "repeat=2",
    "max_concurrent=2",
)


@pytest.fixture(scope="module")
def script() -> str:
    """The command as it is installed."""
    return str(Path(sys.executable).with_name("orchestrator"))


def test_a_sweep_in_a_hostile_folder_imports_nothing_of_it(tmp_path: Path, script: str) -> None:
    done = run(hostile(tmp_path), script, "launch", *SMALL)
    assert not (tmp_path / "marker").exists(), (tmp_path / "marker").read_text()
    assert done.returncode == 0, done.stderr
    done = run(tmp_path, script, "verify", next(path.name for path in (tmp_path / "runs").glob("sweep-*")))
    assert (done.returncode, (tmp_path / "marker").exists()) == (0, False)


def test_decoding_in_a_hostile_folder_imports_nothing_of_it(tmp_path: Path) -> None:
    code = """
import sys
del sys.path[0]
import numpy as np
from PIL import Image
from orchestrator.training.data.decoding import decode_files
Image.fromarray(np.zeros((4, 4), np.uint8)).save("a.png")
images = np.memmap("images", np.uint8, "w+", shape=(2, 1, 4, 4))
decode_files(["a.png", "a.png"], images, resize=False, progress=lambda *_: None, processes=2)
"""
    done = run(hostile(tmp_path), sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "marker").exists(), (tmp_path / "marker").read_text()


@pytest.mark.slow
def test_an_own_model_is_found_behind_everything_else(tmp_path: Path, script: str) -> None:
    """The user allows a module of the folder: it is imported, and what lies beside it under a library's name is not."""
    (hostile(tmp_path) / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "own.yaml").write_text("_target_: own_net.net\n")
    (tmp_path / "own_net.py").write_text(OWN_NET)
    own = ("--config-dir", "mine", "model=own", "allowed_targets=[own_net]", "tracking=none")
    done = run(tmp_path, script, "launch", *own, *[key for key in SMALL if not key.startswith("model")])
    assert done.returncode == 0, done.stderr
    ran = set((tmp_path / "marker").read_text().split()) if (tmp_path / "marker").exists() else set()
    assert ran <= {"triton"}, "a library that is not installed is looked for everywhere"


def test_rays_workers_have_no_folder_of_the_drivers_on_their_path(tmp_path: Path) -> None:
    code = """
import sys
import ray
from orchestrator.scheduling.ray.cluster import connect
with connect(None, preload="json", cpus=1, gpus=0):
    print(*ray.get(ray.remote(lambda: sys.path).remote()), sep="\\n")
"""
    done = run(tmp_path, sys.executable, "-P", "-c", code)
    assert done.returncode == 0, done.stderr
    path = done.stdout.splitlines()
    assert str(Path(ray.__file__).parent.parent) in path
    assert not {str(tmp_path), "", "."} & set(path)
