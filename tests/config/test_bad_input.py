"""Bad input, row by row: the exit code, what the message says, and that nothing was created.

The numbers are those of the table of bad input that the project was designed with. Each case runs the command in a folder of
its own with its own home; the hash of everything below it has to be the same afterwards.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.sweep.launching import create_folder

PLAN = ("launch", "--plan")  # the same checks as `launch`, which would go on to start


@dataclass(frozen=True)
class Row:
    """One case: `say` and `also` are regular expressions that the output has to contain."""

    id: str
    argv: tuple[str, ...]
    say: str
    exit: int = 2
    files: dict[str, str | bytes] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    prepare: Callable[[Path], None] | None = None


def launch(id: str, overrides: str, say: str, exit: int = 2, **more: object) -> Row:
    """A row whose overrides hold no space."""
    return Row(id, (*PLAN, *overrides.split()), say, exit, **more)  # type: ignore[arg-type]


def search(id: str, text: str, say: str, **more: object) -> Row:
    """A row with a search space of the user's."""
    files = {"conf/search/mine.yaml": text}
    return Row(id, (*PLAN, "--config-dir", "conf", "search=mine"), say, files=files, **more)  # type: ignore[arg-type]


def experiment(id: str, text: str | bytes, say: str, exit: int = 2, **more: object) -> Row:
    """A row with an experiment of the user's."""
    file = text if isinstance(text, bytes) else f"# @package _global_\n{text}"
    argv = (*PLAN, "--config-dir", "conf", "experiment=mine")
    return Row(id, argv, say, exit, {"conf/experiment/mine.yaml": file}, **more)  # type: ignore[arg-type]


def photographs(folder: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / "photos" / split / name).mkdir(parents=True)


