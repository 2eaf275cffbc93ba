"""Stacked generalization: a regularized multinomial regression on the members' log-probabilities.

Wolpert 1992, Stacked generalization, Neural Networks 5; on class probabilities: Ting and Witten 1999, JAIR 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import SMALLEST, Ensemble, log_softmax, softmax, temperature_of

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

# m members, N examples, K classes

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
        from scipy.optimize import minimize

        del generator
        classes = pool.logits_MNK.shape[2]
        m = min(self.top, len(pool), MOST_COEFFICIENTS // classes**2)
        if m < min(2, len(pool), self.top):
            raise NotPossibleError(
                f"of {classes} classes two members have more than {MOST_COEFFICIENTS:,} coefficients"
            )
        features_mNK = np.maximum(log_softmax(pool.logits_MNK[:m]), np.log(SMALLEST))
        examples = features_mNK.shape[1]
        x_NF = np.concatenate([*features_mNK, np.ones((examples, 1))], axis=1)
        temperature = temperature_of(softmax(features_mNK.mean(axis=0)), pool.labels_N)
        start_FK = np.concatenate([*([np.eye(classes) / (m * temperature)] * m), np.zeros((1, classes))])
        target_NK = np.eye(classes)[pool.labels_N]
        pull = self.strength / examples

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w_FK = flat.reshape(start_FK.shape)
            logs_NK = log_softmax(x_NF @ w_FK)
            apart_FK = w_FK - start_FK
            gradient_FK = x_NF.T @ (np.exp(logs_NK) - target_NK) / examples + pull * apart_FK
            value = -(logs_NK * target_NK).sum() / examples + pull / 2 * (apart_FK**2).sum()
            return float(value), gradient_FK.ravel()

        found = minimize(loss, start_FK.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
        w_FK = found.x.reshape(start_FK.shape)
        return Ensemble(
            members=tuple(range(m)),
            weights=(1 / m,) * m,
            pooling="stacked",
            coefficients_mKK=w_FK[:-1].reshape(m, classes, classes),
            intercept_K=w_FK[-1],
        )
