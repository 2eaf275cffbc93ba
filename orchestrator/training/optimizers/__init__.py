"""Optimizers, one a file. A target takes parameters and its own settings and gives a `torch.optim.Optimizer`.

The parameters come as `params`, the tensors alone, or as `named_params`, with the name and role of each
(`optimizers.parameters`), for decay groups, Muon and layer-wise learning rates. The learning rates of the groups are the base
that the schedule multiplies.

`step(closure)` is given a closure that clears the gradients, computes the loss of the batch, takes its gradient and returns the
loss with the penalty. It must be called at least once and may be called again with other weights (SAM, L-BFGS); `train/loss` is
that of the first call. An optimizer with a true attribute `needs_graph` can differentiate the gradients again (Newton,
Hessian-free). One with a true `decoupled` has weight decay that is no part of the gradient.
"""

from orchestrator.training.optimizers.adam import adam
from orchestrator.training.optimizers.adamw import adamw
from orchestrator.training.optimizers.parameters import NamedParameter, decay_groups, named_parameters
from orchestrator.training.optimizers.rmsprop import rmsprop
from orchestrator.training.optimizers.sgd import sgd

__all__ = ["NamedParameter", "adam", "adamw", "decay_groups", "named_parameters", "rmsprop", "sgd"]
