"""How a guest's change of hosts looked from outside."""

import dataclasses

from cases import NotIntact


@dataclasses.dataclass(frozen=True)
class SwitchOver:
    """How a guest's change of hosts looked from outside."""
    running_at: float  # its first sign of life at the destination
    downtime_ms: float  # from its last at the source, less the usual time between two
    longest_silence_ms: float  # in the whole move
    work_lost: float  # share of the loops it would have done undisturbed


def usual_gap(beacons):
    """Median time between two beacons, in seconds."""
    gaps = sorted(after.time - before.time for before, after in zip(beacons, beacons[1:]))
    return gaps[len(gaps) // 2]


def loops_per_second(beacons):
    first, last = beacons[0], beacons[-1]
    return (last.loops - first.loops) / (last.time - first.time)


def _check_order(last, first):
    """Fails if the guest used numbers twice: it ran on both hosts at once, or started anew (then the first number is a
    small one), or what it wrote last did not arrive."""
    twice = last.sequence - first.sequence + 1
    if twice <= 0:
        return
    apart = (f"the last from host {last.host} passed {1000 * (first.time - last.time):.0f} ms before the first from "
             f"{first.host}")
    if first.time <= last.time:
        raise NotIntact(f"the guest ran on both hosts at once: {twice} numbers used twice, {apart}")
    raise NotIntact(f"the guest went back by {twice} datagrams, to number {first.sequence}: {apart}")


def judge(undisturbed, during, source, destination):
    """The SwitchOver in `during`, the beacons from the command to migrate on. Fails if the guest used a number twice,
    or was not seen on one of the hosts."""
    before = [beacon for beacon in during if beacon.host == source]
    after = [beacon for beacon in during if beacon.host == destination]
    if not before or not after:
        raise RuntimeError(f"beacons of the guest: {len(before)} from {source}, {len(after)} from {destination}")
    _check_order(before[-1], after[0])
    gap = usual_gap(undisturbed)
    moved = before + after[:1]
    rate = loops_per_second(undisturbed)
    return SwitchOver(
        running_at=after[0].time,
        downtime_ms=max(0.0, after[0].time - before[-1].time - gap) * 1000,
        longest_silence_ms=max(b.time - a.time for a, b in zip(moved, moved[1:])) * 1000,
        work_lost=max(0.0, 1 - loops_per_second(moved) / rate))
