"""Rights come from the command line and the user's settings file; what a record allows itself counts for nothing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import ConfigError
from orchestrator.base.rights import Rights
from orchestrator.config.grammar import parse, plain
from orchestrator.config.rights import check_recorded, read_user_rights, retyped, spelled, typed_rights


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's settings file would be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path / "home" / "settings.yaml"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "settings.yaml"


def test_overrides_of_rights_are_taken_out_and_folders_made_absolute(tmp_path: Path) -> None:
    rights, others = typed_rights(["epochs=3", "allowed_targets=[a.Net,b]", "import_paths=[mine,/x]", "model=own"])
    assert rights == Rights(("a.Net", "b"), (str(tmp_path / "mine"), "/x"))
    assert others == ["epochs=3", "model=own"]


def test_modules_are_looked_for_in_the_current_folder_where_none_is_named(tmp_path: Path) -> None:
    assert typed_rights(["allowed_targets=a"])[0] == Rights(("a",), (str(tmp_path),))
    assert typed_rights(["epochs=3"])[0] == Rights()


def test_the_settings_file_adds_rights(settings: Path) -> None:
    settings.write_text("allowed_targets: [a]\nimport_paths: [code, /x]\n")
    expected = Rights(("a",), (str(settings.parent / "code"), "/x"))
    assert read_user_rights() == expected
    assert typed_rights(["allowed_targets=[b]"])[0] == Rights(("b", "a"), expected.import_paths)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("allowed_targets: 3", "allowed_targets=3: must be a list of texts"), ("import_paths: {a: b}", "must be a list of texts"),
        ("allowed_target: [a]", "did you mean allowed_targets"), ("- a", "must hold a mapping"),
        ("allowed_targets: [[a]]", "must be a list of texts"),
        ('import_paths: ["a\\0b"]', "import_paths.*holds a character that no name has"),
        ('allowed_targets: ["a\\e[2J"]', "allowed_targets.*holds a character that no name has"),
    ],
)  # fmt: skip
def test_a_settings_file_of_another_form_is_refused_by_name(settings: Path, text: str, why: str) -> None:
    settings.write_text(text)
    with pytest.raises(ConfigError, match=why) as caught:
        read_user_rights()
    assert "\0" not in str(caught.value)
    assert str(settings) in str(caught.value)


@pytest.mark.parametrize("typed", ["allowed_targets=3", "allowed_targets=a,b", "import_paths=[[a]]"])
def test_rights_of_another_form_are_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match="must be a list of texts"):
        typed_rights([typed])


def test_rights_are_spelled_so_that_they_are_read_back() -> None:
    rights = Rights(("a.Net", "b_c"), ("/x/y", "/été/with space", "/it's,[odd]\\"))
    read = [plain(parse(text).value()) for text in spelled(rights)]
    assert read == [list(rights.targets), list(rights.import_paths)]
    assert spelled(Rights()) == []


def recorded(target: str, **more: Any) -> dict[str, Any]:
    """A plan that allows itself what it names."""
    base = {"model": {"_target_": target}, "import_paths": ["/x/mine"], "allowed_targets": [target.split(".")[0]]}
    return {"base": base | more, "settings": {"allowed_targets": ["my_nets", "os"]}, "choices": {}}


def test_a_record_that_needs_more_says_what_to_pass() -> None:
    with pytest.raises(ConfigError, match="a record gives no rights") as caught:
        check_recorded("sweep a-0", recorded("my_nets.Net"), Rights())
    assert "add  allowed_targets=[my_nets.Net] import_paths=[/x/mine]" in str(caught.value)
    assert "a record gives no rights" in str(caught.value)
    for target in ("my_nets", "my_nets.Net"):
        check_recorded("sweep a-0", recorded("my_nets.Net"), Rights((target,)))
    check_recorded("sweep a-0", recorded("torch.nn.Linear"), Rights())
    check_recorded("sweep a-0", recorded("orchestrator.settings.LocalTracking"), Rights())


def test_targets_of_choices_and_parts_are_seen() -> None:
    plan = recorded("models.mlp.mlp") | {"choices": {"model": {"own": {"_target_": "my_nets.Net"}}}}
    with pytest.raises(ConfigError, match=r"uses my_nets\.Net,"):
        check_recorded("sweep a-0", plan, Rights())
    with pytest.raises(ConfigError, match=r"uses own\.Sampler,"):
        check_recorded("sweep a-0", recorded("models.mlp.mlp") | {"sampler": {"_target_": "own.Sampler"}}, Rights())


def test_what_nobody_can_allow_is_refused_without_advice() -> None:
    with pytest.raises(ConfigError, match=r"_target_=orchestrator\.cli\.main: is not allowed") as caught:
        check_recorded("sweep a-0", recorded("orchestrator.cli.main"), Rights(("orchestrator",)))
    assert "add " not in str(caught.value)


def test_a_command_that_goes_on_is_shown_with_the_rights_that_it_needs(settings: Path) -> None:
    rights = Rights(("a", "b"), ("/my code",))
    assert shlex.split(retyped(rights)) == ["allowed_targets=[a,b]", "import_paths=['/my code']"]
    settings.write_text("allowed_targets: [a]\n")
    assert retyped(rights).startswith(" 'allowed_targets=[b]'")
    settings.write_text("allowed_targets: [a, b]\n")
    assert retyped(rights) == retyped(Rights()) == ""
