"""Files that no one in their right mind writes: each gives a message with file and key, and nothing is run or created."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from orchestrator.base.errors import ConfigError, OrchestratorError
from orchestrator.base.rights import Rights
from orchestrator.cli import main
from orchestrator.config.planning import plan


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's, without a settings file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path / "no-settings.yaml"))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


NESTED = "[" * 40 + "]" * 40


@pytest.mark.parametrize(
    ("name", "text", "given", "told"),
    [
        ("model/odd", "_target_: 3\n", "model=odd", r"model\._target_=3: must be the dotted name .*odd\.yaml:1"),
        ("model/odd", "_target_: [a]\n", "model=odd", r"model\._target_=\['a'\]: must be the dotted name"),
        ("model/odd", "_target_: models.mlp.mlp\nsearch: text\n", "model=odd", r"search=text: must be a mapping.*odd\.yaml:2"),
        ("model/odd", "_target_: models.mlp.mlp\nsearch: {width: [1]}\n", "model=odd", r"search\.width=\[1\]: must be a sweep"),
        ("search/odd", "when: {3: {a: 1}}\n", "search=odd", r"odd\.yaml:1:8: has the key 3, which is no text; quote it"),
        ("search/odd", "when: 3\n", "search=odd", "when=3: must be a mapping"),
        ("search/odd", "fixed: [1]\n", "search=odd", r"search\.fixed=\[1\]: must be a mapping"),
        ("search/odd", "when: {x: {a: 1}}\n", "search=odd", "has no value; write x=VALUE"),
        ("model/odd", "_target_: models.mlp.mlp\nwidth: !!int abc\n", "model=odd", r"odd\.yaml:2:8: .*abc is no int"),
        ("model/odd", f"width: {'9' * 5000}\n", "model=odd", r"odd\.yaml:1:8: .*\(5,000 characters\) is no int"),
        ("model/odd", f"_target_: models.mlp.mlp\nwidth: {'9' * 300}\n", "model=odd", r"width: holds an integer beyond"),
        ("model/odd", f"_target_: models.mlp.mlp\nwidth: {NESTED}\n", "model=odd", "is nested more than 16 deep"),
        ("model/odd", "defaults: 3\n", "model=odd", "model/odd.*, defaults must be a list"),
        ("experiment/odd", "# @package _global_\ndefaults: 3\n", "experiment=odd", "odd"),
        ("experiment/odd", "# @package _global_\nmodel: mlp\n", "experiment=odd", "model=mlp: a choice is written in"),
        ("experiment/odd", "# @package _global_\nmodel: {_target_: 3}\n", "experiment=odd", r"model\._target_"),
        ("experiment/odd", "# @package _global_\nmodel: {_target_: os.system}\n", "experiment=odd", "os.system: is not allowed"),
        ("experiment/odd", "# @package _global_\nmodel: {width: {_target_: os.system}}\n", "experiment=odd", "is not built"),
        ("experiment/odd", "# @package _global_\nseed: {a: 1}\n", "experiment=odd", "seed=.*must be an integer"),
        ("experiment/odd", "# @package _global_\nspace: text\n", "experiment=odd", "space=text: must be a mapping"),
        ("experiment/odd", "# @package _global_\nallowed_targets: [os]\n", "experiment=odd", "must come from the command line"),
        ("experiment/odd", "# @package _global_\nimport_paths: [/x]\n", "experiment=odd", "must come from the command line"),
        ("sampler/odd", "_target_: torch.nn.ReLU\n", "sampler=odd", "torch.nn.ReLU gives a ReLU without problems"),
        ("cluster/odd", "_target_: torch.nn.ReLU\n", "cluster=odd", "torch.nn.ReLU gives a ReLU without kind"),
        ("optimizer/odd", "_target_: torch.nn.ReLU\n", "optimizer=odd search=none", "must give a torch.optim.Optimizer"),
        ("model/odd", "_target_: torch.optim.lr_scheduler.StepLR\n", "model=odd search=none", r"write model\.optimizer=VALUE"),
        ("data/odd", "_target_: torch.nn.ReLU\n", "data=odd", "must return a Dataset or a Source, gave ReLU"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_told_by_its_place(name: str, text: str, given: str, told: str, here: Path) -> None:
    write(here / "conf" / f"{name}.yaml", text)
    with pytest.raises(ConfigError, match=told):
        plan(given.split(), config_dir=here / "conf")
    assert [path.name for path in here.iterdir()] == ["conf"], "nothing is created"


@pytest.mark.parametrize(
    "defaults", ["3", "[3]", "text", "{a: b}", "[{model: [1]}]", "[{model: {a: b}}]", "[nowhere]", "null"]
)
def test_a_root_file_with_an_odd_defaults_list_is_refused(defaults: str, here: Path) -> None:
    write(here / "conf" / "odd.yaml", f"defaults: {defaults}\n")
    with pytest.raises(OrchestratorError, match=r"\S"):
        plan([], config_dir=here / "conf", config_name="odd")


def test_a_file_that_hydra_alone_reads_is_refused_too(here: Path) -> None:
    """A defaults list may name files of a user's that are no group's."""
    write(here / "conf" / "extra" / "x.yaml", "a: !!int abc\n")
    write(here / "conf" / "mine.yaml", "defaults: [launch, extra: x, _self_]\n")
    with pytest.raises(ConfigError, match=r"extra/x\.yaml:1:4: is not YAML"):
        plan([], config_dir=here / "conf", config_name="mine")


BROKEN = "model:\n\twidth: 3\n"
SMALL = ["--config-dir", "conf", "data=synthetic", "search=none"]


def test_a_broken_file_stops_only_those_who_ask_for_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "conf" / "experiment" / "torn.yaml", BROKEN)
    write(here / "conf" / "model" / "odd.yaml", "_target_: models.mlp.mlp\nwidth: ${\n")
    write(here / "conf" / "experiment" / "fine.yaml", "# @package _global_\n# a fine one\nepochs: 7\n")
    assert main(["launch", *SMALL, "experiment=fine", "--plan"]) == 0
    shown = capsys.readouterr().out
    assert "torn.yaml:2:1: is not YAML: " in shown
    assert shown.count("the file is left out") == 2
    for given, told in (
        ("experiment=torn", r"torn\.yaml:2:1: is not YAML"),
        ("model=odd", r"width=\$\{: holds a \$\{"),
    ):
        assert main(["launch", *SMALL, given, "--plan"]) == 2
        assert re.search(told, capsys.readouterr().err)
    assert main(["launch", *SMALL, "model=mlp,odd", "--plan"]) == 2
    assert "holds a ${" in capsys.readouterr().err
    assert main(["list", "experiment", "--config-dir", "conf"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed if "broken: " in line] == ["torn"]
    assert any(line.split() == ["fine", "a", "fine", "one"] for line in listed)


@pytest.mark.parametrize(
    "defaults",
    ["override /model: odd", "override model@_global_.model: odd.yaml", "override /model: ${oc.env:HOME}", "/extra/x"],
)
def test_a_broken_file_that_a_defaults_list_asks_for_is_never_composed(defaults: str, here: Path) -> None:
    """Directly, by an interpolation, or by a file between; a file that is merely there does not matter."""
    write(here / "conf" / "model" / "odd.yaml", BROKEN)
    write(here / "conf" / "extra" / "x.yaml", "# @package _global_\ndefaults: [override /model: odd]\n")
    write(here / "conf" / "experiment" / "asks.yaml", f"# @package _global_\ndefaults:\n  - {defaults}\n")
    with pytest.raises(ConfigError, match=r"odd\.yaml:2:1: is not YAML"):
        plan(["experiment=asks", "data=synthetic", "search=none"], config_dir="conf")
    notes = plan(["data=synthetic", "search=none"], config_dir="conf").notes
    assert any("odd.yaml:2:1: is not YAML" in note for note in notes)


OWN = """
from types import SimpleNamespace
import torch
from torch import nn

