"""Where the processor time of migrations goes: perf samples the whole machine, and what falls into a migration is
sorted by what was being done. The guests' own processors and idle time are left out."""

import collections
import re
import subprocess
import time

_HERTZ = 797
_START_SECONDS = 1
_READ_SECONDS = 300
_LINE = re.compile(r"\s*(?P<command>.+?)\s+(?P<time>\d+\.\d+):\s+[0-9a-f]+ (?P<symbol>.*) \((?P<object>.*)\)$")
_NOBODY = re.compile(r"swapper$|CPU \d+/")
_SORTS = (
    ("encryption", re.compile(r"aes_gcm| \S*(libIPSec_MB|libgnutls|libnettle|libhogweed|libcrypto)")),
    ("clearing fresh memory", re.compile(r"clear_(huge_)?page")),
    ("copying to and from sockets", re.compile(r"_copy_(to|from)_iter")),
    ("other copying", re.compile(r"mem(cpy|move)|copy_page|rep_movs")),
    ("QEMU's locks", re.compile(r"pthread_mutex|qemu_mutex")),
    ("the rest of the kernel", re.compile(r"\[kernel|\[\w+\]$")),
)
_REST = "the rest"
COLUMNS = tuple(name for name, _ in _SORTS) + (_REST,)


class Profile:
    """Samples from its making to stop()."""

    def __init__(self, lab):
        self._file = lab.folder("profile") / "perf.data"
        self._process = lab.start("perf", ["perf", "record", "-a", "-q", "-e", "cpu-clock", "-F", str(_HERTZ),
                                           "-k", "CLOCK_MONOTONIC", "-o", str(self._file)])
        time.sleep(_START_SECONDS)

    def stop(self):
        self._process.stop()

    def entries(self, suite):
        """For each case and shape of the Suite: seconds per GB, by what they were spent for."""
        samples = list(self._samples())
        entries = []
        for (case, shape), moves in suite.samples.items():
            spent = collections.Counter()
            for move in moves:
                spent.update(sort for at, sort in samples if move.begun_at <= at <= move.running_at)
            gb = sum(move.gb for move in moves)
            if gb:
                entries.append({"case": case.name, "channels": case.channels, "guest_mib": shape.fill_mib,
                                "dirty_mb_s": shape.dirty_mb_s,
                                "cpu_s_per_gb": {sort: round(spent[sort] / _HERTZ / gb, 3) for sort in COLUMNS}})
        return entries

    def _samples(self):
        to_wall_clock = time.time() - time.monotonic()
        text = subprocess.run(["perf", "script", "-i", str(self._file), "-F", "comm,time,ip,sym,dso"],
                              capture_output=True, text=True, timeout=_READ_SECONDS, check=True).stdout
        for line in text.splitlines():
            match = _LINE.match(line)
            if match and not _NOBODY.match(match["command"]):
                yield float(match["time"]) + to_wall_clock, _sort(match["symbol"], match["object"])


HEADS = ["CPU-s/GB", "ch.", "MB/s", *COLUMNS]


def row(entry):
    return [entry["case"], str(entry["channels"]), str(entry["dirty_mb_s"]),
            *(f"{entry['cpu_s_per_gb'][sort]:.2f}" for sort in COLUMNS)]


def _sort(symbol, shared_object):
    what = f"{symbol} {shared_object}"
    return next((name for name, pattern in _SORTS if pattern.search(what)), _REST)
