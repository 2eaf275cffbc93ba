"""A reader of the journal that ships a sweep to MLflow, from a process of its own, and serves MLflow's dashboard."""
