"""Meters: processor time of the whole machine, bytes on the wire, populated memory of a guest."""

import mmap
import os
import pathlib
import threading
import time

import numpy

NOISE_CORES = 0.2  # so much beside the guests, and a measurement is worth little

_PAGE = 4096
_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.005
_COPYING_BYTES = 8 << 20


def cpu_seconds():
    """Processor time of everything on this machine since it started: user, nice, system, irq, softirq, steal.
    (User time includes that of KVM guests.)"""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def process_cpu_seconds(pid):
    """Processor time of one process since it started."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Cpu:
    """Processor time since it was made, and its rate."""

    def __init__(self):
        self._time, self._cpu = time.monotonic(), cpu_seconds()

    def spent(self):
        return cpu_seconds() - self._cpu

    def elapsed(self):
        return time.monotonic() - self._time


class Wire:
    """Bytes that go to a host through its port of the switch, from the moment this is made to stop()."""

    def __init__(self, network, host):
        self._counters = pathlib.Path(f"/proc/{network.switch.pid}/net/dev")
        self._port = network.port(network.hosts[host]) + ":"
        self._first = self._sent()
        self.copying_since = None  # time.time() when the first 8 MiB were through
        self.bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self):
        self._stopped.set()
        self._thread.join()
        self.bytes = self._sent() - self._first

    def _sent(self):
        for line in self._counters.read_text(encoding="ascii").splitlines():
            if line.strip().startswith(self._port):
                return int(line.split()[9])
        raise RuntimeError(f"the switch has no port {self._port}")

    def _watch(self):
        while not self._stopped.wait(_SAMPLE_SECONDS):
            if self._sent() - self._first >= _COPYING_BYTES:
                self.copying_since = time.time()
                return


def populated_bytes(pid, memory_mib):
    """Bytes in those pages of a guest's RAM that are not all zeros, found in its QEMU."""
    start, end = _ram_mapping(pid, memory_mib << 20)
    count = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, pages in _present_runs(pid, start, (end - start) // _PAGE):
            memory.seek(start + first * _PAGE)
            words = numpy.frombuffer(memory.read(pages * _PAGE), numpy.uint64)
            count += int(numpy.count_nonzero(words.reshape(-1, _PAGE // 8).any(axis=1)))
    return count * _PAGE


def _ram_mapping(pid, size):
    """The smallest mapping that can hold it and is not for code: TCG's translations may take more room than the RAM."""
    mappings = []
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if end - start >= size and "w" in rights and "x" not in rights:
            mappings.append((end - start, start, end))
    if not mappings:
        raise RuntimeError(f"no mapping of process {pid} can hold {size >> 20} MiB of guest RAM")
    return min(mappings)[1:]


def _present_runs(pid, start, pages, longest=4096):
    """(first page, number of pages) of runs that are in memory: others were never touched and are zero."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        file.seek(start // _PAGE * 8)
        present = numpy.frombuffer(file.read(pages * 8), numpy.uint64) >> numpy.uint64(63) != 0
    edges = numpy.flatnonzero(numpy.diff(present, prepend=False, append=False))
    for first, last in edges.reshape(-1, 2).tolist():
        for begin in range(first, last, longest):
            yield begin, min(longest, last - begin)


TOUCHED_MIB = 1024  # by the next


def touch_seconds_per_gib():
    """How long the first touch of free memory takes, in huge pages."""
    size = TOUCHED_MIB << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        start = time.monotonic()
        for page in range(0, size, _PAGE):
            memory[page] = 1
        return (time.monotonic() - start) * 1024 / TOUCHED_MIB


def page_fault_microseconds():
    """How long a write waits for a page that is in memory, but not in the page tables of who writes. Tracking the writes
    of a guest (userfaultfd) costs as much for each page; a virtual machine without page tables in hardware pays most."""
    size = 64 << 20
    file = os.memfd_create("page-faults")
    try:
        os.pwrite(file, bytes(size), 0)
        with mmap.mmap(file, size) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            pages = numpy.frombuffer(memory, numpy.uint8)[::_PAGE]
            start = time.monotonic()
            pages[:] = 1
            spent = time.monotonic() - start
            del pages  # or the mapping could not be closed
    finally:
        os.close(file)
    return spent / (size // _PAGE) * 1e6
