"""Tab completion: what can follow, and that bash, zsh and fish put it on the line as a person would have typed it."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import models
from orchestrator.base.groups import GROUPS, PARTS, SEARCHES
from orchestrator.base.layout import CONF
from orchestrator.base.settings import ROOT_KEYS
from orchestrator.cli import COMMANDS, main
from orchestrator.cli.completing import FOLDERS, SHELLS, candidates
from orchestrator.config.files import open_catalogue

PROGRAM = Path(sys.executable).parent / "orchestrator"
DEADLINE_S = 30.0


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two sweeps, of which the second is newer, and what is none."""
    for age, name in enumerate(["first-00000001", "my.sweep-0000000a"]):
        for index in (0, 1, 12):
            (tmp_path / "runs" / name / "trials" / f"{index:05d}").mkdir(parents=True)
        (tmp_path / "runs" / name / "journal.sqlite").touch()
        os.utime(tmp_path / "runs" / name, (1_000 + age, 1_000 + age))
    (tmp_path / "runs" / "empty-00000003").mkdir()
    (tmp_path / "runs" / "artifacts").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_the_first_word_is_a_command() -> None:
    assert candidates(["la"]) == ["launch"]
    public = [name for name in COMMANDS if not name.startswith("_")]
    assert candidates([""]) == [*public, "--help", "--version"]


def test_keys_are_root_keys_and_groups() -> None:
    keys = candidates(["launch", ""])
    groups = [f"{group}=" for group in (*GROUPS, *PARTS, *SEARCHES)]
    assert set(keys) == {"from=", *(f"{key}=" for key in ROOT_KEYS), *groups}
    assert candidates(["launch", "optimizer"]) == ["optimizer=", "optimizer."]


@pytest.mark.parametrize("group", [*GROUPS, *PARTS, *SEARCHES])
def test_the_choices_of_a_group_are_its_files(group: str) -> None:
    files = open_catalogue(None).files[group]
    assert candidates(["launch", f"{group}="]) == [f"{group}={name}" for name in sorted(files)]


@pytest.mark.parametrize("group", [*GROUPS, *PARTS])
def test_the_keys_of_each_choice_are_those_of_its_file(group: str) -> None:
    """The beginnings of lines say what reading YAML says."""
    catalogue = open_catalogue(None)
    for choice, path in catalogue.files[group].items():
        keys = catalogue.choice(group, choice)[0].keys() - {"_target_"}
        required = re.findall(r"^(\w+): *\?\?\?", path.read_text(), re.MULTILINE)
        found = candidates(["launch", f"{group}={choice}", f"{group}."])
        assert found == sorted(f"{group}.{key}=" for key in {*keys, *required})


def test_diagnose_takes_overrides_and_trials(runs: Path) -> None:
    assert "from=" in candidates(["diagnose", ""])
    assert candidates(["diagnose", "fr"]) == ["from="]
    assert candidates(["diagnose", "les"]) == ["lesion"]
    assert candidates(["diagnose", "pa"]) == ["paths"]
    assert candidates(["diagnose", "tra"]) == ["trajectories", "tracking=", "transfer="]
    assert candidates(["diagnose", "lesion", "fi"]) == ["first-00000001/"]
    assert candidates(["diagnose", "lesion", "first/0", "first/12"]) == ["first/12"]
    assert "--samples" in candidates(["diagnose", "paths", "--"])
    assert candidates(["diagnose", "from=first/1"]) == ["from=first/1", "from=first/12"]


def test_compare_takes_sweeps_methods_and_temperatures(runs: Path) -> None:
    assert candidates(["compare", ""]) == ["my.sweep-0000000a", "first-00000001"]
    assert candidates(["compare", "first", "m"]) == ["my.sweep-0000000a"]
    methods = sorted(path.stem for path in (CONF / "ensemble").glob("*.yaml"))
    assert candidates(["compare", "first", "--methods", ""]) == methods
    assert candidates(["compare", "first", "--methods", "mean,greedy_"]) == [
        "mean,greedy_50",
        "mean,greedy_bagged",
        "mean,greedy_soup",
    ]
    assert candidates(["compare", "first", "--temperature", "b"]) == ["before"]
    assert {"--filter", "--budget", "--macs", "--latency", "--json", "--uri"} <= set(candidates(["compare", "--"]))


def test_keys_of_a_group_follow_the_choices_that_are_typed() -> None:
    assert "optimizer.momentum=" in candidates(["launch", "optimizer."])  # sgd, as a launch has it
    assert "optimizer.betas=" in candidates(["launch", "optimizer=adam", "optimizer.b"])
    both = candidates(["launch", "optimizer=adam,sgd", "optimizer."])
    assert {"optimizer.betas=", "optimizer.momentum="} <= set(both)


