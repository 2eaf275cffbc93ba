"""Stacked generalization: a regularized multinomial regression on the members' log-probabilities.

Wolpert 1992, Stacked generalization, Neural Networks 5; on class probabilities: Ting and Witten 1999, JAIR 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import SMALLEST, Ensemble, log_softmax, softmax, temperature_of

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

    Array = np.ndarray[Any, Any]

# m members, N examples, K classes, F features: m times K and a constant

MOST_COEFFICIENTS = 100_000
"""Of many classes fewer members are taken, so that a comparison's record holds all coefficients."""


class Stacking:
    """Regresses the labels on the log-probabilities of the best members.

    It begins at the geometric mean with its temperature, whose coefficients it is pulled to, so that few examples leave it there.

    Args:
        top: of so many members, the best ones; of fewer where there are many classes.
        strength: of the squared distance from that start, divided by the number of examples. A weak one learns the
            examples by heart: of fifty members and ten classes there are 5,000 coefficients.
    """

    fits = True

    def __init__(self, top: int = 50, strength: float = 1_000.0) -> None:
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        if not strength > 0:
            raise ValueError(f"strength must be above 0, got {strength}")
        self.top, self.strength = top, strength

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        import numpy as np

        del generator
        classes = pool.logits_of(0).shape[1]
        m = min(self.top, len(pool), MOST_COEFFICIENTS // classes**2)
        if m < min(2, len(pool), self.top):
            raise NotPossibleError(
                f"of {classes} classes two members have more than {MOST_COEFFICIENTS:,} coefficients"
            )
        labels_N, examples = pool.labels_N, len(pool.labels_N)
        x_NF = np.ones((examples, m * classes + 1))
        for place, x_NK in enumerate(np.split(x_NF[:, :-1], m, axis=1)):
            np.maximum(log_softmax(pool.logits_of(place)), np.log(SMALLEST), out=x_NK)
        mean_NK = x_NF[:, :-1].reshape(examples, m, classes).mean(axis=1)
        temperature = temperature_of(softmax(mean_NK), labels_N)
        start_FK = np.concatenate([*([np.eye(classes) / (m * temperature)] * m), np.zeros((1, classes))])
        w_FK = fitted(x_NF, np.eye(classes)[labels_N], start_FK, self.strength / examples)
        return Ensemble(
            members=tuple(range(m)),
            weights=(1 / m,) * m,
            pooling="stacked",
            coefficients_mKK=w_FK[:-1].reshape(m, classes, classes),
            intercept_K=w_FK[-1],
        )


def fitted(x_NF: Array, target_NK: Array, start_FK: Array, pull: float) -> Array:
    """The coefficients with the least mean cross-entropy plus `pull` / 2 times the squared distance from the start.

    Members that see the same images say the same, so that the problem is steep in few directions and flat in the others. It is
    solved in coordinates in which its curvature at the start is about the same in all, which takes a fifth of the steps.
    """
    import numpy as np
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import minimize

    examples = len(x_NF)
    said_NK = softmax(x_NF @ start_FK)
    curved = float((said_NK * (1 - said_NK)).mean())
    least = max(pull, 1e-6)  # without it the matrix may be singular
    root_FF = cholesky(curved * (x_NF.T @ x_NF) / examples + least * np.eye(x_NF.shape[1]))

    def coefficients(flat: Array) -> Array:
        apart_FK: Array = solve_triangular(root_FF, flat.reshape(start_FK.shape), check_finite=False)
        return apart_FK

    def loss(flat: Array) -> tuple[float, Array]:
        apart_FK = coefficients(flat)
        logs_NK = log_softmax(x_NF @ (start_FK + apart_FK))
        gradient_FK = x_NF.T @ (np.exp(logs_NK) - target_NK) / examples + pull * apart_FK
        value = -(logs_NK * target_NK).sum() / examples + pull / 2 * (apart_FK**2).sum()
        return float(value), solve_triangular(root_FF, gradient_FK, trans="T", check_finite=False).ravel()

    found = minimize(loss, np.zeros(start_FK.size), jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-6})
    return start_FK + coefficients(found.x)
