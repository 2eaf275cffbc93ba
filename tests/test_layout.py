"""The table of imports: who may import whom, and which libraries stay in which room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "models": set(),
    "orchestrator.base": {"base"},
    "orchestrator.space": {"base", "space"},
    "orchestrator.training": {"base", "training"},
    "orchestrator.config": {"base", "config", "space", "training"},  # training's preflight tries every choice
    "orchestrator.journal": {"base", "journal"},
    "orchestrator.analysis": {"analysis", "base", "config", "journal", "space"},
    "orchestrator.scheduling": {"base", "journal", "scheduling", "space", "training"},
    "orchestrator.stores": {"base", "journal", "stores"},
    "orchestrator.serving": {"base", "config", "housekeeping", "journal", "serving", "stores", "training"},
    # training, for the cache of decoded images alone (reports/parts/images.py): it is read without torch
    "orchestrator.reports": {"analysis", "base", "config", "journal", "reports", "space", "training"},
    "orchestrator.tracking": {"analysis", "base", "config", "journal", "stores", "tracking"},
    "orchestrator.verify": {"base", "config", "journal", "scheduling", "space", "stores", "training", "verify"},
    "orchestrator.housekeeping": {
        "analysis",
        "base",
        "config",
        "housekeeping",
        "journal",
        "space",
        "stores",
        "training",
    },
    "orchestrator.diagnosis": {"base", "config", "diagnosis", "housekeeping", "journal", "reports", "training"},
    "orchestrator.ensembles": {
        *("analysis", "base", "config", "ensembles", "housekeeping", "journal", "reports", "serving", "stores"),
        *("tracking", "training"),
    },
    "orchestrator.sweep": {
        *(
            "analysis",
            "base",
            "config",
            "diagnosis",
            "housekeeping",
            "journal",
            "reports",
            "scheduling",
            "serving",
            "space",
            "sweep",
            "stores",
            "tracking",
            "training",
            "verify",
        ),
    },
    "orchestrator.cli": {
        *(
            "analysis",
            "base",
            "cli",
            "config",
            "diagnosis",
            "ensembles",
            "housekeeping",
            "journal",
            "reports",
            "scheduling",
            "serving",
        ),
        *("sweep", "tracking", "training", "verify"),
    },
}
"""Room -> the rooms of `orchestrator` that it may import: floors, the lowest first."""

ABOVE = {"orchestrator", "orchestrator.__main__"}
"""The package itself and its entry point, which hand on to the rooms."""

ONLY_IN = {
    "ray": {"orchestrator.scheduling.ray"},
    "mlflow": {
        "orchestrator.stores.client",
        "orchestrator.stores.registry",
        "orchestrator.tracking.dashboard",
        "orchestrator.ensembles",
    },
    "hydra": {"orchestrator.config"},
    "omegaconf": {"orchestrator.config"},
    "optuna": {"orchestrator.scheduling", "orchestrator.analysis"},
    "torch": {"orchestrator.training", "orchestrator.serving", "orchestrator.ensembles", "models"},
    "safetensors": {
        "orchestrator.reports.parts.predictions",
        "orchestrator.training",
        "orchestrator.analysis",
        "orchestrator.verify",
        "orchestrator.ensembles",
        "models.pretrained",
    },
    "pandas": {"orchestrator.analysis", "orchestrator.serving"},
    "vl_convert": {"orchestrator.reports"},
    "arch": {"orchestrator.ensembles"},
    "statsmodels": {"orchestrator.ensembles"},
}

HEAVY = {
    "ray",
    "mlflow",
    "hydra",
    "omegaconf",
    "optuna",
    "torch",
    "torchvision",
    "PIL",
    "sklearn",
    "scipy",
    "rich",
    "numpy",
    "pandas",
    "vl_convert",
    "arch",
    "statsmodels",
}

AT_THE_TOP = {
    ("orchestrator.training", "torch"),
    ("orchestrator.training", "numpy"),
    ("orchestrator.training", "safetensors"),
    ("models", "torch"),
    ("orchestrator.scheduling.ray.worker", "ray"),
    ("orchestrator.scheduling.ray.tuner", "ray"),
    ("orchestrator.scheduling.ray.private", "ray"),
    ("orchestrator.config", "hydra"),
    ("orchestrator.config", "omegaconf"),
}
"""Where a heavy library is imported when the module is; anywhere else the import stands inside the function that needs it."""


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("orchestrator", "models"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


MODULES = modules()


def imports(module: str, path: Path) -> Iterator[tuple[str, bool]]:
    """(imported module, whether when the module is imported); names under TYPE_CHECKING do not run."""
    tree = ast.parse(path.read_text())
    inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    unrun = {
        id(n)
        for b in ast.walk(tree)
        if isinstance(b, ast.If) and "TYPE_CHECKING" in ast.dump(b.test)
        for n in ast.walk(b)
    }
    for node in ast.walk(tree):
        top = id(node) not in inside and id(node) not in unrun
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, path, node.level) if node.level else ""
            yield from ((".".join(filter(None, (base, node.module, alias.name))), top) for alias in node.names)


def absolute(module: str, path: Path, level: int) -> str:
    """The package that a relative import starts from."""
    parts = module.split(".")
    up = level - 1 if path.name == "__init__.py" else level
    return ".".join(parts[: len(parts) - up])


def test_relative_imports_are_seen() -> None:
    here = ROOT / "orchestrator" / "config"
    assert absolute("orchestrator.config", here / "__init__.py", 1) == "orchestrator.config"
    assert absolute("orchestrator.config.draft", here / "draft.py", 1) == "orchestrator.config"
    assert absolute("orchestrator.config.draft", here / "draft.py", 2) == "orchestrator"


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_one_way(module: str, path: Path) -> None:
    if module in ABOVE:
        return
    room = next((room for room in MAY_IMPORT if within(module, room)), None)
    assert room, f"{module} stands in no room: add it to MAY_IMPORT"
    for imported, _ in imports(module, path):
        package, _, rest = imported.partition(".")
        if package == "orchestrator" and rest != "__version__":
            assert rest.split(".")[0] in MAY_IMPORT[room], f"{module} imports {imported}"
        elif package == "models":
            assert room in ("models", "orchestrator.training"), f"{module} imports {imported}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_libraries_stay_in_their_room(module: str, path: Path) -> None:
    for imported, top in imports(module, path):
        library = imported.split(".")[0]
        if library in ONLY_IN:
            assert any(within(module, room) for room in ONLY_IN[library]), f"{module} imports {library}"
        if library in HEAVY and top:
            allowed = any(within(module, room) and library == name for room, name in AT_THE_TOP)
            assert allowed, f"{module} imports {library} when it is imported itself"
