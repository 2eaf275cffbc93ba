"""What the answers of the nodes add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.scheduling.ray.cluster import Node
from orchestrator.scheduling.ray.survey import NONCE, _check_written, _look, _nonce, _why, decide


def answer(**changes: Any) -> dict[str, Any]:
    return {"device": "cpu", "name": "AVX512", "bf16": False, "tf32": False} | changes


AMX, PLAIN = answer(bf16=True), answer(name="AVX2")
AMPERE = answer(device="cuda", name="NVIDIA A100", bf16=True, tf32=True)


@pytest.mark.parametrize(
    ("asked", "answers", "precision"),
    [
        ("auto", [AMX, AMX], "bf16"),
        ("auto", [AMX, PLAIN], "fp32"),
        ("fp32", [AMX, AMX], "fp32"),
        ("bf16", [PLAIN], "bf16"),
        ("tf32", [AMPERE], "tf32"),
        ("auto", [AMPERE], "bf16"),
    ],
)
def test_auto_is_what_every_node_can(asked: str, answers: list[dict[str, Any]], precision: str) -> None:
    assert decide(asked, [(f"node {place}", given) for place, given in enumerate(answers)]).precision == precision


def test_what_the_trials_compute_with_is_named_once_a_kind() -> None:
    found = decide("auto", [("a", PLAIN), ("b", AMX), ("c", PLAIN)])
    assert found.computes_on == ("cpu AVX2", "cpu AVX512")


def test_nodes_without_tf32_are_named() -> None:
    with pytest.raises(NotReadyError, match=r"precision=tf32: node b cannot .* use precision=fp32"):
        decide("tf32", [("node a", AMPERE), ("node b", PLAIN)])


def test_what_is_wrong_comes_with_what_to_do() -> None:
    lost = RuntimeError("ray::_look()\nModuleNotFoundError: No module named 'orchestrator'")
    assert _why(lost).endswith("No module named 'orchestrator'; install the same packages there as here")
    broken = RuntimeError("RuntimeError: cuda:0 cannot be used: Found no NVIDIA driver")
    assert _why(broken) == (
        "cuda:0 cannot be used: Found no NVIDIA driver; gpus_per_trial=0 device=auto trains on the CPU"
    )


def test_a_node_writes_back_what_it_reads(tmp_path: Path) -> None:
    near, far = Node(1, 0, "near-id", "node near"), Node(1, 0, "far-id", "node far")
    with _nonce(tmp_path) as (folder, nonce):
        assert folder
        assert _look("cpu", 0, str(folder), near.id)["device"] == "cpu"
        answers: Any = [(near, [answer()]), (far, [answer()])]
        _check_written(folder, nonce, answers)
        assert answers[0][1] == [answer()]
        assert "every node has to write to the same runs_dir" in answers[1][1][1]
        (folder / NONCE).unlink()
        with pytest.raises(RuntimeError, match="is not the folder that it is here"):
            _look("cpu", 0, str(folder), near.id)
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_does_not_see_the_weights_says_so(tmp_path: Path) -> None:
    there, missing = tmp_path / "weights.pth", tmp_path / "elsewhere.pth"
    there.touch()
    assert _look("cpu", 0, None, "node", [str(there)])["device"] == "cpu"
    with pytest.raises(
        RuntimeError, match=rf"the pretrained weights {missing} cannot be read; put them where every node"
    ):
        _look("cpu", 0, None, "node", [str(there), str(missing)])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReadyError, match=r"cannot be written .* name another folder"), _nonce(tmp_path / "file"):
        pass
