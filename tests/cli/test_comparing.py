"""`orchestrator compare`: what it prints for people and for programs, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base import errors
from orchestrator.base.layout import LOCK
from orchestrator.base.locks import hold
from orchestrator.cli import main
from orchestrator.cli.compared import next_steps
from orchestrator.ensembles import gathering
from orchestrator.ensembles.gathering import Gathered, LeftOut
from orchestrator.ensembles.record import read
from tests.ensembles.candidates import gathered_of, split
from tests.serving.trained import config, photographs, trained_sweep
from tests.synthetic import Sweep

METHODS = "mean,greedy,top_5"
Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def asked() -> dict[str, Any]:
    """What `gather` was asked for last."""
    return {}


@pytest.fixture
def compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: dict[str, Any]
) -> Compare:
    """Runs the command on simulated members of a real, finished journal; (exit code, stdout, stderr)."""
    runs = tmp_path / "runs"
    sweep = Sweep(runs / "digits-00000001", {"kind": "none"})
    sweep.finish(1)
    sweep.journal.close()

    def run(*words: str, made: Callable[[Gathered], Gathered] = lambda gathered: gathered) -> tuple[int, str, str]:
        pool, test = split(8, 200, 300, architectures=("mlp", "convnet"))
        reasons = [LeftOut("digits-00000001/9", "its predictions are damaged")]
        gathered = made(gathered_of(pool, test, folders=[sweep.folder], left_out=reasons))

        def gather(names: Any, runs_dir: Path, **others: Any) -> Gathered:
            asked.update(names=[*names], runs_dir=runs_dir, **others)
            return gathered

        monkeypatch.setattr(gathering, "gather", gather, raising=False)
        code = main(["compare", "digits", "--runs-dir", str(runs), "--methods", METHODS, *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def records(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs" / "comparisons").glob("*/comparison.json"))


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_fits_and_the_answer_says_all(
    compared: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = compared()
    assert code == errors.EXIT_OK
    lines = out.splitlines()
    (path,) = records(tmp_path)
    found = read(path)
    table = lines[2 : 3 + len(found["rows"])]
    assert max(map(len, table)) <= columns
    assert table[0].split()[:2] == ["method", "members"]
    accuracies = [float(re.findall(r"\d+\.\d\d", line)[0]) for line in table[1:]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == round(100 * found["rows"][0]["test"]["measures"]["accuracy"], 2)
    text = " ".join(out.split())
    (winner,) = (row for row in found["rows"] if row["method"] == found["winner"])
    assert f"wins on validation. It gets {100 * winner['accuracy']['value']:.2f} % of the test right" in text
    assert re.search(r"points (more|fewer) than the best single trial made-00000000/\d \(95 %: ", text)
    assert "times those of that trial." in text
    for whose in ("", "winner_"):
        naive, value = (f"{100 * (found['corrected'][f'{whose}{key}'] or 0):.2f} %" for key in ("naive", "value"))
        assert re.search(rf"of {naive}[^;]*; corrected for that choice it is {value}", text)
    assert {line.split()[0] for line in table[1:]} == {row["method"] for row in found["rows"]}, (
        "as --methods takes them"
    )
    assert "how far seeds spread is not known" in text
    assert "left out: digits-00000001/9 (its predictions are damaged)" in text
    assert "look 1 at the test" in text
    assert str(path) in out
    assert "orchestrator show" not in text, "the sweep of its members is not here"


def test_each_comparison_is_one_look_more_unless_it_is_the_same(compared: Compare) -> None:
    compared()
    code, out, _ = compared("--name", "again")
    assert code == errors.EXIT_OK
    assert "look 1 at the test" in " ".join(out.split())
    _, out, _ = compared("--budget", "2")
    assert "look 2 at the test" in " ".join(out.split())


def test_the_same_comparison_again_is_the_one_that_is_kept(compared: Compare, tmp_path: Path) -> None:
    _, first, _ = compared()
    (path,) = records(tmp_path)
    code, again, _ = compared()
    assert (code, records(tmp_path)) == (0, [path])
    kept, _, rest = again.partition("\n")
    assert kept == f"This comparison was made before, and is kept as {path.parent.name}."
    assert rest == first, "table, page and next steps are those of before"
    (path.parent / "comparison.html").unlink()
    _, out, _ = compared("--json")
    assert json.loads(out) == read(path)
    assert (path.parent / "comparison.html").is_file(), "what was interrupted is made up"
    assert compared("--seed", "2")[0] == compared("--name", "other")[0] == compared("--latency")[0] == 0
    assert len(records(tmp_path)) == 4, "another comparison, another name, and times that are not there yet"
    path.write_text("{")
    assert compared()[0] == 0
    assert len(records(tmp_path)) == 5, "a damaged one is none, and stays"
    shutil.rmtree(path.parent)
    assert compared()[0] == 0
    assert path in records(tmp_path), "one that was cut off before its record keeps the name that the sweeps know"


def test_the_next_steps_are_those_that_the_winner_allows(compared: Compare, tmp_path: Path) -> None:
    _, out, _ = compared()
    (path,) = records(tmp_path)
    assert "next:" not in out, "neither weights nor a sweep are here"
    (tmp_path / "runs" / "made-00000000").mkdir()
    (tmp_path / "runs" / "made-00000000" / "journal.sqlite").touch()
    steps = next_steps(read(path), path.parent, registered=None)[1:]
    where = f"--runs-dir {tmp_path / 'runs'}"
    assert len(steps) == 1, "its members have no weights, so that there is nothing to predict with"
    assert steps[0].split("    ")[0].startswith("  orchestrator show made-00000000/")
    assert where in steps[0]
    assert f"page: {path.parent / 'comparison.html'}" in out.splitlines()
    (path.parent / "model").mkdir()
    assert len(next_steps(read(path), path.parent, registered=None)) == 2, "half a model is none"
    (path.parent / "model" / "MLmodel").touch()
    first, second, _ = next_steps(read(path), path.parent, registered=None)[1:]
    assert first.startswith(f"  orchestrator predict {path.parent.name} {where} IMAGE...")
    assert second.startswith(f"  orchestrator compare digits {where} --methods {METHODS} --register NAME")
    (first, _) = next_steps(read(path), path.parent, registered="my best")[1:]
    assert first.startswith(f"  orchestrator predict 'models:/my best@champion' {where} IMAGE...")


def test_json_is_the_record(compared: Compare, tmp_path: Path) -> None:
    code, out, _ = compared("--json", "--name", "mine", "--seed", "3")
    (path,) = records(tmp_path)
    assert code == errors.EXIT_OK
    assert json.loads(out) == read(path)
    assert path.parent.name.startswith("mine-")
    assert read(path)["settings"]["seed"] == 3


def test_status_lists_comparisons_and_shows_one(
    compared: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs-dir", str(tmp_path / "runs")]
    assert main(["status", *runs]) == 0
    assert "comparison" not in capsys.readouterr().out
    compared("--name", "mine")
    compared("--name", "other", "--seed", "3")
    mine, other = (path.parent for path in records(tmp_path))
    os.utime(mine / "comparison.json", (1_700_000_000, 1_700_000_000))
    assert main(["status", *runs]) == 0
    sweeps, _, listed = capsys.readouterr().out.partition("\n\n")
    assert "digits-00000001" in sweeps
    header, *rows = listed.splitlines()
    assert header.split() == ["comparison", "made", "disk", "page"]
    assert [row.split()[0] for row in rows] == [other.name, mine.name], "the newest first"
    assert rows[1].split()[1] == time.strftime("%Y-%m-%d", time.localtime(1_700_000_000))
    assert rows[1].endswith(str(mine / "comparison.html"))
    (mine / "finishing.json").unlink(missing_ok=True)
    (mine / "comparison.html").unlink()
    for command in ("status", "show"):
        assert main([command, "mine", *runs]) == 0
        told = capsys.readouterr().out
        assert f"comparison  {mine.name}" in told
        assert f"go on       orchestrator sync {mine.name} --runs-dir" in told
    assert main(["status", "digits", *runs]) == 0
    assert "comparison  " not in capsys.readouterr().out


def test_what_was_typed_reaches_its_place(compared: Compare, asked: dict[str, Any], tmp_path: Path) -> None:
    words = ["other", "--filter", "params.x = '1'", "--uri", "http://127.0.0.1:1", "--temperature", "none"]
    code, _, _ = compared(*words, "--budget", "3", "--macs", "7K")
    assert code == errors.EXIT_OK
    assert asked["names"] == ["digits", "other"]
    assert (asked["filter_string"], asked["uri"]) == ("params.x = '1'", "http://127.0.0.1:1")
    settings = read(records(tmp_path)[0])["settings"]
    assert (settings["temperature"], settings["budget"], settings["macs"]) == ("none", 3, 7_000)
    assert settings["filter"] == "params.x = '1'"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--macs", "much"], "--macs=much: must be a number such as 250M"),
        (["--macs", "0"], "--macs=0: must be a number such as 250M"),
        (["--budget", "0"], "--budget=0: must be at least 1"),
        (["--seed", "-1"], "--seed=-1: must be at least 0"),
        (["--seed", str(2**53 + 1)], f"--seed={2**53 + 1}: must be at most {2**53}"),
        (["--methods", "gredy"], "--methods=gredy: is no method; did you mean greedy?"),
        (["--methods", ","], "names no method"),
        (["--temperature", "hot"], "--temperature=hot: must be one of after, before, none"),
        (["--name", "a/b"], "--name=a/b: must be 1 to 100 letters"),
        (["--budget", "x"], "invalid int value"),
        (
            ["norm=batch"],
            "norm=batch: is an override, and compare trains nothing; to compare some of the trials write  --filter",
        ),
        (["norm=batch"], """ --filter "params.norm = 'batch'\""""),
        (["other/7"], "SWEEP=other/7: is one trial, and an ensemble takes several; name its sweep: other"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(
    compared: Compare, tmp_path: Path, words: list[str], why: str
) -> None:
    code, _, err = compared(*words)
    assert code == errors.EXIT_BAD_INPUT
    assert why in err
    assert not records(tmp_path)


def test_one_member_is_too_few(compared: Compare, tmp_path: Path) -> None:
    code, _, err = compared(made=lambda gathered: replace(gathered, pool=gathered.pool.of([0])))
    assert code == errors.EXIT_BAD_INPUT
    assert "takes two members, there are 1; digits-00000001/9: its predictions are damaged" in err
    assert not records(tmp_path)


def test_a_place_that_cannot_be_written_is_told_before_anything_is_compared(compared: Compare) -> None:
    code, out, err = compared("--runs-dir", "/proc/runs")
    assert code == errors.EXIT_NOT_READY
    assert "--runs-dir=/proc/runs: /proc cannot be written" in err
    assert "nothing was compared" in err
    assert not out
    assert "look 1 at the test" in compared()[1]


def test_a_sweep_at_work_is_exit_6(compared: Compare, tmp_path: Path) -> None:
    with hold(tmp_path / "runs" / "digits-00000001" / LOCK, "works on sweep digits"):
        code, _, err = compared()
    assert code == errors.EXIT_RUNNING_ELSEWHERE
    assert "orchestrator stop digits-00000001" in err
    assert not records(tmp_path)


def test_names_from_strangers_do_nothing_to_the_terminal(compared: Compare) -> None:
    def hostile(gathered: Gathered) -> Gathered:
        reasons = tuple(LeftOut(f"s-00000001/{place}", f"\x1b[2J{place}" + "x" * 10_000) for place in range(50))
        return replace(gathered, left_out=reasons)

    code, out, _ = compared(made=hostile)
    assert code == errors.EXIT_OK
    assert "\x1b" not in out
    assert "trials left out for 42 other reasons" in " ".join(out.split())
    assert len(out) < 20_000


@pytest.mark.slow
def test_a_trained_sweep_is_timed_and_its_winner_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command on real weights: costs by hand, latencies that add up, and the steps that it names."""
    monkeypatch.setenv("COLUMNS", "200")
    facts = {"num_classes": 10, "in_channels": 1, "image_size": [8, 8]}
    sweep = trained_sweep(tmp_path / "runs" / "digits-0a1b2c3d", *(config(seed=seed) for seed in range(3)), facts=facts)
    runs = ["--runs-dir", str(tmp_path / "runs")]
    assert main(["compare", "digits", *runs, "--methods", "mean,top_5", "--latency"]) == errors.EXIT_OK
    out = capsys.readouterr().out
    (path,) = records(tmp_path)
    found = read(path)
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["best_single"]["multiply_adds"] == 64 * 24 + 24 * 10
    assert rows["mean"]["multiply_adds"] == 3 * (64 * 24 + 24 * 10)
    single, whole = rows["best_single"]["latency_ms"], rows["mean"]["latency_ms"]
    assert single is not None
    assert whole is not None
    assert 0 < single < whole, "the others come on top of the single one"
    assert found["environment"]["latency_batch"] == "64"
    header = next(line for line in out.splitlines() if line.startswith("method"))
    assert header.split()[-4:] == ["MACs", "ms", "over", "mean"]
    assert "ms: for a batch of 64 images on " in " ".join(out.split())
    page = (path.parent / "comparison.html").read_text("utf-8")
    assert "latency (ms)" in page
    assert "Latency is of a batch of 64 images, members one after the other." in page
    images = tmp_path / "images"
    files = photographs(images)["test"]
    predict = next(line for line in out.splitlines() if line.startswith("  orchestrator predict "))
    words = shlex.split(predict.split("    ")[0])[1:-1]
    assert main([*words, str(files[0]), "--json"]) == errors.EXIT_OK
    ((answer,),) = (json.loads(capsys.readouterr().out)[0]["classes"],)
    assert answer["class"] in map(str, range(10))
    assert sweep.uid in "".join(member["name"] for member in found["members"])
