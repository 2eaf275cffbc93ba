"""From overrides and YAML to a checked SweepPlan. Only `planning` and what it calls import Hydra."""
