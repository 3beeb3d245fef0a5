"""One measurement: a guest, a case, one move, and whether the guest is intact afterwards."""

import dataclasses
import time

import beacon
from meter import Cpu, Wire

_SETTLE_SECONDS = 0.3
_LATE_BEACONS_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one move was like. GB are 10^9 bytes; what each figure means is in docs/performance.md."""
    seconds: float
    copy_seconds: float
    gb: float
    wire_gb: float
    cpu_seconds: float
    downtime_ms: float
    downtime_reported_ms: float
    longest_silence_ms: float
    usual_gap_ms: float
    guest_work_lost: float
    iterations: int
    detail: dict

    @property
    def gb_per_s(self):
        return self.gb / self.seconds

    @property
    def copy_gb_per_s(self):
        return self.gb / self.copy_seconds

    @property
    def cpu_s_per_gb(self):
        return self.cpu_seconds / self.gb


def measure(lab, guest, case, gb, undisturbed_seconds):
    """Moves a booted guest with `gb` of populated memory once, and returns the Sample. Whatever goes wrong, a guest that
    is not intact among it, is an exception."""
    source, destination = guest.host, lab.other(guest.host)
    with guest.prepared(case) as move:
        undisturbed, idle_rate = _watch_undisturbed(guest, undisturbed_seconds)
        wire = Wire(lab.network, destination)
        cpu = Cpu()
        try:
            moved = move()
        finally:
            wire.stop()
        cpu_seconds = cpu.spent() - idle_rate * cpu.elapsed()
        time.sleep(_LATE_BEACONS_SECONDS)
        seen = guest.beacons.take()
    guest.verdict()
    during = [each for each in seen if each.time >= moved.commanded_at]
    switch_over = beacon.judge(undisturbed, during, source, destination)
    if wire.copying_since is None:
        raise RuntimeError(f"only {wire.bytes} bytes crossed the wire")
    return Sample(
        seconds=switch_over.running_at - moved.commanded_at,
        copy_seconds=switch_over.running_at - wire.copying_since,
        gb=gb, wire_gb=wire.bytes / 1e9, cpu_seconds=cpu_seconds,
        downtime_ms=switch_over.downtime_ms, downtime_reported_ms=moved.downtime_ms,
        longest_silence_ms=switch_over.longest_silence_ms,
        usual_gap_ms=beacon.usual_gap(undisturbed) * 1000,
        guest_work_lost=switch_over.work_lost, iterations=moved.detail["iterations"], detail=moved.detail)


def _watch_undisturbed(guest, seconds):
    """The guest's beacons and the machine's processor time per second while nothing happens to the guest."""
    time.sleep(_SETTLE_SECONDS)
    guest.beacons.take()
    cpu = Cpu()
    time.sleep(seconds)
    rate = cpu.spent() / cpu.elapsed()
    beacons = guest.beacons.take()
    if len(beacons) < 10:
        raise RuntimeError(f"the guest sent {len(beacons)} beacons in {seconds} s")
    return beacons, rate
