"""The pages of diagnose: one offline HTML file each, in the frame of the reports."""

from orchestrator.diagnosis.page.lesion import lesion_page
from orchestrator.diagnosis.page.network import network_page
from orchestrator.diagnosis.page.paths import paths_page
from orchestrator.diagnosis.page.trajectories import trajectories_page

__all__ = ["lesion_page", "network_page", "paths_page", "trajectories_page"]