def truncated_archive(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "member").write_bytes(os.urandom(100_000))
    with tarfile.open(folder / "whole.tar.gz", "w:gz") as archive:
        archive.add(folder / "member", "cifar-10-batches-py/data_batch_1")
    whole = (folder / "whole.tar.gz").read_bytes()
    (folder / "data" / "cifar-10-python.tar.gz").write_bytes(whole[: len(whole) // 2])


def web_page(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "cifar-10-python.tar.gz").write_text("<!DOCTYPE html><html>sign in</html>")


def forbidden(path: Path, bits: int, way: int) -> None:
    """Take permissions away; skips the case where they do not apply."""
    path.chmod(bits)
    if os.access(path, way):
        path.chmod(0o755)
        pytest.skip("permission bits do not apply to this user (root)")


def forbidden_photographs(folder: Path) -> None:
    photographs(folder)
    forbidden(folder / "photos" / "train" / "cat", 0o000, os.R_OK)


def read_only(folder: Path) -> None:
    (folder / "runs").mkdir()
    forbidden(folder / "runs", 0o555, os.W_OK)


def labels_archive(folder: Path) -> tuple[Path, bytearray]:
    """Where MNIST's test labels belong, and a whole .gz of just their length that holds something else."""
    path = folder / "data" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    path.parent.mkdir(parents=True)
    rest = len(gzip.compress(os.urandom(4_000))) - 4_000  # random bytes are stored as they are
    content = bytearray(gzip.compress(os.urandom(4_542 - rest)))
    assert len(content) == 4_542
    return path, content


def other_contents(folder: Path) -> None:
    path, content = labels_archive(folder)
    path.write_bytes(content)


def wrong_crc(folder: Path) -> None:
    path, content = labels_archive(folder)
    content[-8] ^= 1  # the checksum stands before the length, at the end
    path.write_bytes(content)


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
RULE = "must be 1 to 100 letters, digits"

ROWS = [
    launch("1-unknown-key", "lrr=0.2", r"unknown key; did you mean optimizer\.lr\? known: name, trials, .* and \d+ more"),
    launch("1-unknown-root-key", "trails=3", r"did you mean trials\?"),
    launch("1-unknown-key-of-a-choice", "model.widht=3", r"model=mlp has no widht; did you mean model\.width\? known: "),
    launch("1-all-at-once", "trails=3 model.widht=3 optimizer=adamm epochs=0", r"4 problems", also=("adamm", "epochs=0")),
    launch("1-odd-letter", "optimizer.lr=#", r"the character '#' has no meaning here; a text with it stands in quotation"),
    launch("1-two-commas", "optimizer.lr=1,,2", r"cannot be read: it is neither a value nor one of choice\(a, b\), range"),
    launch("1-unknown-function", "optimizer.lr=intervall(1,2)", r"no function intervall; did you mean interval\?"),
    launch("1-unknown-function-far", "optimizer.lr=f(1,2)", r"there is no function f, but choice\(a, b\), range\("),
    launch("1-address-without-a-key", "http://127.0.0.1:5000", r"is an address without a key; write tracking\.uri=ADDRESS"),
    launch("1-equals-in-a-value", "name=a=b", r"a value with = in it stands in quotation marks:  KEY='\"a=b\"'"),
    # what people type who know another tool, each with what to type
    launch("1-multirun", "-m optimizer.lr=0.1,0.2", r"-m: is not needed: .*optimizer\.lr=0\.1,0\.01"),
    launch("1-multirun-in-full", "--multirun optimizer.lr=0.1", r"--multirun: is not needed"),
    launch("1-dashes", "--optimizer.lr=0.1", r"keys have no dashes; write  optimizer\.lr=0\.1$"),
    launch("1-dashes-and-a-space", "--trials 5", r"--trials 5: keys have no dashes; write  trials=5$"),
    launch("1-dashes-without-a-value", "--debug epochs=3", r"--debug: keys have no dashes; write  debug=VALUE$"),
    launch("1-dashed-words", "--batch-size 64", r"write  batch_size=64$"),
    launch("1-loguniform", "optimizer.lr=loguniform(1e-4,1)", r"write  'optimizer\.lr=tag\(log,interval\(1e-4,1\)\)'$"),
    launch("1-uniform", "optimizer.lr=uniform(0,1)", r"write  'optimizer\.lr=interval\(0,1\)'$"),
    launch("1-tune-uniform", "optimizer.lr=tune.uniform(0,1)", r"write  'optimizer\.lr=interval\(0,1\)'$"),
    launch("1-tune-choice", "optimizer.lr=tune.choice([0.1,0.01])", r"write  optimizer\.lr=0\.1,0\.01$"),
    launch("1-optuna", "optimizer.lr=suggest_float(1e-4,1,log=True)", r"'optimizer\.lr=tag\(log,interval\(1e-4,1\)\)'$"),
    launch("1-randint", "model.width=randint(8,64)", r"write  'model\.width=range\(8,64\)'$"),
    launch("1-list", "optimizer.lr=[0.1,0.01]", r"must be a number; to search its values write  optimizer\.lr=0\.1,0\.01$"),
    launch("1-list-of-choices", "norm=[batch,group]", r"to search its values write  norm=batch,group$"),
    launch("1-spaces", "optimizer.lr = 0.1", r"error: optimizer\.lr = 0\.1: has spaces; write  optimizer\.lr=0\.1$"),
    launch("1-space-before", "optimizer.lr =0.1", r"has spaces; write  optimizer\.lr=0\.1$"),
    launch("1-space-behind", "optimizer.lr= 0.1 trials=3", r"error: optimizer\.lr= 0\.1: has spaces; write  optimizer\.lr=0\.1$"),
    launch("1-torn-brackets", "optimizer.lr=interval(1e-3, 1)", r"quote what has .*:  'optimizer\.lr=interval\(1e-3, 1\)'$"),
    launch("1-open-bracket", "optimizer.lr=interval(1e-3,1 trials=3", r"put the whole in quotation marks"),
    launch("1-british", "optimiser.lr=0.1", r"did you mean optimizer\.lr\?"),
    launch("1-last-part", "lr=0.1", r"lr=0\.1: unknown key; did you mean optimizer\.lr\?"),
    launch("1-singular", "epoch=5", r"did you mean epochs\? known: .* and \d+ more: orchestrator launch --help$"),
    launch("1-capitals", "model=ResNet18", r"did you mean resnet18\? known: .* and \d+ more: orchestrator list model$"),
    launch("1-colon", "optimizer.lr:0.1", r"has no value; write optimizer\.lr=0\.1$"),
    launch("1-unknown-group", "optimzer.lr=0.2", r"optimzer\.lr=0\.2: unknown key; did you mean optimizer\.lr\?"),
    experiment("2-unknown-key-in-yaml", "trails: 3\n", r"trails=3: unknown key.*trials\? \(.*mine\.yaml:2\)"),
    experiment("2-unknown-key-of-a-choice-in-yaml", "model:\n  widht: 3\n", r"did you mean model\.width\? \(.*mine\.yaml:3\)"),
    launch("3-append", "+foo=1", r"foo=1: unknown key"),
    launch("3-force", "++foo=1", r"foo=1: unknown key"),
    launch("4-choice", "optimizer=adamm", r"optimizer=adamm: not in conf/optimizer.*did you mean adam\?"),
    launch("4-search", "search=learning", r"did you mean learning_rate\? known: activation, all, "),
    launch("5-text-for-a-number", "optimizer.lr=abc", r"optimizer\.lr=abc: must be a number"),
    launch("5-empty", "optimizer.lr=", r"optimizer\.lr='': must be a number"),
    launch("5-fraction-for-an-integer", "epochs=2.5", r"epochs=2\.5: must be an integer"),
    launch("5-true-for-an-integer", "epochs=true", r"epochs=True: must be an integer"),
    launch("5-searched", "epochs=1,2.5", r"epochs=2\.5: must be an integer"),
    launch("5-null", "optimizer.lr=null", r"optimizer\.lr=null: must be a number"),
    launch("5-group-for-a-value", "optimizer={lr:1}", r"must name a choice"),
    launch("5-no-grammar", "optimizer=sgd,", r"cannot be read"),
    launch("5-open-bracket", "optimizer.lr=interval(1e-3,1", r"cannot be read: a bracket is left open"),
    launch("5-no-value", "optimizer.lr", r"optimizer\.lr.* has no value; write optimizer\.lr=VALUE"),
    launch("5-text-for-the-batch-size", "batch_size=abc", r"batch_size=abc: must be an integer"),
    launch("5-text-for-the-trials", "trials=abc", r"trials=abc: must be an integer"),
    launch("5-text-for-the-epochs", "epochs=abc schedule=cosine", r"epochs=abc: must be an integer"),
    launch("5-number-for-a-list", "allowed_targets=5", r"allowed_targets=5: must be a list of texts"),
    launch("5-list-for-text", "data_cache=[a]", r"data_cache=\['a'\]: must be text or null"),
    launch("5-removed-precision", "precision=fp16", r"precision=fp16: must be one of auto, fp32, tf32, bf16"),
    launch("5-no-debug-key", "debug=true", r"debug=true: unknown key"),
    experiment("6-duplicate-key", "trials: 3\ntrials: 4\n", r"mine\.yaml:3:1: has the key trials twice"),
    experiment("7-tab", "model:\n\twidth: 3\n", r"mine\.yaml:3:1: is not YAML: .*tab"),
    experiment("7-indent", "model:\n  width: 3\n hidden: 2\n", r"mine\.yaml:4:\d+: is not YAML"),
    experiment("7-not-a-mapping", "- 1\n", r"must hold a mapping"),
    experiment("7-byte-order-mark", "\ufeff# @package _global_\r\ntrials: 3\r\n".encode(), r"trials +3 ", 0),
    experiment("7-windows-line-ends", b"# @package _global_\r\ntrials: 3\r\nepochs: 2\r\n", r"trials +3 .*epochs +2 ", 0),
    experiment("7-no-package", b"trials: 3\n", r"must begin with the line '# @package _global_'"),
    experiment("7-large", b"#" * 20_000_000, r"is 20,000,000 bytes long"),
    experiment("7-alias-bomb", BOMB, r"expands to more than 100,000 values"),
    experiment("7-not-utf-8", b"name: \xff\xfe\n", r"is not UTF-8"),
    launch("8-low-above-high", "optimizer.lr=interval(1,0.1)", r"optimizer\.lr=.*: low 1\.0 is above high 0\.1"),
    launch("8-low-is-high", "optimizer.lr=interval(1,1)", r"low and high are both 1\.0"),
    search("8-in-yaml", "space: {optimizer.lr: 'interval(1, 0)'}", r"low 1\.0 is above high 0\.0"),
    launch("9-log-of-zero", "optimizer.lr=tag(log,interval(0,1))", r"a log range needs low > 0, got 0\.0"),
    launch("9-log-of-negative", "optimizer.lr=tag(log,interval(-1,1))", r"a log range needs low > 0, got -1\.0"),
    launch("10-step-zero", "model.width=range(1,5,0)", r"step must be above 0, got 0"),
    launch("10-step-negative", "model.width=range(5,1,-1)", r"step must be above 0, got -1"),
    launch("10-step-above-range", "model.width=range(1,5,10)", r"step 10 is larger than the range from 1 to 5"),
    launch("10-step-not-dividing", "model.width=range(20,57,12)", r"model\.width takes 20, 32, 44, 56", 0),
    launch("11-empty", "norm=choice()", r"empty choice"),
    launch("11-duplicate", "norm=batch,batch", r"has batch twice"),
    launch("11-mixed", "optimizer.momentum=0.1,high", r"mixes numbers and text"),
    launch("12-not-a-number", "optimizer.lr=nan", r"optimizer\.lr=nan: must be finite"),
    launch("12-overflow", "optimizer.lr=1e400", r"must be finite"),
    launch("12-searched", "optimizer.lr=interval(0,inf)", r"must be finite"),
    experiment("12-in-yaml", "optimizer: {lr: .inf}\n", r"optimizer\.lr=inf: must be finite"),
    launch("13-no-trials", "trials=0", r"trials=0: must be at least 1"),
    launch("13-negative-trials", "trials=-1", r"trials=-1: must be at least 1"),
    launch("13-no-epochs", "epochs=0", r"epochs=0: must be at least 1"),
    launch("13-negative-concurrency", "max_concurrent=-1", r"max_concurrent=-1: must be at least 1"),
    launch("13-concurrency", "trials=2 max_concurrent=3", r"max_concurrent=3: is more than there are trials \(2\)"),
    launch("13-gpus", "gpus_per_trial=999", r"gpus_per_trial=999: this machine has (no|\d+) GPU"),
    launch("13-cpus", "cpus_per_trial=9999", r"cpus_per_trial=9999: this machine has \d+"),
    launch("13-cuda-without-a-gpu", "device=cuda gpus_per_trial=0", r"device=cuda: needs gpus_per_trial above 0"),
    launch("13-fraction-above-one", "gpus_per_trial=1.5", r"whole above 1"),
    launch(
        "14-huge-grid",
        "sampler=grid optimizer.lr=range(0.001,1,0.001) model.width=range(1,1001) seed=range(0,1001)",
        r"the grid has 999,\d+,000 points.*10,000",
    ),
    launch("14-grid-over-an-interval", "sampler=grid", r"sampler\.points=N"),
    launch("15-architecture", "model=resnet_cifr", r"did you mean resnet_cifar\?"),
    launch("15-target", "optimizer._target_=torch.optim.Adam", r"has no _target_"),
    launch("16-image-too-small", "model=mlp,convnet model.stages=5", r"model=convnet: .*needs at least 32x32 images.*8x8"),
    launch("16-depth", "model=resnet_cifar model.depth=21", r"depth must be 6n\+2"),
    Row(
        "17-classes",
        (*PLAN, "--config-dir", "conf", "model=mine", "allowed_targets=my_three_classes"),
        r"model=mine: .*logits of shape \(2, 10\)",
        files={
            "conf/model/mine.yaml": "_target_: my_three_classes.make\n",
            "conf/my_three_classes.py": "from torch import nn\n\n\ndef make(*, norm=None, activation=None):\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n",
        },
    ),
    Row(
        "17-channels",
        (*PLAN, "--config-dir", "conf", "model=mine", "allowed_targets=my_three_channels"),
        r"model=mine: does not take images of 1x8x8 \(.*3 channels",
        files={
            "conf/model/mine.yaml": "_target_: my_three_channels.make\n",
            "conf/my_three_channels.py": "from torch import nn\n\n\ndef make(*, num_classes, norm=None, activation=None):\n"
            "    return nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, num_classes))\n",
        },
    ),
    launch("17-batch-norm-of-one", "norm=batch batch_size=1", r"model=mlp: batch norm has no variance.*batch_size=1"),
    launch("18-batch-above-the-data", "batch_size=1000000000", r"batch_size=1000000000: must be at most"),
    launch("18-batch-above-train", "batch_size=1500", r"batch_size=1500: .*1151 training examples"),
    launch("18-no-batch", "batch_size=0", r"batch_size=0: must be at least 1"),
    launch("19-no-validation", "data.val_fraction=0", r"val_fraction must be more than 0"),
    launch("19-all-validation", "data.val_fraction=1", r"less than 1"),
    launch("19-class-left-empty", "data.val_fraction=0.0001", r"leaves class '0' without"),
    launch("20-missing", "data=image_folder data.root=nowhere", r"nowhere does not exist.*train/<class>", 3),
    launch("20-not-given", "data=image_folder", r"root must name a folder"),
    launch("20-a-file", "data=image_folder data.root=file", r"is a file, not a folder", 3, files={"file": "x"}),
    launch("20-empty", "data=image_folder data.root=photos", r"photos", 3, prepare=photographs),
    launch(
        "20-no-permission", "data=image_folder data.root=photos", r"photos/train/cat cannot be read \(Permission denied\)", 3,
        prepare=forbidden_photographs,
    ),
    launch("20-other-problems-first", "data=image_folder data.root=nowhere name=a/b", RULE),
    launch("20-refused-values-first", "data=image_folder data.root=nowhere optimizer.lr=-1", r"lr must be more than 0"),
    launch("20-values-of-the-data-too", "data=image_folder optimizer.lr=-1", r"root must name.*lr must be"),
    launch("20-not-downloaded", "data=cifar10 data.download=false", r"error: cifar10 is not there.*put into .*170\.5 MB", 3),
    launch("20-no-download-with-problems", "data=cifar10 name=a/b", RULE),
    launch(
        "21-wrong-checksum", "data=mnist data.download=false data.root=data",
        r"t10k-labels-idx1-ubyte\.gz is damaged \(its MD5 is not \w+; 4,542 bytes\)", 3, prepare=other_contents,
    ),
    launch(
        "21-cyclic-redundancy-check", "data=mnist data.download=false data.root=data",
        r"t10k-labels-idx1-ubyte\.gz is damaged", 3, prepare=wrong_crc,
    ),
    launch(
        "21-truncated", "data=cifar10 data.download=false data.root=data", r"cifar-10-python\.tar\.gz.*(truncated|damaged|170)",
        3, prepare=truncated_archive,
    ),
    launch(
        "21-web-page", "data=cifar10 data.download=false data.root=data", r"cifar-10-python\.tar\.gz", 3, prepare=web_page
    ),
    *(
        Row(f"26-name-{number}", (*PLAN, f"name={name}"), say)
        for number, (name, say) in enumerate(
            [
                ("../../x", RULE), ("/abs", RULE), ("a/b", RULE), ("", RULE), ("x" * 300, RULE), (".", RULE),
                ("'~'", RULE), ("'a\0b'", RULE), ("'a\nb'", RULE), ("-dash", RULE), ("'a b'", RULE), ("_x", RULE),
            ]
        )
    ),
    launch("26-good-name", "name=lecture-3.a", r"lecture-3\.a", 0),
    launch("27-emoji", "name=a🙂", RULE),
    launch("27-right-to-left-override", "name=a\u202eb", RULE),
    launch("27-decomposed", "name=e\u0301te", r"combining characters"),
    launch("27-letters-of-any-script", "name=été", r"été", 0),
    launch("39-runs-dir-is-a-file", "runs_dir=file", r"runs_dir=.*is a file", 3, files={"file": "x"}),
    launch("39-runs-dir-below-a-file", "runs_dir=file/runs", r"is a file", 3, files={"file": "x"}),
    launch("39-runs-dir-read-only", "runs_dir=runs", r"runs cannot be written \(Permission denied\)", 3, prepare=read_only),
    launch("39-runs-dir-not-writable", "runs_dir=/proc/runs", r"cannot be written", 3),
    launch("40-scheme", "tracking=server tracking.uri=htp://host", r"tracking\.uri: must start with http:// or https://"),
    launch("40-database", "tracking=server tracking.uri=postgres://u:secret@h/db", r"//\*\*\*@h.*tracking=local"),
    launch("40-file", "tracking.uri=file:///tmp/x", r"must be sqlite:///.*file store"),
    launch("40-relative", "tracking.uri=sqlite:///x.db", r"four slashes"),
    launch("40-server-as-local", "tracking.uri=http://host:5000", r"use tracking=server tracking\.uri=http://host:5000"),
    launch("40-missing", "tracking=server", r"tracking\.uri: is missing; write tracking\.uri=VALUE"),
    launch("43-negative-seed", "seed=-1", r"seed=-1: must be at least 0"),
    launch("43-large-seed", "seed=4294967296", r"seed=4294967296: must be at most 4,294,967,295"),
    launch("43-fraction", "seed=1.5", r"seed=1\.5: must be an integer"),
    launch("43-searched", "seed=range(-1,2)", r"seed=-1: must be at least 0"),
    launch("45-mode", "mode=min", r"mode=min: val/accuracy is better when higher"),
    launch("45-metric", "metric=val/acuracy", r"must be one of .*did you mean val/accuracy\?"),
    Row("46-help", ("--help",), r"orchestrator launch", 0),
    Row("46-help-of-launch", ("launch", "--help"), r"--config-dir", 0),
    Row("46-no-arguments", (), r"orchestrator launch", 0),
    Row("46-unknown-command", ("lunch",), r"did you mean launch\?"),
    Row("46-unknown-option", (*PLAN, "--nope"), r"--nope"),
    launch("31-foreign-target", "--config-dir conf optimizer=mine", r"os\.system: is not allowed",
           files={"conf/optimizer/mine.yaml": "_target_: os.system\n"}),
    launch("32-environment", "name=${oc.env:PATH}", r"\$\{oc\.env:PATH\} is not allowed; the environment gives HOME"),
    launch("32-cycle", "name=${runs_dir} runs_dir=${name}", r"circle: (name -> runs_dir -> name|runs_dir -> name -> runs_dir)"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and home; the cache of decoded images is shared by all rows, outside of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("ORCHESTRATOR_SETTINGS", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def tree(folder: Path) -> str:
    """A hash of all names and contents below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)} {path.is_dir()}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_row(row: Row, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in row.files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if row.prepare is not None:
        row.prepare(place)
    before = tree(place)
    code = main(row.argv)
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "Traceback" not in said
    for expected in (row.say, *row.also):
        assert re.search(expected, said, re.DOTALL), said
    assert code == row.exit, said
    assert tree(place) == before, "something was created"
    assert "secret" not in said
    if code:
        assert captured.out == "", "what went wrong belongs on stderr"


def test_27_names_that_differ_only_by_case_have_folders_of_their_own(place: Path) -> None:
    folders = []
    for name in ("Lecture", "lecture", "LECTURE"):
        made: Any = SimpleNamespace(root=SimpleNamespace(name=name, runs_dir=str(place / "runs")))
        folders.append(create_folder(made, {"kind": "none"})[1])
    assert {folder.name.rsplit("-", 1)[0] for folder in folders} == {"lecture"}
    assert len({folder.name.lower() for folder in folders}) == 3


def test_38_port_in_use(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"sqlite:///{place / 'mlflow.db'}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["dashboard", "--port", str(port), "--uri", store]) == 3
    said = capsys.readouterr().err
    assert f"port {port} is used by process {os.getpid()}" in said
    assert "--port=0 for a free one" in said
    assert list(place.iterdir()) == []


def run(*argv: str, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **more}
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *argv],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment,
    )  # fmt: skip


def test_47_reader_of_the_pipe_goes_away(place: Path) -> None:
    with run("list", "search") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"COLUMNS": "20"}, {"TERM": "dumb"}], ids=str)
def test_47_odd_terminals(place: Path, environment: dict[str, str]) -> None:
    with run("--help", **environment) as process:
        said, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "orchestrator launch" in said
