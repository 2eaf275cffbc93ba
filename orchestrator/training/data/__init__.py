"""Data sets: what a trial trains on, decoded once a machine and shared by all its trials.

A target in `conf/data` returns a `Dataset` (arrays in memory, `make_dataset`) or a `Source` (decoded once into the cache).
"""

from orchestrator.training.data.cache import cache_folder, cache_size, clear_cache
from orchestrator.training.data.dataset import Dataset, make_dataset
from orchestrator.training.data.loading import load
from orchestrator.training.data.source import Contents, Source

__all__ = ["Contents", "Dataset", "Source", "cache_folder", "cache_size", "clear_cache", "load", "make_dataset"]