def test_behind_a_comma_comes_another_choice() -> None:
    assert candidates(["launch", "norm=batch,l"]) == ["norm=batch,layer", "norm=batch,local_response"]
    assert "norm=batch,batch" not in candidates(["launch", "norm=batch,"])


def test_values_where_they_are_few() -> None:
    assert candidates(["launch", "optimizer.nesterov="]) == ["optimizer.nesterov=false", "optimizer.nesterov=true"]
    assert candidates(["launch", "metric=val/a"]) == ["metric=val/accuracy"]
    assert candidates(["launch", "optimizer.lr="]) == []
    assert candidates(["launch", "precision="]) == [f"precision={name}" for name in ("auto", "bf16", "fp32", "tf32")]
    assert candidates(["launch", "mode="]) == ["mode=max", "mode=min"]
    assert candidates(["launch", "device=c"]) == ["device=cpu", "device=cuda"]
    assert candidates(["launch", "epochs="]) == []


def test_sweeps_and_trials(runs: Path) -> None:
    assert candidates(["resume", ""]) == ["my.sweep-0000000a", "first-00000001"]
    assert candidates(["show", "f"]) == ["first-00000001/"]
    assert candidates(["show", "first-00000001/"]) == [f"first-00000001/{index}" for index in (0, 1, 12)]
    assert candidates(["show", "my.sweep/1"]) == ["my.sweep/1", "my.sweep/12"]
    assert candidates(["train", "from=my"]) == ["from=my.sweep-0000000a/"]
    assert candidates(["train", "from=first/1"]) == ["from=first/1", "from=first/12"]
    assert candidates(["status", "--runs-dir", str(runs), "fi"]) == ["first-00000001"]
    assert candidates(["status", f"--runs-dir={runs.parent}", ""]) == []


def test_a_resume_takes_a_sweep_and_then_keys(runs: Path) -> None:
    assert candidates(["resume", "first", "schedu"]) == ["schedule=", "scheduler="]
    assert candidates(["resume", "--more", "5", "f"]) == ["first-00000001"]


def test_groups_and_choices_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("_target_: mine.tiny\nwidth: 32\n")
    own = ["launch", "--config-dir", str(tmp_path)]
    assert candidates([*own, "model=tin"]) == ["model=tiny"]
    assert candidates([*own, "model=tiny", "model."]) == ["model.width="]


EVIL = ["$(touch pwned)", "`touch pwned`", "a;touch pwned", "a b", "a'b", 'a"b', "a\\b", "a|b", "a&b", "a*", "{a,b}", "~", "!!",
        "#a", "a\nb", "a\tb", "a\x1b[31m", "a<b", "a\udcff"]  # fmt: skip


