"""What looks at single steps of a training: it changes none of their numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


class StepWatch:
    """Is told of one step; what a watch does not need, it leaves out."""

    def before_step(self) -> None:
        """The weights are those from which the step starts."""

    def watching(self) -> AbstractContextManager[None]:
        """The first forward pass of the step is within."""
        return nullcontext()

    def after_backward(self) -> None:
        """The gradient of that pass is there, before it is shortened."""

    def after_step(self) -> None:
        """The weights are those after the step."""
