"""Learning-rate schedules, one a file. A target takes the number of epochs, the steps of each if it wants, and its own settings,
and gives a `Schedule`."""

from orchestrator.training.schedules.base import ObservingSchedule, Schedule
from orchestrator.training.schedules.constant import constant
from orchestrator.training.schedules.cosine import cosine
from orchestrator.training.schedules.step import step

__all__ = ["ObservingSchedule", "Schedule", "constant", "cosine", "step"]
