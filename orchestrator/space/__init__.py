"""The search space: domains, parameters, the conditions under which they apply."""

from orchestrator.space.domains import Choice, Domain, Interval, Range, same
from orchestrator.space.space import Condition, Parameter, Space

__all__ = ["Choice", "Condition", "Domain", "Interval", "Parameter", "Range", "Space", "same"]
