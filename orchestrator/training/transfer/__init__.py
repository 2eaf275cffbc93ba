"""What of a network is trained, and how fast, from a linear probe to the whole. A target gives a `Transfer`.

Li, Johnson and Yeung 2017, CS231n lecture 7, advise in four cases. Little data: a linear classifier on top (`head`) if they are
like those of the weights, else on other stages (`stage_probe`). Much data: a few layers (`few_layers`), else more
(`many_layers`).

What is frozen keeps every bit, the running statistics of its norms included: it runs as in evaluation, so without dropout, and
has no gradient, no weight decay and no place in the penalty of `l2`.
"""

from orchestrator.training.transfer.base import Transfer
from orchestrator.training.transfer.probes import head, stage_probe
from orchestrator.training.transfer.tuning import scratch, top_layers, whole

__all__ = ["Transfer", "head", "scratch", "stage_probe", "top_layers", "whole"]
