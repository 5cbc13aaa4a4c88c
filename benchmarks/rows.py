"""Every row, in the order in which the table shows them."""

from benchmarks import batches, cached, growth, imports, memory, peers, reads, rights, threads, writes
from benchmarks.harness import Row

ROWS: tuple[Row, ...] = (
    *reads.ROWS,
    *threads.ROWS,
    *writes.ROWS,
    *batches.ROWS,
    *cached.ROWS,
    *rights.ROWS,
    *growth.ROWS,
    *memory.ROWS,
    *imports.ROWS,
    *peers.ROWS,
)
