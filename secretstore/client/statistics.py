"""What a client says of itself."""

from dataclasses import dataclass

from sqlalchemy import Pool

from secretstore.cache.config import CacheStatistics
from secretstore.orm.lending import Lender


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatistics:
    """How a client and its siblings on other namespaces are in this process.

    `connections` are open, and `connections_in_use` of them work for somebody.  `retries` counts transactions that were
    tried again.  `accesses_dropped` are missing from the record of accesses.  `cache` is None without a cache.
    """

    __module__ = "secretstore"

    connections: int
    connections_in_use: int
    retries: int
    accesses_dropped: int
    cache: CacheStatistics | None


def statistics_of(
    pool: Pool, lender: Lender, *, retries: int, accesses_dropped: int, cache: CacheStatistics | None
) -> ClientStatistics:
    """Return what a client says of itself; of a pool that counts nothing, zeros."""
    idle, out = (int(getattr(pool, name, lambda: 0)()) for name in ("checkedin", "checkedout"))
    # What is kept to be lent is out of the pool, and rests.
    in_use = max(out - lender.count_kept(), 0)
    return ClientStatistics(
        connections=idle + out,
        connections_in_use=in_use,
        retries=retries,
        accesses_dropped=accesses_dropped,
        cache=cache,
    )
