"""Learning-rate schedules, one a file. A target takes the number of epochs, the steps of each if it wants, and its own settings,
and gives a `Schedule`. `after_warmup` puts the warm-up before all but the one-cycle schedule, which has its own."""

from orchestrator.training.schedules.adaptive import adaptive
from orchestrator.training.schedules.base import ObservingSchedule, Schedule
from orchestrator.training.schedules.constant import constant
from orchestrator.training.schedules.cosine import cosine
from orchestrator.training.schedules.cyclic_cosine import cyclic_cosine
from orchestrator.training.schedules.exponential import exponential
from orchestrator.training.schedules.one_cycle import one_cycle
from orchestrator.training.schedules.plateau import plateau
from orchestrator.training.schedules.polynomial import polynomial
from orchestrator.training.schedules.step import step
from orchestrator.training.schedules.warmup import after_warmup

__all__ = [
    "ObservingSchedule",
    "Schedule",
    "adaptive",
    "after_warmup",
    "constant",
    "cosine",
    "cyclic_cosine",
    "exponential",
    "one_cycle",
    "plateau",
    "polynomial",
    "step",
]
