"""The story of a trial in words, and what it advises."""

from __future__ import annotations

from typing import Any

from orchestrator.analysis.divergence import divergence_advice, divergence_words, good_rates
from orchestrator.analysis.health import health_words
from orchestrator.base.records import Divergence, State
from orchestrator.journal.record import TrialRecord

LATE: Divergence = {
    "epoch": 3, "step": 18, "replayed": True, "steps": 40, "validation": False, "signal": "gradients", "layer": "fc6",
    "lr": 0.3, "last_good": (3, 17), "gradient": (1.5, 4000.0),
}  # fmt: skip


def advice(told: Divergence | None, config: dict[str, Any], **known: Any) -> list[str]:
    trial = TrialRecord(0, {}, config, 0, 0, 0, divergence=told, **known)
    return [line.partition(":")[0].partition(",")[0] for line in divergence_advice(trial) if "together" not in line]


def config(**changes: Any) -> dict[str, Any]:
    return {
        "choices": {"norm": "none"},
        "optimizer": {"_target_": "sgd", "lr": 0.3},
        "schedule": {"_target_": "cosine", "warmup_epochs": 0.0},
        "clip_grad_norm": None,
        **changes,
    }


def test_the_story_says_what_left_first_where_and_how_fast() -> None:
    assert divergence_words(LATE) == (
        "it began at epoch 3, step 18 of 40: the gradients of module fc6 were not finite first, at learning rate 0.3; the last "
        "good step was step 17 of epoch 3; the gradient had length 4e+03 there, and usually 1.5 in that epoch"
    )
    after = {**LATE, "validation": True, "signal": "outputs", "last_good": (3, 40)}
    assert divergence_words(after).startswith(
        "it began at the validation after epoch 3: the outputs of module fc6 were not finite"
    )  # type: ignore[arg-type]
    assert "all 40 steps of that epoch were good" in divergence_words(after)  # type: ignore[arg-type]
    assert "last good step" not in divergence_words(after)  # type: ignore[arg-type]
    first = {**LATE, "signal": "loss", "last_good": None}
    assert "the loss was the first that was not finite" in divergence_words(first)  # type: ignore[arg-type]
    assert "there was no good step before" in divergence_words(first)  # type: ignore[arg-type]


def test_where_it_began_and_where_it_was_noticed_are_told_apart() -> None:
    noticed = "the loss is nan at epoch 3, step 23"
    assert divergence_words(LATE, noticed).endswith(f"; it was noticed later ({noticed})")
    assert "noticed" not in divergence_words(LATE, "the loss is nan at epoch 3, step 18")
    after: Divergence = {**LATE, "validation": True, "last_good": (3, 40)}
    assert "noticed" not in divergence_words(after, "the validation loss is nan after epoch 3")


def test_a_replay_that_found_nothing_says_why() -> None:
    assert "as may be on a GPU" in divergence_words({"epoch": 2, "step": 3, "replayed": False})
    assert divergence_words({"epoch": 2, "step": 3, "replayed": False, "why": "MemoryError: "}).endswith(
        "MemoryError: "
    )


def test_the_advice_follows_from_what_was_found() -> None:
    assert advice(LATE, config()) == ["optimizer.lr=0.1", "clip_grad_norm=1.5", "norm=batch"]
    steady: Divergence = {**LATE, "gradient": (1.5, 4.0)}
    assert advice(steady, config(choices={"norm": "batch"})) == ["optimizer.lr=0.1"]
    at_once: Divergence = {**LATE, "epoch": 1, "step": 2}
    del at_once["gradient"]
    assert advice(at_once, config(choices={})) == ["optimizer.lr=0.033", "schedule.warmup_epochs=1"]
    assert advice(at_once, config(choices={}, schedule={"warmup_epochs": 1.0})) == ["optimizer.lr=0.033"]


def test_what_is_set_already_is_not_advised() -> None:
    assert "clip_grad_norm=1.5" not in advice(LATE, config(clip_grad_norm=1.0))


def test_a_learning_rate_that_trained_in_the_sweep_comes_first() -> None:
    """The largest below its own of the same optimizer; trials that diverged, or are under way, say nothing."""

    def other(index: int, lr: float, state: State = State.COMPLETED, target: str = "sgd") -> TrialRecord:
        optimizer = {"_target_": target, "lr": lr}
        return TrialRecord(index, {}, config(optimizer=optimizer), 0, 0, 0, state=state)

    fine = [other(1, 0.01), other(2, 0.02, State.STOPPED), other(6, 1.0), other(7, 0.3)]
    silent = [other(3, 0.05, State.DIVERGED), other(4, 0.1, target="adam"), other(5, 0.2, State.RUNNING)]
    good = good_rates([*fine, *silent])
    diverged = TrialRecord(0, {}, config(), 0, 0, 0, divergence=LATE)
    first, second, *_, last = divergence_advice(diverged, good)
    assert first == "optimizer.lr=0.02: trial 2 of this sweep did not diverge with it"
    assert second.startswith("optimizer.lr=0.1: a third")
    assert last == "several of these together: each alone may not be enough"
    smallest = TrialRecord(0, {}, config(optimizer={"_target_": "sgd", "lr": 0.01}), 0, 0, 0, divergence=LATE)
    assert "did not diverge" not in divergence_advice(smallest, good)[0]


def test_an_exploding_initialization_comes_first() -> None:
    health = {"verdict": "exploding", "layer": "fc6", "signal": "outputs", "ratio": 5e3}
    first, *_ = advice(LATE, config(), init_health=health)
    assert first == "a smaller initialization"


def test_health_is_told_in_one_line() -> None:
    assert health_words({"verdict": "ok"}) == "ok"
    lost = health_words({"verdict": "vanishing", "layer": "fc3", "signal": "outputs", "ratio": 1.3e-6})
    assert lost == (
        "vanishing: outputs shrink to 1.3e-06 times their strength on the way to the last layer, out of bounds from module fc3 on"
    )
    back = health_words({"verdict": "exploding", "layer": "fc3", "signal": "gradients", "ratio": 7.2e4})
    assert "gradients grow to 7.2e+04 times their strength back to the first layer" in back
    assert "not finite" in health_words({"verdict": "exploding", "layer": "fc3", "signal": "outputs", "ratio": None})
