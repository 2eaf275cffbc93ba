"""Optimizers, one a file. A target takes parameters and its own settings and gives a `torch.optim.Optimizer`.

The parameters come as `params`, the tensors alone, or as `named_params`, with the name and role of each
(`optimizers.parameters`), for decay groups, Muon and layer-wise learning rates. The learning rates of the groups are the base
that the schedule multiplies.

`step(closure)` is given a closure that clears the gradients, computes the loss of the batch, takes its gradient and returns the
loss with the penalty. It must be called at least once and may be called again with other weights (SAM, L-BFGS); `train/loss` is
that of the first call. What an optimizer is beside that it says by true attributes:

- `needs_graph`: the gradients can be differentiated again (Newton, Hessian-free); the closure then holds `loss`, `outputs` and
  `penalty` of its first call.
- `full_batch`: it is stepped once an epoch, without a closure, when the gradients are those over the whole training split.
- `decoupled`: its weight decay is no part of the gradient, so not the same as a penalty of squares.
"""

from orchestrator.training.optimizers.adagrad import adagrad
from orchestrator.training.optimizers.adam import adam
from orchestrator.training.optimizers.adamw import adamw
from orchestrator.training.optimizers.gradient_descent import gradient_descent
from orchestrator.training.optimizers.hessian_free import hessian_free
from orchestrator.training.optimizers.muon import muon
from orchestrator.training.optimizers.newton import newton
from orchestrator.training.optimizers.parameters import NamedParameter, decay_groups, named_parameters
from orchestrator.training.optimizers.rmsprop import rmsprop
from orchestrator.training.optimizers.rprop import rprop
from orchestrator.training.optimizers.sgd import sgd
from orchestrator.training.optimizers.sign import sign

__all__ = [
    "NamedParameter",
    "adagrad",
    "adam",
    "adamw",
    "decay_groups",
    "gradient_descent",
    "hessian_free",
    "muon",
    "named_parameters",
    "newton",
    "rmsprop",
    "rprop",
    "sgd",
    "sign",
]
