"""Keeps memory warm: where this machine is a virtual one, its host takes free memory back within seconds (free page
reporting), and whoever touches it next waits for the host, many times as long as for the kernel. A host of VMs, which
is what is to be measured, has no such wait."""

import contextlib
import mmap

_MIB = 1 << 20
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14


class Reservoir:
    """Holds so many MiB of touched memory, in huge pages, on a machine that needs no more than the rest of it."""

    def __init__(self, mib):
        self._memory = mmap.mmap(-1, mib * _MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._memory.madvise(_POPULATE_WRITE)

    @contextlib.contextmanager
    def lent(self):
        """Meanwhile its memory is free for all to take; afterwards it takes what has become free instead."""
        self._memory.madvise(mmap.MADV_DONTNEED)
        try:
            yield
        finally:
            self._memory.madvise(_POPULATE_WRITE)

    def close(self):
        self._memory.close()
