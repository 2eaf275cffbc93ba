"""The pages of diagnose: one offline HTML file each, in the frame of the reports, one module a figure."""

from orchestrator.diagnosis.page.network import network_page

__all__ = ["network_page"]
