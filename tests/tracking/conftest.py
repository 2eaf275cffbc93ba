from tests.synthetic import new_sweep, ship, tables

__all__ = ["new_sweep", "ship", "tables"]
