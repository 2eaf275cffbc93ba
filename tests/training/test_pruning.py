"""Lottery tickets: which weights go, that they stay exactly zero, and that the others begin where the trained trial began."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.base.layout import BEST
from orchestrator.base.records import Trial
from orchestrator.training.pretrained import ticket_key
from orchestrator.training.pruning import lottery_ticket
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Trial]
OWN = "orchestrator.training"
TICKET = f"{OWN}.pruning.lottery_ticket"
NORM = {"_target_": "models.layers.norm.batch_norm"}
NAME = "trained-0000aaaa/0"


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def masks(trained: dict[str, Tensor], **settings: Any) -> dict[str, Tensor]:
    return again(trained, dense(trained), **settings)


def again(trained: dict[str, Tensor], gone: dict[str, Tensor], seed: int = 1, **settings: Any) -> dict[str, Tensor]:
    return lottery_ticket(**settings).removed(trained, gone, torch.Generator().manual_seed(seed))


def dense(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros(weight.shape, dtype=torch.bool) for name, weight in trained.items()}


def state_of(run: TrialRun) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run._learner.whole.state_dict().items()}


@pytest.fixture
def trained(trial: MakeTrial) -> Callable[..., tuple[dict[str, Any], dict[str, Tensor]]]:
    """Trains a trial; what a configuration says of its ticket, and the weights that it began with."""

    def make(name: str = "trained", **changes: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        run = TrialRun(trial(name, seed=5, **changes))
        began = state_of(run)
        for _ in run:
            pass
        run.finish()
        path = Path(run.trial.folder) / BEST
        file = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "seed": 5}
        file |= {"pruned": True} if changes.get("prune") else {}
        return {"ticket": NAME, "pretrained_files": {ticket_key(NAME): file}}, began

    return make


def pruned(sparsity: float = 0.8, mask: str = "magnitude") -> dict[str, Any]:
    return {"_target_": TICKET, "sparsity": sparsity, "mask": mask, "scope": "global"}


def test_the_smallest_of_the_whole_network_go() -> None:
    """Against numpy's order: 80 % of 150 are 120."""
    trained = {"one": drawn(10, 5), "two": 3 * drawn(5, 20, seed=1)}
    found = masks(trained, sparsity=0.8)
    flat = torch.cat([weight.abs().flatten() for weight in trained.values()])
    threshold = sorted(flat.tolist())[120]
    for name, weight in trained.items():
        assert torch.equal(found[name], weight.abs() < threshold)


def test_or_the_same_share_of_each_layer() -> None:
    trained = {"one": drawn(10, 5), "two": 3 * drawn(5, 20, seed=1)}
    found = masks(trained, sparsity=0.8, scope="layer")
    assert [int(mask.sum()) for mask in found.values()] == [40, 80]
    for name, weight in trained.items():
        assert weight.abs()[found[name]].max() < weight.abs()[~found[name]].min()


def test_a_random_mask_is_as_dense_in_each_layer() -> None:
    trained = {"one": drawn(10, 5), "two": 3 * drawn(5, 20, seed=1)}
    found, random = masks(trained, sparsity=0.8), masks(trained, sparsity=0.8, mask="random")
    for name, mask in found.items():
        assert int(random[name].sum()) == int(mask.sum())
        assert not torch.equal(random[name], mask)


