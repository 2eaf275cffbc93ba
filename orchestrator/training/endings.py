"""How the training of a trial can end other than by finishing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """The training loss, the gradient or the validation loss is no longer finite: a result of the trial, not a fault.

    Args:
        epoch: from 1.
        step: within the epoch, from 1; the last one where validation showed it.
        value: inf or nan.
        what: whose value; what is not `loss` is known after the epoch.
    """

    def __init__(self, epoch: int, step: int, value: float, what: str = "loss") -> None:
        super().__init__(epoch, step, value, what)
        self.epoch, self.step, self.value, self.what = epoch, step, value, what

    def __str__(self) -> str:
        if self.what != "loss":
            return f"the {self.what} is {self.value} after epoch {self.epoch}"
        return f"the loss is {self.value} at epoch {self.epoch}, step {self.step}"


class Infeasible(Exception):  # noqa: N818 - a result, not an error
    """The trial does not fit into memory: a result of the trial, not a fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Superseded(Exception):  # noqa: N818 - nothing went wrong here
    """A later attempt at the trial has begun elsewhere; this one may not write any more."""


@contextmanager
def feasible() -> Iterator[None]:
    """Raise `Infeasible` where the body runs out of memory, on either device."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Infeasible(f"out of memory: {_first_line(error)}") from error
    except RuntimeError as error:
        # the CPU allocator has no error class of its own, and two wordings
        if "you tried to allocate" not in str(error):
            raise
        raise Infeasible(f"out of memory: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
