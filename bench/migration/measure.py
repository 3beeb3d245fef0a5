"""One measurement: guests, a case, one move of each at the same time, and whether they are intact afterwards."""

import contextlib
import dataclasses
import statistics
import time

import harness
import switch_over
from meter import Cpu, Wire, process_cpu_seconds

_SETTLE_SECONDS = 0.3
_ARRIVAL_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one move was like. GB are 10^9 bytes; what each figure means is in docs/performance.md. Of several guests
    moved at once: time until the last one runs, medians of the rest."""
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
    iterations: float
    begun_at: float  # time.time(), as is the next
    running_at: float
    foreign_cores: float  # what ran on this machine beside the guests, just before: should be next to nothing

    @property
    def gb_per_s(self):
        return self.gb / self.seconds

    @property
    def copy_gb_per_s(self):
        return self.gb / self.copy_seconds

    @property
    def cpu_s_per_gb(self):
        return self.cpu_seconds / self.gb


def measure(lab, guests, case, shape, gb, undisturbed_seconds):
    """Moves booted guests of one host and that shape, `gb` of populated memory in all, once, and returns the Sample.
    Whatever goes wrong, a guest that is not intact among it, is an exception."""
    source, destination = guests[0].host, lab.other(guests[0].host)
    lab.memory.leave(0)
    with contextlib.ExitStack() as stack:
        moves = [stack.enter_context(guest.prepared(case)) for guest in guests]
        undisturbed, idle_rate, foreign_rate = _watch_undisturbed(guests, undisturbed_seconds)
        lab.memory.leave(len(guests) * shape.memory_mib)
        wire = Wire(lab.network, destination)
        cpu = Cpu()
        try:
            moved = lab.at_once(moves)
        finally:
            wire.stop()
        cpu_seconds = cpu.spent() - idle_rate * cpu.elapsed()
        seen = [_beacons_until_seen(guest, destination) for guest in guests]
    for guest in guests:
        guest.verdict()
    if wire.copying_since is None:
        raise RuntimeError(f"only {wire.bytes} bytes crossed the wire")
    switches = [switch_over.judge(before, [each for each in during if each.time >= how.commanded_at], source, destination)
                for before, during, how in zip(undisturbed, seen, moved)]
    begun_at = min(how.commanded_at for how in moved)
    running_at = max(switch.running_at for switch in switches)
    return Sample(
        begun_at=begun_at, running_at=running_at, seconds=running_at - begun_at,
        copy_seconds=running_at - wire.copying_since,
        gb=gb, wire_gb=wire.bytes / 1e9, cpu_seconds=cpu_seconds,
        downtime_ms=statistics.median(switch.downtime_ms for switch in switches),
        downtime_reported_ms=statistics.median(how.downtime_ms for how in moved),
        longest_silence_ms=statistics.median(switch.longest_silence_ms for switch in switches),
        usual_gap_ms=statistics.median(map(switch_over.usual_gap, undisturbed)) * 1000,
        guest_work_lost=statistics.median(switch.work_lost for switch in switches),
        iterations=statistics.median(how.iterations for how in moved), foreign_cores=foreign_rate)


def _beacons_until_seen(guest, host):
    """All beacons up to now, and on until one comes from that host."""
    beacons = []

    def seen():
        beacons.extend(guest.beacons.take())
        return any(each.host == host for each in beacons)

    harness.wait_for(seen, _ARRIVAL_SECONDS, f"the guest to be seen on host {host}")
    return sorted(beacons, key=lambda each: each.time)


def _watch_undisturbed(guests, seconds):
    """While nothing happens to the guests: each one's beacons, the machine's processor time per second, and how much of
    it is not the guests'."""
    time.sleep(_SETTLE_SECONDS)
    pids = [guest.pid for guest in guests]
    for guest in guests:
        guest.beacons.take()
    cpu, guests_before = Cpu(), sum(map(process_cpu_seconds, pids))
    time.sleep(seconds)
    rate = cpu.spent() / cpu.elapsed()
    guests_rate = (sum(map(process_cpu_seconds, pids)) - guests_before) / cpu.elapsed()
    beacons = [guest.beacons.take() for guest in guests]
    if min(map(len, beacons)) < 10:
        raise RuntimeError(f"a guest sent {min(map(len, beacons))} beacons in {seconds} s")
    return beacons, rate, rate - guests_rate
