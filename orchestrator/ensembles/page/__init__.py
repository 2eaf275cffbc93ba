"""The page of a comparison: one offline HTML file, made from its record alone."""

from orchestrator.ensembles.page.build import write_page

__all__ = ["write_page"]
