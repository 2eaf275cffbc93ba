"""What the test says, read after the winner is fixed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.base.errors import NotReadyError
from orchestrator.ensembles.catalogue import BASELINE
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.gathering import Gathered
from orchestrator.ensembles.judging import Unseen, judge
from orchestrator.ensembles.looking import agreement, confusion, seed_spread, sizes, worst
from orchestrator.ensembles.parallel import one_thread_of_blas
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.pooling import Ensemble


def read_test(gathered: Gathered, pool: Pool) -> Unseen:
    """
    Raises:
        NotReadyError: what is read does not fit the pool.
    """
    logits_MNK, labels_N, ids_N = gathered.read_test([member.name for member in pool.members])
    unseen = Unseen(logits_MNK, labels_N, ids_N)
    if logits_MNK.shape != (len(pool), len(labels_N), len(pool.classes)) or ids_N.shape != labels_N.shape:
        raise NotReadyError(f"the test predictions of the members do not fit each other: {logits_MNK.shape}")
    return unseen


@one_thread_of_blas()
def add_test(
    comparison: Comparison, ensembles: Sequence[Ensemble], first: int, pool: Pool, unseen: Unseen, *, calibrate: bool
) -> None:
    """Puts what the test says into the comparison, whose rows are then in its order.

    Args:
        unseen: of the pool, and behind it of the networks that were made.
    """
    rows, settings = [*comparison["rows"]], comparison["settings"]
    baseline = next(place for place, row in enumerate(rows) if row["method"] == BASELINE)
    made_of = {
        place: member["ingredients"] for place, member in enumerate(comparison["members"]) if "ingredients" in member
    }
    judge(
        rows,
        ensembles,
        baseline,
        unseen,
        ingredients=made_of,
        seed=settings["seed"],
        resamples=settings["resamples"],
    )
    winner, said_NK = ensembles[first], unseen.of(ensembles[first])
    longest = max(range(len(rows)), key=lambda place: len(rows[place]["steps"]))
    selection = (rows[longest]["method"], ensembles[longest]) if rows[longest]["steps"] else None
    comparison["examples"] = {**comparison["examples"], "test": len(unseen.labels_N)}
    comparison["sizes"] = sizes(selection, pool, unseen, calibrate=calibrate)
    comparison["agreement"] = agreement(winner, unseen)
    comparison["confusion"] = confusion(said_NK, unseen.labels_N)
    comparison["worst"] = worst(winner, said_NK, unseen)
    accuracy_M = unseen.is_right_MN.mean(axis=1)
    comparison["corrected"] = {**comparison["corrected"], "seeds_test": seed_spread(pool, accuracy_M[: len(pool)])}
    comparison["rows"] = sorted(
        rows, key=lambda row: (-row["test"]["measures"]["accuracy"], row["test"]["measures"]["nll"], row["method"])
    )
