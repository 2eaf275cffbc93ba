"""Which trials become members, and why others do not."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from orchestrator.base.costs import MULTIPLY_ADDS, key_of
from orchestrator.base.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, NotReadyError
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.stored_predictions import SPLITS, UnfitError, examples, logits, parse_header
from orchestrator.cli import main
from orchestrator.ensembles.gathering import Gathered, gather
from orchestrator.journal.record import read_sweep
from tests.ensembles.finished import CLASSES, FINGERPRINT, TEST, VAL, Made, finished_sweep, packed, predictions

UID = "one-0a1b2c3d"


def reasons(gathered: Gathered) -> dict[str, str]:
    return {out.name: out.reason for out in gathered.left_out}


def test_members_stand_best_first_with_their_predictions(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(value=0.5), Made(value=0.9), Made(value=0.7), Made(value=0.9)])
    gathered = gather(["one"], tmp_path)
    pool = gathered.pool
    assert [member.name for member in pool.members] == [f"{UID}/{index}" for index in (1, 3, 2, 0)]
    assert [member.value for member in pool.members] == [0.9, 0.9, 0.7, 0.5]
    assert pool.logits_MNK.dtype == np.float32
    for place, index in enumerate((1, 3, 2, 0)):
        assert np.array_equal(pool.logits_MNK[place], predictions(index, VAL, TEST, 3)["val_logits"])
    assert np.array_equal(pool.labels_N, np.arange(VAL) % 3)
    assert np.array_equal(gathered.ids_N, np.arange(100, 100 + VAL))
    assert (pool.classes, pool.larger_is_better, gathered.fingerprint) == (CLASSES, True, FINGERPRINT)
    assert gathered.left_out == ()
    assert [(source.uid, source.metric, source.folder) for source in gathered.sources] == [
        (UID, "val/accuracy", tmp_path / UID)
    ]


def test_where_less_is_better_the_smallest_value_stands_first(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(value=0.5), Made(value=0.1), Made(value=0.7)], metric="val/loss", mode="min")
    pool = gather([UID], tmp_path).pool
    assert [member.value for member in pool.members] == [0.1, 0.5, 0.7]
    assert not pool.larger_is_better


def test_equal_values_go_by_the_number_of_the_trial(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(value=0.5)] * 11)
    names = [member.name for member in gather([UID], tmp_path).pool.members]
    assert names == [f"{UID}/{index}" for index in range(11)]


def test_several_sweeps_are_one_pool(tmp_path: Path) -> None:
    finished_sweep(tmp_path / "one-0a1b2c3d", [Made(value=0.5), Made(value=0.7)])
    finished_sweep(tmp_path / "two-0a1b2c3d", [Made(value=0.6, params={"model": "resnet"})], seed=1)
    gathered = gather(["one", "two-0a1b2c3d"], tmp_path)
    assert [member.name for member in gathered.pool.members] == ["one-0a1b2c3d/1", "two-0a1b2c3d/0", "one-0a1b2c3d/0"]
    assert [member.architecture for member in gathered.pool.members] == ["mlp", "resnet", "mlp"]
    assert [source.uid for source in gathered.sources] == ["one-0a1b2c3d", "two-0a1b2c3d"]


def test_the_test_is_read_at_the_call_only(tmp_path: Path) -> None:
    folder = finished_sweep(tmp_path / UID, [Made(value=0.9), Made(value=0.8), Made(value=0.7)])
    gathered = gather([UID], tmp_path)
    logits, labels, ids = gathered.read_test([f"{UID}/2", f"{UID}/0"])
    assert np.array_equal(logits, [predictions(index, VAL, TEST, 3)["test_logits"] for index in (2, 0)])
    assert np.array_equal(labels, np.arange(TEST) % 3)
    assert np.array_equal(ids, np.arange(100_000, 100_000 + TEST))
    (trial_folder(folder, 0) / PREDICTIONS).unlink()
    with pytest.raises(NotReadyError, match=f"{UID}/0 cannot be a member any more: .*No such file"):
        gathered.read_test([f"{UID}/0"])


def test_test_predictions_that_are_not_finite_are_noticed_without_reading_them(tmp_path: Path) -> None:
    broken = predictions(1, VAL, TEST, 3)["test_logits"].copy()
    broken[3, 1] = np.nan
    silent = Made(metrics={}, arrays={"test_logits": broken})
    lying = Made(value=0.1, arrays={"test_logits": broken})
    finished_sweep(tmp_path / UID, [Made(), silent, Made(), lying])
    gathered = gather([UID], tmp_path)
    assert reasons(gathered) == {f"{UID}/1": "its test predictions are missing or not finite"}
    with pytest.raises(NotReadyError, match=f"{UID}/3 cannot be .*: its test predictions are not finite"):
        gathered.read_test([f"{UID}/3"])


LOGITS = predictions(0, VAL, TEST, 3)["val_logits"]
NOT_FINITE = np.where(np.arange(3) == 1, np.inf, LOGITS).astype(np.float32)
HUGE = np.where(np.arange(3) == 1, np.float32(-3e38), np.float32(3e38)) * np.ones((VAL, 1), np.float32)

UNFIT: dict[str, tuple[Made, str]] = {
    "stopped": (Made(state="stopped"), "not completed: stopped"),
    "diverged": (Made(state="diverged"), "not completed: diverged"),
    "running": (Made(state="running"), "not completed: running"),
    "without predictions": (Made(predictions=False), "it has no predictions"),
    "other SHA-256": (
        Made(recorded="ab" * 32),
        "its predictions are damaged: their SHA-256 is not the one that was recorded",
    ),
    "empty": (Made(contents=b""), "its predictions are no whole safetensors file"),
    "cut off": (Made(contents=b"\xff" * 7), "its predictions are no whole safetensors file"),
    "header beyond its end": (Made(contents=b"\xff" * 64), "its predictions are no whole safetensors file"),
    "no JSON": (Made(contents=(8).to_bytes(8, "little") + b"[" * 8), "its predictions do not say what they are of"),
    "deep JSON": (
        Made(contents=(10**6).to_bytes(8, "little") + b"[" * 10**6),
        "its predictions do not say what they are of",
    ),
    "of another trial": (Made(header={"uid": "other-0a1b2c3d/7"}), "its predictions are of another trial"),
    "no fingerprint": (Made(header={"fingerprint": None}), "its predictions do not say what they are of"),
    "classes are no names": (Made(header={"classes": [1, 2, 3]}), "its predictions do not say what they are of"),
    "other data": (
        Made(header={"fingerprint": "<script>" * 10_000}),
        f"other data, or another split of them: fingerprint <script><scr, that of most is {FINGERPRINT[:12]}",
    ),
    "other order of classes": (
        Made(header={"classes": ["cat", "bird", "dog"]}),
        "its classes are in another order: number 1 is 'bird', that of most is 'dog'",
    ),
    "other classes": (
        Made(header={"classes": ["cat", "dog", "f" * 10_000]}),
        f"its classes are others: {'f' * 40!r} is none of most",
    ),
    "more classes": (
        Made(
            header={"classes": [*CLASSES, "fish"]},
            arrays={"val_logits": np.zeros((VAL, 4), np.float32), "test_logits": np.zeros((TEST, 4), np.float32)},
        ),
        "it has 4 classes, most have 3",
    ),
    "classes that are not its columns": (
        Made(header={"classes": [*CLASSES, "fish"]}),
        "its validation predictions have the wrong shape",
    ),
    "missing": (Made(arrays={"test_ids": None}), "it has no predictions test_ids"),
    "not finite": (Made(arrays={"val_logits": NOT_FINITE}, value=0.2), "its validation predictions are not finite"),
    "too far apart": (Made(arrays={"val_logits": HUGE}), "its validation predictions are not finite"),
    "double": (
        Made(arrays={"val_logits": LOGITS.astype(np.float64)}),
        "its predictions val_logits are not of type F32",
    ),
    "flat": (
        Made(arrays={"val_logits": LOGITS.reshape(-1)}, value=0.2),
        "its predictions val_logits have the wrong shape",
    ),
    "fewer ids": (Made(arrays={"val_ids": np.arange(VAL - 1)}), "its validation predictions have the wrong shape"),
    "labels beyond the classes": (Made(arrays={"test_labels": np.full(TEST, 3)}), "its test labels are no classes"),
    "fewer examples": (
        Made(arrays={name: array[:5] for name, array in predictions(0, VAL, TEST, 3).items()}),
        f"it has predictions of 5 and 5 examples of validation and test, most have {VAL} and {TEST}",
    ),
    "no examples": (
        Made(arrays={name: array[:0] for name, array in predictions(0, VAL, TEST, 3).items()}, value=0.2),
        "its predictions are of no validation example",
    ),
    "other examples": (
        Made(arrays={"val_ids": np.arange(101, 101 + VAL)}),
        "1 of its validation examples are others than those of most",
    ),
    "another order": (
        Made(arrays={"test_ids": np.arange(100_000, 100_000 + TEST)[::-1]}),
        "its test examples are in another order than those of most",
    ),
    "other labels": (
        Made(arrays={"val_labels": np.arange(VAL) % 3 // 2}, value=0.99),
        "8 of its validation labels are others than those of most",
    ),
}


@pytest.mark.parametrize(("made", "reason"), UNFIT.values(), ids=list(UNFIT))
def test_what_does_not_fit_is_left_out_by_name_and_reason(tmp_path: Path, made: Made, reason: str) -> None:
    finished_sweep(tmp_path / UID, [made, Made(), Made()])
    gathered = gather([UID], tmp_path)
    assert reasons(gathered) == {f"{UID}/0": reason}
    assert sorted(member.name for member in gathered.pool.members) == [f"{UID}/1", f"{UID}/2"]
    for member, found in zip(gathered.pool.members, gathered.pool.logits_MNK, strict=True):
        index = int(member.name.rpartition("/")[2])
        assert np.array_equal(found, predictions(index, VAL, TEST, 3)["val_logits"])


def test_a_file_that_is_gone_or_no_file_is_left_out(tmp_path: Path) -> None:
    folder = finished_sweep(tmp_path / UID, [Made()] * 5)
    gone, pipe, large = (trial_folder(folder, index) / PREDICTIONS for index in range(3))
    gone.unlink()
    pipe.unlink()
    os.mkfifo(pipe)
    os.truncate(large, 500 * 2**20)
    assert reasons(gather([UID], tmp_path)) == {
        f"{UID}/0": "its predictions cannot be read (No such file or directory)",
        f"{UID}/1": "its predictions cannot be read (Not a regular file)",
        f"{UID}/2": "its predictions have 500 MB, more than the 400 that are read",
    }


def test_rows_whose_maximum_is_not_zero_are_moved_there(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(arrays={"val_logits": LOGITS + np.float32(3)}, value=0.99), Made()])
    pool = gather([UID], tmp_path).pool
    assert np.allclose(pool.logits_MNK[0], LOGITS, atol=1e-6)
    assert (pool.logits_MNK.max(axis=2) == 0).all()


def test_the_data_that_most_share_win_and_ties_go_to_the_first_sweep(tmp_path: Path) -> None:
    other = {"header": {"fingerprint": "ff" * 32}}
    finished_sweep(tmp_path / "one-0a1b2c3d", [Made(), Made()])
    finished_sweep(tmp_path / "two-0a1b2c3d", [Made(**other), Made(**other)])
    finished_sweep(tmp_path / "three-0a1b2c3d", [Made(**other), Made(**other), Made()])
    assert gather(["one", "two"], tmp_path).fingerprint == FINGERPRINT
    assert gather(["two", "one"], tmp_path).fingerprint == "ff" * 32
    three = gather(["one", "two", "three"], tmp_path)
    assert three.fingerprint == "ff" * 32
    assert len(three.pool) == 4
    assert [source.uid for source in three.sources] == ["two-0a1b2c3d", "three-0a1b2c3d"]


def test_what_differs_in_another_split_is_said(tmp_path: Path) -> None:
    """0.3 and split 1 beside 0.2 and split 0, with 24 validation examples instead of 16."""
    usual = {"data": {"_target_": "digits", "val_fraction": 0.2, "split_seed": 0}}
    other = {"data": {"_target_": "digits", "val_fraction": 0.3, "split_seed": 1}}
    finished_sweep(tmp_path / "one-0a1b2c3d", [Made(config=usual), Made(config=usual)])
    made = Made(config=other, header={"fingerprint": "ff" * 32})
    finished_sweep(tmp_path / "two-0a1b2c3d", [made], val=VAL + 8)
    assert reasons(gather(["one", "two"], tmp_path))["two-0a1b2c3d/0"] == (
        "other data, or another split of them: data.val_fraction is 0.3, not 0.2; data.split_seed is 1, not 0; it has "
        f"{VAL + 8} and {TEST} examples of validation and test, most have {VAL} and {TEST}"
    )


def test_fewer_than_two_members_are_refused_with_what_differs(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(), Made(state="stopped"), Made(state="stopped"), Made(contents=b"")])
    with pytest.raises(ConfigError, match="two") as caught:
        gather([UID], tmp_path)
    assert caught.value.exit_code == EXIT_BAD_INPUT
    assert str(caught.value) == (
        f"NAME={UID}: an ensemble takes two trials or more, and one can be a member; left out: 2 trials, {UID}/1 the"
        f" first (not completed: stopped); {UID}/3 (its predictions are no whole safetensors file)"
    )


@pytest.mark.parametrize("trials", [[], [Made()], [Made(contents=b"")], [Made(), Made(recorded="ab" * 32)]])
def test_zero_or_one_trial_are_too_few(tmp_path: Path, trials: list[Made]) -> None:
    finished_sweep(tmp_path / UID, trials)
    with pytest.raises(ConfigError, match=r"an ensemble takes two trials or more, and (one|none) can be a member"):
        gather([UID], tmp_path)


def test_one_example_of_one_class_and_equal_members_are_a_pool(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(), Made()], val=1, test=1, classes=["<script>\n'"])
    pool = gather([UID], tmp_path).pool
    assert pool.logits_MNK.tolist() == [[[0.0]], [[0.0]]]
    assert pool.classes == ("<script>\n'",)


def test_unknown_and_doubled_names_are_refused(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(), Made()])
    with pytest.raises(ConfigError, match="did you mean one"):
        gather(["onee"], tmp_path)
    with pytest.raises(ConfigError, match=f"NAME={UID}: is {UID}, which 'one' names too; name each sweep once"):
        gather(["one", UID], tmp_path)
    with pytest.raises(ConfigError, match="name one sweep or several"):
        gather([], tmp_path)


def test_a_copied_folder_is_the_same_sweep(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(), Made()])
    shutil.copytree(tmp_path / UID, tmp_path / "copy-00000001")
    with pytest.raises(ConfigError, match=f"{UID} and copy-00000001 are both the sweep {UID}, one a copy of the other"):
        gather([UID, "copy-00000001"], tmp_path)
    assert len(gather(["copy-00000001"], tmp_path).pool) == 2


def test_the_trials_of_a_copy_with_an_identity_of_its_own_are_left_out(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(), Made()])
    shutil.copytree(tmp_path / UID, tmp_path / "copy-00000001")
    assert main(["adopt", str(tmp_path / "copy-00000001"), "--yes"]) == EXIT_OK
    (copy,) = {folder.name for folder in tmp_path.iterdir() if (folder / "journal.sqlite").is_file()} - {UID}
    gathered = gather([UID, copy], tmp_path)
    assert {member.name for member in gathered.pool.members} == {f"{UID}/0", f"{UID}/1"}
    assert reasons(gathered) == {
        f"{copy}/{place}": f"its predictions are the file of {UID}/{place}: it is a copy" for place in range(2)
    }


def test_a_sweep_whose_journal_is_damaged_is_left_out_beside_others(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(), Made()])
    damaged = finished_sweep(tmp_path / "two-0a1b2c3d", [Made(), Made()])
    (damaged / "journal.sqlite").write_bytes(b"no database" * 1000)
    gathered = gather([UID, "two-0a1b2c3d"], tmp_path)
    assert list(reasons(gathered)) == ["two-0a1b2c3d"]
    with pytest.raises(NotReadyError, match=r"journal"):
        gather(["two-0a1b2c3d"], tmp_path)


def test_a_folder_that_was_moved_is_read_where_it_is(tmp_path: Path) -> None:
    finished_sweep(tmp_path / "then" / UID, [Made(), Made()])
    shutil.move(tmp_path / "then", tmp_path / "now")
    assert len(gather([UID], tmp_path / "now").pool) == 2


def test_seeds_of_one_configuration_share_it(tmp_path: Path) -> None:
    norms = ("batch", "none", "none")
    repeats = [
        Made(
            params={"norm": norm}, config_index=number, repeat=repeat, config={"seed": 10 * number + repeat}, value=0.5
        )
        for number, norm in enumerate(norms)
        for repeat in range(2)
    ]
    finished_sweep(tmp_path / UID, repeats)
    found = [member.configuration for member in gather([UID], tmp_path).pool.members]
    assert found == [f"{UID}/c0"] * 2 + [f"{UID}/c1"] * 4  # the third configuration is the second one with other seeds


def test_a_searched_seed_makes_seeds_of_one_configuration(tmp_path: Path) -> None:
    finished_sweep(tmp_path / UID, [Made(params={"seed": seed}) for seed in range(3)])
    assert {member.configuration for member in gather([UID], tmp_path).pool.members} == {f"{UID}/c0"}


def test_a_sweep_of_another_objective_is_ordered_by_that_of_the_first(tmp_path: Path) -> None:
    finished_sweep(tmp_path / "one-0a1b2c3d", [Made(value=0.5), Made(value=0.7)])
    history: list[Any] = [[1, 0, {"val/accuracy": 0.6, "val/loss": 2.0}]]
    silent: list[Any] = [[1, 0, {"val/loss": 2.0}]]
    others = [Made(value=2.0, header={"history": history}), Made(value=2.0, header={"history": silent})]
    finished_sweep(tmp_path / "two-0a1b2c3d", others, metric="val/loss", mode="min")
    gathered = gather(["one", "two"], tmp_path)
    assert [member.value for member in gathered.pool.members] == [0.7, 0.6, 0.5]
    assert reasons(gathered) == {
        "two-0a1b2c3d/1": "it has no val/accuracy, by which one-0a1b2c3d orders its trials",
    }


def costs(folder: Path, facts: Mapping[str, Any], *trials: Made) -> list[tuple[int | None, int | None]]:
    finished_sweep(folder / UID, trials, facts=facts)
    return [(member.parameters, member.multiply_adds) for member in gather([UID], folder).pool.members]


def test_costs_are_those_that_planning_worked_out(tmp_path: Path) -> None:
    trials = [
        Made(value=0.9, params={"model": "mlp"}),
        Made(value=0.8, config={"model": {"_target_": "models.vgg.vgg"}}),
    ]
    folder = finished_sweep(tmp_path / "asked-0a1b2c3d", trials)
    keys = [key_of(trial.config) for trial in read_sweep(folder).trials.values()]
    of_each = {MULTIPLY_ADDS: {keys[0]: [1000, 0], keys[1]: [10, 500]}}
    rows = [["model=mlp", 77, 1000, 0], ["model=vgg", 99, 10, 500]]
    assert costs(tmp_path / "a", of_each | {"costs": rows, "parameters": 99}, *trials) == [(77, 1000), (99, 510)]
    assert costs(tmp_path / "e", of_each | {"costs": rows[::-1]}, *trials) == [(None, 1000), (None, 510)]
    assert costs(tmp_path / "b", of_each, *trials) == [(None, 1000), (None, 510)]
    assert costs(tmp_path / "c", {"parameters": 99}, *trials) == [(None, None), (None, None)]
    assert costs(tmp_path / "d", {"parameters": 99}, trials[0], trials[0]) == [(99, None), (99, None)]


@pytest.mark.parametrize(
    "facts",
    [
        {MULTIPLY_ADDS: 3, "costs": 3, "parameters": "many"},
        {MULTIPLY_ADDS: {"x": ["a", None]}, "costs": [[1], None], "parameters": -1},
        {MULTIPLY_ADDS: [], "parameters": True},
    ],
)
def test_costs_that_are_none_are_unknown(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert costs(tmp_path, facts, Made(), Made()) == [(None, None)] * 2


def test_params_of_any_text_are_handed_on(tmp_path: Path) -> None:
    odd = {"model": "<script>alert(1)</script>", "x\n'\"": "y" * 10_000}
    finished_sweep(tmp_path / UID, [Made(params=odd, value=0.9), Made(value=0.1)])
    member = gather([UID], tmp_path).pool.members[0]
    assert (member.params, member.architecture) == (odd, "<script>alert(1)</script>")


def test_more_predictions_than_memory_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """The files are sparse, and have no more than a header."""
    shapes = {"logits": ("F32", [90_000, 1000], 4), "ids": ("I64", [90_000], 8), "labels": ("I64", [90_000], 8)}
    small = {"logits": ("F32", [1, 1000], 4), "ids": ("I64", [1], 8), "labels": ("I64", [1], 8)}
    listed: dict[str, Any] = {}
    end = 0
    for split, of_split in (("val", shapes), ("test", small)):
        for name, (dtype, shape, size) in of_split.items():
            begin, end = end, end + size * math.prod(shape)
            listed[f"{split}_{name}"] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    count = psutil.virtual_memory().total // (2 * 360 * 10**6) + 2
    classes = [str(number) for number in range(1000)]
    folder = finished_sweep(tmp_path / UID, [Made()] * count, val=1, test=1, classes=["a"])
    for index in range(count):
        state = {"uid": f"{UID}/{index}", "fingerprint": FINGERPRINT, "classes": classes}
        header = json.dumps({"__metadata__": {"state": json.dumps(state)}, **listed}).encode()
        path = trial_folder(folder, index) / PREDICTIONS
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + end)
    with pytest.raises(
        NotReadyError, match=rf"the predictions of {count} trials take .* GB .* choose trials with --filter"
    ):
        gather([UID], tmp_path)


def test_whatever_a_file_holds_it_is_predictions_or_unfit() -> None:
    """A thousand files of which some letters of the header, or some of its values, are others."""
    draw = random.Random(0)
    state = {"uid": "x", "fingerprint": "f", "classes": list(CLASSES), "history": [[1, 0, {}]], "best_epoch": 1}
    whole = packed(predictions(0, VAL, TEST, 3), state)
    length = int.from_bytes(whole[:8], "little")
    odd = [None, True, -1, 2**63, 1e300, "x", "\ud800", [], {}, [[]], [0, 10**9], {"a": []}, "[" * 2000]
    unfit = 0
    for turn in range(1000):
        if turn % 2:
            contents = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                contents[draw.randrange(8 + length)] = draw.randrange(256)
            made = bytes(contents)
        else:
            header = json.loads(whole[8 : 8 + length])
            inner = json.loads(header["__metadata__"]["state"])
            tensor = header[draw.choice(sorted(set(header) - {"__metadata__"}))]
            for tree in draw.sample([header, inner, tensor, header["__metadata__"]], 2):
                tree[draw.choice(sorted(tree))] = draw.choice(odd)
            if isinstance(header.get("__metadata__"), dict) and draw.random() < 0.8:
                header["__metadata__"]["state"] = json.dumps(inner)
            text = json.dumps(header).encode()
            made = len(text).to_bytes(8, "little") + text + whole[8 + length :]
        try:
            header_of = parse_header(made)
            for split in SPLITS:
                labels, ids = examples(made, header_of, split)
                out = np.empty((len(labels), len(header_of.classes)), np.float32)
                logits(made, header_of, split, out)
                assert ids.shape == labels.shape
        except UnfitError:
            unfit += 1
    assert 500 < unfit < 1000


@pytest.mark.slow
def test_a_thousand_members_take_little_more_memory_than_their_predictions(tmp_path: Path) -> None:
    """1,000 members x 10,000 examples x 10 classes are 0.4 GB; limited to 2 GB by the kernel."""
    finished_sweep(tmp_path / UID, [Made()] * 1000, val=10_000, test=1000, classes=list("abcdefghij"))
    code = f"""
import re
from pathlib import Path
from orchestrator.ensembles.gathering import gather
gathered = gather([{UID!r}], Path({str(tmp_path)!r}))
print(gathered.pool.logits_MNK.shape, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1000)
"""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, (2 * 10**9, 2 * 10**9))\n{code}"
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1000, 10000, 10)")
    assert int(done.stdout.split()[-1]) < 1000


@pytest.mark.parametrize(
    ("uri", "error", "why"),
    [
        ("", ConfigError, "must be the address of a tracking server"),
        ("htp://host:5000", ConfigError, "must be the address of a tracking server"),
        ("http://", ConfigError, "must start with http:// or https:// and name a host"),
        ("http://host:port", ConfigError, "cannot be read"),
        ("sqlite:///no/such/mlflow.db", NotReadyError, "there is no database no/such/mlflow.db"),
        ("mlruns", ConfigError, "must be the address of a tracking server"),
    ],
)
def test_an_address_that_is_none_is_refused_and_no_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, error: type[Exception], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=why):
        gather(["one"], tmp_path / "runs", uri=uri)
    assert not [*tmp_path.iterdir()]