@pytest.mark.parametrize("mask", ["magnitude", "random"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_the_trained_network_lacks_stays_removed(mask: str, scope: str) -> None:
    """A round of iterative pruning: of 150 weights 90 are gone, and 120 are to go; of the others by their size."""
    trained = {"one": drawn(10, 5), "two": 3 * drawn(5, 20, seed=1)}
    gone = masks(trained, sparsity=0.6, mask="random", scope="layer")
    trained = {name: weight.masked_fill(gone[name], 0) for name, weight in trained.items()}
    found = again(trained, gone, sparsity=0.8, mask=mask, scope=scope)
    assert sum(int(each.sum()) for each in found.values()) == 120
    for name in trained:
        assert not (gone[name] & ~found[name]).any(), name
    if mask == "magnitude" and scope == "global":
        sizes = sorted(value for weight in trained.values() for value in weight.abs().flatten().tolist() if value)
        for name, weight in trained.items():
            assert torch.equal(found[name], gone[name] | (weight.abs() < sizes[30])), name


def test_a_sparsity_below_that_of_the_trained_network_is_refused() -> None:
    trained = {"one": drawn(10, 5), "two": 3 * drawn(5, 20, seed=1)}
    gone = masks(trained, sparsity=0.8)
    assert again(trained, gone, sparsity=0.8).keys() == gone.keys()
    with pytest.raises(ValueError, match=r"sparsity=0.5 is below the 0.8 of the trial .* at least 0.8"):
        again(trained, gone, sparsity=0.5)
    most = max(int(each.sum()) / each.numel() for each in gone.values())
    with pytest.raises(ValueError, match=rf"below the {most:g} of the trial .* removed of one stays"):
        again(trained, gone, sparsity=0.8, scope="layer")


def test_chance_decides_between_weights_of_equal_size() -> None:
    """Not the place: the first layer alone would go."""
    equal = {"one": torch.ones(10, 10), "two": torch.ones(10, 10)}
    found = masks(equal, sparsity=0.5)
    assert sum(int(each.sum()) for each in found.values()) == 100
    assert 20 < int(found["one"].sum()) < 80
    assert all(torch.equal(mask, masks(equal, sparsity=0.5)[name]) for name, mask in found.items())
    assert not torch.equal(found["one"], again(equal, dense(equal), seed=2, sparsity=0.5)["one"])


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_exactly_so_many_go_even_where_all_are_equal(sparsity: float) -> None:
    (mask,) = masks({"one": torch.ones(7, 3)}, sparsity=sparsity).values()
    assert int(mask.sum()) == int(21 * sparsity + 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "sparsity must be at least 0 and less than 1, got 1.0"),
        ({"mask": "smallest"}, "mask must be one of magnitude, random"),
        ({"scope": "network"}, "scope must be one of global, layer"),
    ],
)
def test_wrong_values_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lottery_ticket(**settings)


@pytest.mark.parametrize("init", [{}, {"_target_": "models.initializers.lsuv.lsuv"}], ids=["default", "looks at data"])
def test_what_is_left_begins_with_the_bits_with_which_the_trained_trial_began(
    trial: MakeTrial, trained: Any, init: dict[str, Any]
) -> None:
    """Whatever the seed of the new trial, which decides order and masks alone."""
    ticket, began = trained(norm=NORM, init=init)
    run = TrialRun(trial("rewound", seed=9, norm=NORM, init=init, prune=pruned(), **ticket))
    gone = 0
    for name, tensor in state_of(run).items():
        kept = tensor != 0 if began[name].ndim > 1 else torch.ones_like(tensor, dtype=torch.bool)
        assert torch.equal(tensor[kept], began[name][kept]), name
        gone += int((~kept).sum())
    assert gone == int(0.8 * sum(tensor.numel() for tensor in began.values() if tensor.ndim > 1) + 0.5)


def test_the_control_begins_with_other_weights_of_the_same_scheme(trial: MakeTrial, trained: Any) -> None:
    """With the same masks; whether the trial has the seed of the trained one or another."""
    ticket, began = trained(norm=NORM)
    states = []
    for seed in (5, 9):
        for reinit in (False, True):
            prune = pruned() | {"reinit": reinit}
            states.append(state_of(TrialRun(trial(f"{seed}{reinit}", seed=seed, norm=NORM, prune=prune, **ticket))))
    weights = [name for name, one in began.items() if one.ndim > 1]
    for name in weights:
        first, *others = [state[name] for state in states]
        assert all(torch.equal(first == 0, other == 0) for other in others), name
        kept = first != 0
        assert torch.equal(first[kept], others[1][kept])
        assert (others[0][kept] != first[kept]).all()
        assert (others[2][kept] != others[0][kept]).all()