class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what, self.layer = what, nn.Linear(1, 1)
    def forward(self, images):
        return {"none": None, "text": "x", "tuple": (images, images), "shape": images.flatten(1)}[self.what]

def net(*, num_classes: int, in_channels: int, image_size: tuple[int, int], what: str):
    if what == "raises":
        raise TypeError("not today\\nnor tomorrow")
    if what == "forward raises":
        return nn.Bilinear(1, 2, 3)
    if what.startswith("is "):
        return {"is none": None, "is text": "x", "is tuple": (1, 2)}[what]
    return Gives(what)
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raises", r"model=own: raises TypeError: not today \(.*own_odd_net\.py:\d+\)"),
        ("forward raises", r"does not take images of 1x8x8"),
        ("is none", "must give a torch.nn.Module, gave NoneType"), ("is text", "must give a torch.nn.Module, gave str"),
        ("is tuple", "must give a torch.nn.Module, gave tuple"), ("none", r"must give logits of shape .*, gave NoneType"),
        ("text", "gave str"), ("tuple", "gave tuple"), ("shape", r"gave \(2, 64\)"),
    ],
)  # fmt: skip
def test_a_model_of_the_users_that_is_none_is_told(what: str, told: str, here: Path) -> None:
    write(here / "conf" / "own_odd_net.py", OWN)
    write(here / "conf" / "model" / "own.yaml", "_target_: own_odd_net.net\nwhat: ''\n")
    own = ["model=own", f"model.what='{what}'", "allowed_targets=[own_odd_net]", "search=none"]
    with pytest.raises(ConfigError, match=told):
        plan(own, config_dir=here / "conf")


def test_a_plan_of_data_that_are_not_here_creates_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data in ("cifar10", "mnist", "svhn"):
        assert (
            main(["launch", "--plan", f"data={data}", "data.root=nowhere/else", "model=resnet_cifar", "search=none"])
            == 0
        )
        assert f"data={data} is not here, or not decoded: a launch brings it" in capsys.readouterr().out
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("key", ["allowed_targets", "import_paths", "+allowed_targets"])
def test_overrides_of_a_record_give_no_rights(key: str, here: Path) -> None:
    write(here / "conf" / "own_odd_net.py", OWN)
    write(here / "conf" / "model" / "own.yaml", "_target_: own_odd_net.net\nwhat: none\n")
    with pytest.raises(ConfigError, match="stands in a record, which gives no rights") as caught:
        plan(["model=own", f"{key}=[own_odd_net]"], config_dir=here / "conf", rights=Rights())
    assert "own_odd_net.net: is not allowed" in str(caught.value)


def test_a_configuration_that_is_a_fifo_is_never_waited_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("model/odd.yaml", "mine.yaml"):
        (here / "conf" / place).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(here / "conf" / place)
    with pytest.raises(ConfigError, match=r"odd\.yaml: is not a file"):
        plan(["model=odd"], config_dir=here / "conf")
    (here / "conf" / "model" / "odd.yaml").unlink()
    with pytest.raises(ConfigError, match=r"mine\.yaml: is not a file"):
        plan([], config_dir=here / "conf", config_name="mine")
    os.mkfifo(here / "conf" / "model" / "odd.yaml")
    assert main(["list", "model", "--config-dir", "conf"]) == 0
    assert "odd" not in capsys.readouterr().out
