"""What a `_target_` may name: the literal decides, and nothing that is not allowed is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from orchestrator.base.build import mismatch, parameters
from orchestrator.base.errors import ConfigError
from orchestrator.base.groups import PROVIDED
from orchestrator.base.rights import Rights, granted, in_force
from orchestrator.base.settings import CONF
from orchestrator.base.targets import TORCH, catalogue_targets, refusal, resolve, targets_in

OWN = """
import os
from torch.nn import Linear
from functools import partial

def make(): pass

class Net:
    def method(self): pass

half = partial(print)
rows = []
def _secret(): pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_target_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_target_module"
    sys.modules.pop("my_target_module", None)


def written_targets() -> dict[str, str]:
    """target -> group, as YAML reads our own files."""
    files = sorted(CONF.glob("*/*.yaml"))
    return {
        spec["_target_"]: path.parent.name
        for path in files
        if "_target_" in (spec := yaml.safe_load(path.read_text()) or {})
    }


def test_the_catalogue_lists_what_its_files_name_and_all_of_it_can_be_built() -> None:
    assert catalogue_targets() == set(written_targets())
    for name in catalogue_targets():
        assert callable(resolve(name))


@pytest.mark.parametrize(
    "target",
    [
        # seen in plans
        "torch.fx.graph_module._exec_with_source", "torch.serialization.load", "torch.classes.load_library",
        "torch._inductor.codecache.PyCodeCache.load", "torch.save", "torch.load", "torch.hub.load",
        "orchestrator.tracking.delete._remove_files", "orchestrator.stores.delete.delete", "orchestrator.cli.main",
        # others of the kind
        "os.system", "torch.os.system", "builtins.exec", "subprocess.run", "shutil.rmtree", "torch.jit.load",
        "torch.nn.functional.relu", "torch.nn.modules.linear.Linear", "torch.nn.utils.parametrize.register_parametrization",
        "torch.nn.Module.load_state_dict", "torch.optim.sgd.SGD", "torch.optim.lr_scheduler.warnings.warn",
        "torch.nn._reduction.get_enum", "torch.nn.__builtins__", "orchestrator.base.build.build", "orchestrator.load_model",
        "orchestrator.training.checkpoint.load", "models.create", "models.layers.norm.os", "conf", "_.x", "a" * 300 + ".b",
        "", ".", "models..mlp", "mlp", "torch.nn. Linear", "torch.nn.Linear\n", "torch.nn.Linear.__init__",
    ],
)  # fmt: skip
def test_refused_before_anything_is_imported(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imports {name}"))
    with pytest.raises(ConfigError, match=r"is not allowed|is private|must be a dotted name"):
        resolve(target)


@pytest.mark.parametrize("package", TORCH)
def test_of_torch_every_public_class_that_is_defined_there_and_nothing_else(package: str) -> None:
    module = sys.modules[package]
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None)
        defined = isinstance(value, type) and (home == package or str(home).startswith(f"{package}."))
        if defined and not name.startswith("_"):
            assert resolve(f"{package}.{name}") is value
        else:
            with pytest.raises(ConfigError, match=r"is not a class of|is private"):
                resolve(f"{package}.{name}")


def test_an_alias_that_somebody_puts_into_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr(torch.nn, "Popen", subprocess.Popen, raising=False)
    monkeypatch.setattr(torch.optim, "load", torch.load, raising=False)
    for name in (
        "torch.nn.Popen",
        "torch.optim.load",
        "torch.optim.os",
        "torch.nn.functional",
        "torch.optim.lr_scheduler",
    ):
        with pytest.raises(ConfigError, match="is not a class of"):
            resolve(name)


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(ConfigError, match=r"did you mean torch\.optim\.SGD"):
        resolve("torch.optim.SDG")


def test_a_refused_target_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_evil_module.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"is not allowed; .*allowed_targets=\[my_evil_module\.f\]"):
        resolve("my_evil_module.f")
    assert "my_evil_module" not in sys.modules