@pytest.mark.parametrize(
    "optimizer",
    [
        {"_target_": f"{OWN}.optimizers.sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
        {"_target_": f"{OWN}.optimizers.adamw", "lr": 0.01},
        {"_target_": f"{OWN}.optimizers.muon"},
        {"_target_": f"{OWN}.optimizers.gradient_descent", "lr": 0.1},
    ],
    ids=lambda spec: spec["_target_"].rpartition(".")[2],
)
@pytest.mark.parametrize("mask", ["magnitude", "random"])
def test_they_stay_exactly_zero_in_every_step(
    trial: MakeTrial, trained: Any, optimizer: dict[str, Any], mask: str
) -> None:
    ticket, _ = trained()
    run = TrialRun(
        trial("sparse", prune=pruned(0.5, mask), optimizer=optimizer, clip_grad_norm=1.0, ema_decay=0.9, **ticket)
    )
    weights = {name: one for name, one in run._learner.whole.named_parameters() if one.ndim > 1}
    zero = {name: one == 0 for name, one in weights.items()}
    assert sum(int(mask.sum()) for mask in zero.values()) == sum(one.numel() for one in weights.values()) // 2
    before = {name: one.detach().clone() for name, one in weights.items()}
    seen: list[float] = []
    forward = run._learner.model.register_forward_pre_hook(
        lambda *_: seen.append(max(float(one.detach()[zero[name]].abs().max()) for name, one in weights.items()))
    )
    for _ in run:
        pass
    forward.remove()
    run.finish()
    assert len(seen) > 5
    assert max(seen) == 0
    assert all((one[~zero[name]] != before[name][~zero[name]]).any() for name, one in weights.items()), (
        "the others move"
    )


@pytest.mark.parametrize("mask", ["magnitude", "random"])
def test_a_stopped_trial_continues_bit_for_bit(trial: MakeTrial, trained: Any, mask: str) -> None:
    ticket, _ = trained()
    changes = {"prune": pruned(0.5, mask), "epochs": 3, **ticket}
    whole = TrialRun(trial("whole", **changes))
    list(whole)
    first = TrialRun(trial("stopped", **changes))
    next(first)
    first.save()
    second = TrialRun(trial("stopped", **changes))
    assert second.epoch == 1
    list(second)
    for name, tensor in state_of(whole).items():
        assert torch.equal(tensor, state_of(second)[name]), name


@pytest.mark.parametrize("mask", ["magnitude", "random"])
def test_the_ticket_of_a_ticket_keeps_its_zeros(trial: MakeTrial, trained: Any, mask: str) -> None:
    first, _ = trained()
    second, began = trained("sparse", prune=pruned(0.5, "random"), **first)
    state = state_of(TrialRun(trial("sparser", prune=pruned(0.7, mask), **second)))
    weights = {name: one for name, one in began.items() if one.ndim > 1}
    assert sum(int((one == 0).sum()) for one in weights.values()) == sum(one.numel() for one in weights.values()) // 2
    assert all((state[name][one == 0] == 0).all() for name, one in weights.items())
    gone = sum(int((state[name] == 0).sum()) for name in weights)
    assert gone == int(0.7 * sum(one.numel() for one in weights.values()) + 0.5)


def test_without_a_ticket_it_says_what_to_write(trial: MakeTrial) -> None:
    with pytest.raises(ValueError, match="takes a trained trial; write search=lottery_ticket from=SWEEP/7"):
        TrialRun(trial("none", prune=pruned()))


def test_the_ticket_of_another_network_is_refused(trial: MakeTrial, trained: Any) -> None:
    ticket, _ = trained()
    model = {"_target_": "models.mlp.mlp", "hidden": 1, "width": 7}
    with pytest.raises(ValueError, match="the trained network is another: it has "):
        TrialRun(trial("wider", prune=pruned(), model=model, **ticket))


def test_an_optimizer_that_differentiates_gradients_is_refused(trial: MakeTrial, trained: Any) -> None:
    ticket, _ = trained()
    with pytest.raises(ValueError, match="set prune=none"):
        TrialRun(trial("curved", prune=pruned(), optimizer={"_target_": f"{OWN}.optimizers.hessian_free"}, **ticket))
