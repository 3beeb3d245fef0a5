"""Free memory of this machine, kept warm.

A virtual machine whose host takes free memory back (free page reporting of virtio-balloon) waits for that host whenever
it touches fresh memory: for seconds per GiB, where a machine of its own clears it in a tenth. What is in use is not
taken back. So all memory that a measurement does not need just then is held here, and let go right before it does.
"""

import mmap
import pathlib

_BLOCK_MIB = 64
# What else runs, beside the guests: two installations of sealift, tunnels, page tables, and what QEMU allocates itself.
_RESERVE_MIB = 1536
_MADV_POPULATE_WRITE = 23  # linux/mman.h; Python 3.11 has no name for it
_VIRTIO_ID_BALLOON = "0x0005"
_VIRTIO_BALLOON_F_REPORTING = 5  # linux/virtio_balloon.h


class FreeMemory:
    """On a machine that keeps its free memory: there is nothing to do."""

    def leave(self, mib):
        """Sees to it that so much is free and warm for the next moments."""

    def available_mib(self):
        """What guests may take."""
        return _meminfo_mib("MemAvailable")

    def close(self):
        """Lets go what is held."""


class WarmMemory(FreeMemory):
    """On one whose host takes it back. Holding it for the first time takes as long as that host needs."""

    def __init__(self):
        self._blocks = []
        self.leave(0)

    def leave(self, mib):
        # What is let go stays warm for about 2 seconds, and is the first to be allocated again.
        wanted = mib + _RESERVE_MIB
        while _meminfo_mib("MemFree") < wanted and self._blocks:
            self._blocks.pop().close()
        while _meminfo_mib("MemFree") >= wanted + _BLOCK_MIB:
            self._blocks.append(_touched_block())

    def available_mib(self):
        return super().available_mib() + len(self._blocks) * _BLOCK_MIB

    def close(self):
        while self._blocks:
            self._blocks.pop().close()


def host_takes_free_memory():
    """Whether this machine tells its host which memory is free."""
    return any((device / "device").read_text(encoding="ascii").strip() == _VIRTIO_ID_BALLOON and
               (device / "features").read_text(encoding="ascii")[_VIRTIO_BALLOON_F_REPORTING] == "1"
               for device in pathlib.Path("/sys/bus/virtio/devices").glob("*"))


def memory_for_guests():
    return WarmMemory() if host_takes_free_memory() else FreeMemory()


def _meminfo_mib(name):
    text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    return int(text.split(f"{name}:")[1].split()[0]) >> 10


def _touched_block():
    block = mmap.mmap(-1, _BLOCK_MIB << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_HUGEPAGE)
    block.madvise(_MADV_POPULATE_WRITE)
    return block
