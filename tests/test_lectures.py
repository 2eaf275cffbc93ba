"""The table of the lectures: every command in it is one, its choices are there, and what it would launch composes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from orchestrator.base.layout import CONF
from orchestrator.cli import COMMANDS, main
from orchestrator.cli.completing import candidates
from orchestrator.config.catalogue import file_of
from orchestrator.config.planning import compose_job, plan

DOCS = Path(__file__).resolve().parent.parent / "docs"
ROWS = [line for line in (DOCS / "lectures.md").read_text().splitlines() if re.match(r"\| (?!what|---)", line)]
COMPOSED = ("launch", "diagnose")
STUDIES = ("lesion", "paths", "trajectories")
ANYTHING = {
    tuple(shlex.split(text)[1:])
    for row in ROWS
    for text in re.findall(r"`(orchestrator [^`]+)`", row)
    if "not yet:" not in row
}
PLANNED = sorted(
    words
    for words in ANYTHING
    if words[0] == "launch"
    and not any(re.search("SWEEP|^experiment=|^data[.]root=|^data=(?!synthetic)", w) for w in words)
)
"""Those that need nothing that is not here; the experiments are planned with the catalogue."""


def test_every_row_has_a_lecture_a_command_and_what_is_to_be_seen() -> None:
    assert len(ROWS) > 140
    for row in ROWS:
        what, lecture, command, seen = (cell.strip() for cell in row.strip("|").split(" | "))
        assert what
        assert seen
        assert re.match(r"00[0134]|same", lecture), row
        assert re.fullmatch(r"(not yet: )?`orchestrator \w[^`]*`", command), row


@pytest.mark.parametrize("words", sorted(one for one in ANYTHING if one[0] not in COMPOSED), ids=" ".join)
def test_commands_and_their_options_and_choices_are_there(words: tuple[str, ...]) -> None:
    command, *rest = words
    assert command in COMMANDS
    for option in (word for word in rest if word.startswith("--")):
        assert option in candidates([command, option])
    if command == "list":
        group, *choice = [word for word in rest if not word.startswith("--") and "=" not in word]
        assert (CONF / group).is_dir()
        if choice:
            assert file_of(group, choice[0])
    if "--methods" in rest:
        for method in rest[rest.index("--methods") + 1].split(","):
            assert file_of("ensemble", method)


@pytest.mark.parametrize("words", sorted(one for one in ANYTHING if one[0] in COMPOSED), ids=" ".join)
def test_what_would_be_launched_or_diagnosed_composes(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *overrides = words
    if command == "diagnose" and overrides[0] in STUDIES:
        assert main([command, overrides[0], "--help"]) == 0
    else:
        assert "epochs:" in compose_job([*overrides, "search=none"] if command == "diagnose" else overrides)


@pytest.mark.parametrize(
    "words",
    [pytest.param(one, marks=pytest.mark.slow) if "search=all" in one else one for one in PLANNED],
    ids=" ".join,
)
def test_what_would_be_launched_plans(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part built, and every combination that some network refuses refused."""
    monkeypatch.chdir(tmp_path)
    made = plan(words[1:], fetch=False)
    assert made.root.trials > 0


def test_rows_without_an_experiment_are_planned() -> None:
    assert len(PLANNED) > 12