def test_allowed_is_a_package_or_a_name_and_not_the_beginning_of_one(own: str) -> None:
    for allowed in (own, f"{own}.make"):
        with granted(Rights((allowed,))):
            assert resolve(f"{own}.make").__name__ == "make"
    for allowed in (own[:-1], f"{own}.mak", f"{own}.Net", "", "."):
        with granted(Rights((allowed,))), pytest.raises(ConfigError, match="is not allowed"):
            resolve(f"{own}.make")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("os.system", "is not allowed: it is defined in posix"), ("Linear", "is not allowed: it is defined in torch"),
        ("half", "is not allowed: it is defined in functools"), ("rows.append", "is not allowed: it is defined in a library"),
        ("_secret", "is private"), ("make.__globals__", "is private"), ("os", "is not a function or class"),
        ("rows", "is not a function or class"), ("Nett", r"did you mean my_target_module\.Net"),
    ],
)  # fmt: skip
def test_an_allowed_package_does_not_lead_out_of_itself(own: str, name: str, why: str) -> None:
    with granted(Rights((own,))), pytest.raises(ConfigError, match=why):
        resolve(f"{own}.{name}")


def test_what_the_user_names_exactly_may_be_defined_elsewhere(own: str) -> None:
    with granted(Rights((f"{own}.Linear",))):
        assert resolve(f"{own}.Linear") is torch.nn.Linear


@pytest.mark.parametrize("allowed", ["orchestrator", "orchestrator.cli.main", "orchestrator.cli"])
def test_of_our_own_package_nobody_can_allow_more(allowed: str) -> None:
    with granted(Rights((allowed,))), pytest.raises(ConfigError, match="is not allowed"):
        resolve("orchestrator.cli.main")


def test_module_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_module.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with granted(Rights(("my_broken_module", "my_missing_module"))):
        with pytest.raises(ConfigError, match=r"cannot be imported: No module named 'not_there_at_all'"):
            resolve("my_broken_module.f")
        with pytest.raises(ConfigError, match=r"no module named my_missing_module; import_paths="):
            resolve("my_missing_module.f")


def test_rights_last_as_long_as_their_block_and_shadow_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["first"])
    with granted(Rights(("a",), ("mine", "first"))):
        assert in_force().targets == ("a",)
        with granted(Rights()):
            assert refusal("a.b", in_force())
    assert in_force() == Rights()
    assert sys.path == ["first", "mine"]


def test_every_target_in_plain_data_is_found() -> None:
    tree = {"a": [{"_target_": "b.c"}, [{"x": {"_target_": "a.b", "y": 1}}]], "_target_": "b.c", "z": {"_target_": 3}}
    assert targets_in(tree) == ["a.b", "b.c"]


TEXTS = {
    "data.root": "a folder that is read",
    "tracking.uri": "a server, or a database with an absolute path",
    "tracking.artifacts": "an absolute folder",
    "tracking.experiment": "a name",
    "cluster.address": "host:port",
    "model.cell": "a description of a cell, which is parsed",
    "model.normal_cell": "a description of a cell, which is parsed",
    "model.reduction_cell": "a description of a cell, which is parsed",
    "transfer.stage": "the name of a part of the network, which has to be there",
}
"""Arguments of the catalogue that take any text, and what each is taken for: none is the name of code."""


def test_no_argument_of_the_catalogue_takes_the_name_of_something_to_run() -> None:
    free = set()
    for target, group in written_targets().items():
        for name, parameter in parameters(resolve(target), PROVIDED.get(group, ())).items():
            assert parameter.annotation is not parameter.empty, f"{target} does not say what {name} is"
            assert mismatch(print, parameter.annotation), f"{target} takes anything as {name}"
            if not mismatch("os.system", parameter.annotation):
                free.add(f"{group}.{name}")
    assert free == set(TEXTS)