@pytest.mark.parametrize("name", EVIL, ids=ascii)
def test_what_a_shell_would_not_take_as_it_is_is_not_offered(name: str, runs: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for path in (own / "model" / f"{name}.yaml", own / name / "a.yaml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("_target_: mine.tiny\n")
    (runs / f"{name}-0000000b").mkdir()
    (runs / f"{name}-0000000b" / "journal.sqlite").touch()
    (own / "model" / "größe-1.5.yaml").touch()
    given = ["--config-dir", str(own)]
    for words, kept in [
        (["launch", *given, "model="], "model=größe-1.5"),
        (["launch", *given, "model=mlp,"], "model=mlp,größe-1.5"),
        (["launch", *given, ""], "model="),
        (["list", *given, ""], "model"),
        (["list", *given, "model", ""], "größe-1.5"),
        (["launch", *given, f"{name}="], None),
        (["show", ""], "first-00000001/"),
        (["train", f"from={name}"], None),
        (["status", ""], "first-00000001"),
    ]:
        found = candidates(words)
        assert kept is None or kept in found
        assert not [word for word in found if re.search(r"[^\w\-.,/:=+@%]", word)]


def test_list_takes_a_group_and_a_choice() -> None:
    assert candidates(["list", "opt"]) == ["optimizer"]
    assert candidates(["list", "model", "wrn_6"]) == ["wrn_68_3"]
    assert candidates(["list", "model", "mlp", "model.w"]) == ["model.width="]
    assert [*candidates(["list", "model", ""])] == sorted(models.names())


def test_folders_are_left_to_the_shell() -> None:
    assert candidates(["launch", "--config-dir", ""]) == [FOLDERS]
    assert candidates(["adopt", ""]) == [FOLDERS]


@pytest.mark.parametrize("command", [name for name in COMMANDS if not name.startswith("_")])
def test_options_are_those_of_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    usage = capsys.readouterr().out.partition("\n\n")[0]
    found = candidates([command, "--"])
    assert {*re.findall(r"--[a-z-]+", usage), "--help"} == set(found)


@pytest.mark.parametrize(
    "words",
    [[], [""], ["nonsense", ""], ["launch", "a=b=c"], ["launch", "\x1b["], ["show", "../"], ["list", "/etc", ""]],
)
def test_what_makes_no_sense_completes_to_nothing_and_is_no_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["_complete", *words]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    assert (out.out == "") == (words not in ([], [""]))


def test_nothing_heavy_is_imported() -> None:
    """A person waits for every key stroke: YAML and argparse alone would take half of its time."""
    code = (
        "import sys; from orchestrator.cli import main; main(['_complete', 'launch', 'optimizer=adam', 'optimizer.'])\n"
        "print([name for name in ('yaml', 'argparse', 'torch', 'numpy', 'hydra', 'rich') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[-1] == "[]"
    assert "optimizer.betas=" in out


def test_an_unknown_shell_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsah"]) == 2
    assert "did you mean bash?" in capsys.readouterr().err


# the shells


START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
READ = {
    "bash": 'eval "$(orchestrator completion bash)"',
    "zsh": 'eval "$(orchestrator completion zsh)"',
    "fish": "set -g fish_autosuggestion_enabled 0; orchestrator completion fish | source",
}


class Shell:
    """An interactive shell on a terminal of its own, typed at."""

    def __init__(self, name: str, home: Path) -> None:
        path = f"{PROGRAM.parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8", "PS1": "$ "}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child
            os.execvpe(name, START[name], environment)
        self.said = ""
        self.type(f"{READ[name]}; echo re''ady\n")
        self.wait_for("\nready")

    def type(self, text: str) -> None:
        self.said = ""
        os.write(self.terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Reads until the terminal shows a text; fails after half a minute."""
        end = time.monotonic() + DEADLINE_S
        while text not in self.said:
            assert time.monotonic() < end, f"waited for {text!r}, got {self.said!r}"
            if select.select([self.terminal], [], [], 1.0)[0]:
                raw = os.read(self.terminal, 65536).decode(errors="replace")
                self.said += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\(B|\x1b\][^\x07]*\x07|\x08|\r", "", raw)

    def close(self) -> None:
        os.close(self.terminal)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SHELLS))
def test_a_shell_completes_what_is_typed(name: str, runs: Path, tmp_path: Path) -> None:
    """Typed at a real shell on a terminal; printf, set before the line, then prints each word that the shell had."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "zz$(touch pwned).yaml").touch()
    (tmp_path / "odd$(touch pwned)").mkdir()
    (tmp_path / "pic$(touch pwned).png").touch()
    shell = Shell(name, tmp_path)
    try:
        for typed, words in [
            ("orchestrator lau\t", ["launch"]),
            ("orchestrator launch model=wrn_6\t", ["launch", "model=wrn_68_3"]),
            ("orchestrator launch norm=batch,gr\t", ["norm=batch,group"]),
            ("orchestrator launch optimizer=adam optimizer.bet\t0.9", ["optimizer=adam", "optimizer.betas=0.9"]),
            ("orchestrator launch metric=val/t\t", ["metric=val/top5_accuracy"]),
            ("orchestrator show fir\t1", ["first-00000001/1"]),
            ("orchestrator train from=my.sweep/12\t", ["train", "from=my.sweep/12"]),
            ("orchestrator list --config-dir mine model zz\t", ["model", "zz"]),
            ("orchestrator adopt odd\tx", ["odd$(touch pwned)/x"]),
            ("orchestrator predict first-00000001 pic\t", ["first-00000001", "pic$(touch pwned).png"]),
        ]:
            shell.type(f"{typed}\x01printf '<%s>\\n' \x05\n")
            for word in words:
                shell.wait_for(f"\n<{word}>\n")
        assert not (tmp_path / "pwned").exists()
    finally:
        shell.close()


def bash_reply(line: str, words: list[str], breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """What bash's function replies for a line, which bash has split as `words`."""
    listed = " ".join(f"'{word}'" for word in words)
    script = (
        f"source {CONF.parent}/orchestrator/cli/completion/bash.sh\n"
        f"COMP_WORDBREAKS=$'{breaks.encode('unicode_escape').decode()}'".replace("'><", "\\'><")
        + f"\nCOMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}\n"
        "compopt() { :; }; _orchestrator; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_bash_is_told_what_stands_behind_the_equals_sign() -> None:
    """It takes that for a word of its own; where its user has taken = out of the word breaks, the whole word."""
    words = ["orchestrator", "launch", "model", "=", "wrn_6"]
    assert bash_reply("orchestrator launch model=wrn_6", words) == ["wrn_68_3"]
    whole = bash_reply("orchestrator launch model=wrn_6", ["orchestrator", "launch", "model=wrn_6"], breaks=" \t\n")
    assert whole == ["model=wrn_68_3"]


def test_bash_finds_the_program_behind_other_words() -> None:
    line = "TRACE=1 orchestrator lau"
    assert bash_reply(line, ["orchestrator", "lau"]) == ["launch"]
