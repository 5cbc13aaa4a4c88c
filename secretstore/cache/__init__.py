"""The cache in front of the stand-alone clients."""

from secretstore.cache.config import CacheConfig, CacheStatistics

__all__ = ["CacheConfig", "CacheStatistics"]
