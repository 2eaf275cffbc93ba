"""Test time: how often, and how, a trained network is asked about an image, one way a file; its answers are averaged.

The ordinary inference (one look, dropout layers pass on what they get) is none of these: its choices are empty.
"""

from orchestrator.training.evaluation.base import Evaluation as Evaluation
from orchestrator.training.evaluation.base import Look as Look
from orchestrator.training.evaluation.base import averaged as averaged
