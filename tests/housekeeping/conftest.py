from tests.synthetic import new_sweep, ship

__all__ = ["new_sweep", "ship"]
