"""Rounds of measurements over cases and shapes of guests."""

import re
import subprocess
import sys

import cases as cases_module
from cases import NotIntact
from guests import MoveFailed, QemuGuest, SealiftGuest
from measure import measure
from meter import NOISE_CORES, populated_bytes
from qmp import QmpError

_FIRST_UNDISTURBED_SECONDS = 1.5
_LEAST_UNDISTURBED_SECONDS = 1.0
_MOST_FAILURES = 2
# A migration that takes longer has failed: several times what the slowest way needs.
_PATIENCE_SECONDS, _PATIENCE_SECONDS_PER_GIB = 20, 30
_FAILURES = (NotIntact, MoveFailed, QmpError, RuntimeError, AssertionError, OSError, subprocess.SubprocessError)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Suite:
    """`together` guests are moved in each of `cases`, for each of `shapes`. Collects {(case, shape): [Sample]} and what
    went wrong. A case whose guest was once not intact has an error and no samples; one of which a migration failed has
    an error and the samples of those that did not. After two errors it is not tried again."""

    def __init__(self, lab, cases, shapes, together=1, undisturbed_seconds=5.0):
        self._lab = lab
        self._cases = cases
        self._shapes = shapes
        self.samples = {(case, shape): [] for shape in shapes for case in cases}
        self._together = together
        self._most_undisturbed_seconds = undisturbed_seconds
        self.errors = []
        self._spoilt = set()  # (case, shape) whose guest was not intact

    def run(self, rounds):
        largest_mib = self._together * max(shape.memory_mib for shape in self._shapes)
        patience = _PATIENCE_SECONDS + _PATIENCE_SECONDS_PER_GIB * largest_mib / 1024
        with self._lab.giving_up_after(min(patience, self._lab.move_seconds)):
            self._run_rounds(rounds)

    def _run_rounds(self, rounds):
        for number in range(rounds):
            for shape in cases_module.in_order_of_round(self._shapes, number):
                families = [[case for case in self._cases if case.is_sealift == sealift] for sealift in (False, True)]
                for family in cases_module.in_order_of_round(families, number):
                    self._run_family(cases_module.in_order_of_round(family, number), shape,
                                     f"round {number + 1}/{rounds}")

    def _run_family(self, cases, shape, label):
        """The same guests are moved in every way of QEMU, or of sealift, in turn; new ones after an error."""
        guests, gb = [], 0.0
        try:
            for case in cases:
                if (case, shape) in self._spoilt or self._failures(case, shape) >= _MOST_FAILURES:
                    continue
                what = f"{label}  {case.name}, {case.channels} ch., {shape.fill_mib} MiB, {shape.dirty_mb_s} MB/s"
                try:
                    if not guests:
                        guests, gb = self._boot(case, shape)
                    self._measure(guests, case, shape, gb, what)
                except _FAILURES as error:
                    say(f"{what}: FAILED: {error}")
                    self._lab.keep_logs(re.sub(r"\W+", "-", what))
                    self.errors.append({"case": case.name, "channels": case.channels, "guest_mib": shape.fill_mib,
                                        "dirty_mb_s": shape.dirty_mb_s, "error": str(error)})
                    if isinstance(error, NotIntact):
                        self._spoilt.add((case, shape))
                        self.samples[case, shape].clear()
                    _close(guests)
                    guests = []
        finally:
            _close(guests)

    def _failures(self, case, shape):
        return sum((error["case"], error["channels"], error["guest_mib"], error["dirty_mb_s"]) ==
                   (case.name, case.channels, shape.fill_mib, shape.dirty_mb_s) for error in self.errors)

    def _boot(self, case, shape):
        kind = SealiftGuest if case.is_sealift else QemuGuest
        guests = []
        self._lab.memory.leave(self._together * shape.memory_mib)
        try:
            for number in range(self._together):
                guests.append(kind(self._lab, shape, number))
                guests[-1].boot()
        except BaseException:
            _close(guests)
            raise
        return guests, sum(populated_bytes(guest.pid, shape.memory_mib) for guest in guests) / 1e9

    def _measure(self, guests, case, shape, gb, what):
        earlier = self.samples[case, shape]
        seconds = earlier[-1].seconds if earlier else _FIRST_UNDISTURBED_SECONDS
        seconds = min(max(seconds, _LEAST_UNDISTURBED_SECONDS), self._most_undisturbed_seconds)
        sample = measure(self._lab, guests, case, shape, gb, seconds)
        earlier.append(sample)
        say(f"{what}: {sample.gb_per_s:.2f} GB/s, {sample.cpu_s_per_gb:.2f} CPU-s/GB, "
            f"downtime {sample.downtime_ms:.0f} ms{_noise(sample)}")


def _noise(sample):
    if sample.foreign_cores < NOISE_CORES:
        return ""
    return f"  (NOISY: {sample.foreign_cores:.1f} cores were busy with something else)"


def _close(guests):
    for guest in guests:
        guest.close()
