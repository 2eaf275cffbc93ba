"""A sweep of a user's own model: whoever reads its records has to be allowed anew; a forged record runs nothing."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

import orchestrator
from orchestrator.base.errors import ConfigError
from orchestrator.cli import main
from tests.test_golden import rewrite

OWN_MODEL = """
from torch import nn

def net(*, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size[0] * image_size[1], num_classes))
"""

EVIL = """
from pathlib import Path
Path("marker").write_text("imported")
def net(**_): ...
"""

ALLOWED = "allowed_targets=[own_net_of_rights]"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A folder with a sweep of one trial, whose model lies in `mine`."""
    folder = tmp_path_factory.mktemp("rights")
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "own_net_of_rights.py").write_text(OWN_MODEL)
    (folder / "mine" / "model" / "own.yaml").write_text("_target_: own_net_of_rights.net\n")
    keys = [
        "name=own",
        "data=synthetic",
        "epochs=1",
        "optimizer.lr=0.1",
        "tracking=none",
        "norm=default",
        "max_concurrent=1",
        "diagnostics=true",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ORCHESTRATOR_SETTINGS", str(folder / "no-settings.yaml"))
        assert main(["launch", "--config-dir", "mine", "model=own", ALLOWED, *keys]) == 0
    (folder / "runs").rename(folder / "kept")
    return folder


@pytest.fixture
def runs(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sweep, in whose folder the user stands; nothing of it is imported any more."""
    shutil.copytree(swept / "kept", tmp_path / "runs")  # as moved: nothing lies where it was made
    shutil.copytree(swept / "mine", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path / "no-settings.yaml"))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if str(swept) not in path])
    monkeypatch.delitem(sys.modules, "own_net_of_rights", raising=False)
    return tmp_path / "runs"


def journal(runs: Path) -> Path:
    (found,) = runs.glob("*/journal.sqlite")
    return found


@pytest.mark.parametrize(
    "command", [["resume", "own", "--more", "1"], ["train", "from=own/0"]], ids=["resume", "train"]
)
def test_a_command_needs_the_rights_on_its_own_line(
    runs: Path, command: list[str], capsys: pytest.CaptureFixture[str], swept: Path
) -> None:
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "allowed_targets=[own_net_of_rights.net] import_paths=[" in told
    assert f"{swept}/mine" in told
    assert "own_net_of_rights" not in sys.modules
    assert main([*command, ALLOWED, "import_paths=[mine]"]) == 0
    assert (runs.parent / "mine").samefile(Path(sys.modules["own_net_of_rights"].__file__ or "").parent)
    if command[0] == "train":
        assert "equal to the recorded trial: yes" in capsys.readouterr().out


def test_commands_that_are_shown_can_be_pasted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep of the user's own model: each printed command has the rights without which it would be refused."""
    assert main(["show", "own/0"]) == 0
    shown = capsys.readouterr().out.splitlines()
    (again,) = [line for line in shown if "orchestrator train from=" in line]
    (inside,) = [line for line in shown if "orchestrator diagnose from=" in line]
    assert main(shlex.split(inside[inside.index("orchestrator") :])[1:]) == 0, capsys.readouterr()
    assert main(["resume", "own", ALLOWED, "import_paths=[mine]"]) == 0
    (more,) = [line for line in capsys.readouterr().out.splitlines() if "orchestrator resume" in line]
    for line in (again, inside, more):
        words = shlex.split(line[line.index("orchestrator") :].partition("    adds")[0])
        assert "allowed_targets=[own_net_of_rights.net]" in words
        assert any(word.startswith("import_paths=[") for word in words)


def test_a_folder_under_the_name_of_a_module_is_told_as_one(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The user stands beside `own_net_of_rights/`, a folder, in which a module of that name lies: Python takes the folder."""
    (tmp_path / "own_net_of_rights").mkdir()
    assert main(["train", "from=own/0", ALLOWED]) == 2
    told = capsys.readouterr().err
    assert f"own_net_of_rights is the folder {tmp_path / 'own_net_of_rights'}, no module" in told
    assert "import_paths=[FOLDER] names the folder in which the module lies" in told


def test_modules_of_the_current_folder_need_no_import_paths(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent / "mine")
    assert main(["resume", "own", "--runs-dir", "../runs", "--more", "1", ALLOWED]) == 0
    assert main(["resume", "own", "--runs-dir", "../runs", "--more", "1"]) == 2, "a resume gives the next one no rights"


def test_load_model_needs_them_as_arguments(runs: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"add  allowed_targets=\['own_net_of_rights.net'\], import_paths=\[.*\] to load_model"
    ):
        orchestrator.load_model("own/0")
    model = orchestrator.load_model("own/0", allowed_targets=["own_net_of_rights"], import_paths=["mine"]).network
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 4)
    with pytest.raises(ConfigError, match="a record gives no rights"):
        orchestrator.load_model("own/0")


def test_the_settings_file_is_enough(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = runs.parent / "settings.yaml"
    settings.write_text("allowed_targets: [own_net_of_rights]\nimport_paths: [mine]\n")
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(settings))
    assert main(["resume", "own", "--more", "1"]) == 0
    orchestrator.load_model("own/0")


@pytest.mark.parametrize("target", ["own_evil_of_rights.net", "os.system", "torch.save", "orchestrator.cli.main"])
def test_a_forged_journal_runs_nothing(
    runs: Path, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs.parent / "mine" / "own_evil_of_rights.py").write_text(EVIL)

    def forge(text: str) -> str:
        """The journal names another model and sampler, and allows itself everything."""
        text = text.replace("own_net_of_rights.net", target)
        text = text.replace("orchestrator.scheduling.samplers.random.Random", target)
        return text.replace("[own_net_of_rights]", f"[{target}]").replace('"own_net_of_rights"', json.dumps(target))

    rewrite(journal(runs), forge)
    capsys.readouterr()
    for command in (["resume", "own", "--more", "1"], ["train", "from=own/0"]):
        assert main(command) == 2
        assert "traceback" not in capsys.readouterr().err.lower()
    with pytest.raises(ConfigError, match=r"gives no rights|is not allowed"):
        orchestrator.load_model("own/0")
    for command in (["verify", "own"], ["status", "own"], ["show", "own/0"]):
        assert main(command) in (0, 3, 7)
    assert "own_evil_of_rights" not in sys.modules
    assert not Path("marker").exists()
