"""How soon a guest is back at its full speed after a migration of it was cancelled."""

import statistics
import time

import harness
import switch_over
from cases import Case, Shape
from guests import SealiftGuest, migrate_options
from results import text_table
from suite import say

_MEGABITS = 1000  # slow enough that the copying lasts
_FILL_MIB = 512
_WRITES_MB_S = 400  # faster than the link: the guest is slowed down
_WINDOW_SECONDS = 0.1
_WATCH_SECONDS = 2.0
_STEP_SECONDS = 0.005

_FIGURES = ("answered_ms", "from_command_ms", "worst_ms")
HEADS = ["case", "cancelled", "command answered ms", "full speed ms", "worst ms", "rounds"]
# (name, MB/s the guest writes, whether the progress has come so far, cases). QEMU slows a guest down by itself with the
# stream engine, and does not say so.
_MOMENTS = (
    ("while it copies", 0, lambda progress: progress["wire_bytes"] > 0, ("sealift-direct", "sealift-stream")),
    ("while it slows the guest down", _WRITES_MB_S, lambda progress: "slowed down by" in progress["detail"],
     ("sealift-direct",)),
)


def rates(beacons):
    """[(time, loops per second in the window that begins then)]"""
    found, end = [], 0
    for at, first in enumerate(beacons):
        while end < len(beacons) and beacons[end].time < first.time + _WINDOW_SECONDS:
            end += 1
        if end == len(beacons):
            break
        if not found or first.time - found[-1][0] >= _STEP_SECONDS:
            found.append((first.time, switch_over.loops_per_second(beacons[at:end + 1])))
    return found


def back_at_full_speed(undisturbed, after, since):
    """Seconds from `since` to the first window in which the guest does as much as in nine of ten undisturbed ones."""
    least = statistics.quantiles([rate for _, rate in rates(undisturbed)], n=10)[0]
    for at, rate in rates(after):
        if at >= since and rate >= least:
            return at - since
    raise RuntimeError(f"the guest is not back at full speed after {_WATCH_SECONDS} s")


def _cancelled_once(lab, guest, case, reached):
    cluster = lab.cluster
    guest.beacons.take()
    time.sleep(_WATCH_SECONDS)
    undisturbed = guest.beacons.take()
    argv = migrate_options(cluster, case)
    migration = cluster.sealift("vm", "migrate", guest.name, "--to", lab.other(guest.host), "--detach", *argv).strip()

    def progress():
        return cluster.json("migration", "show", migration)["progress"]

    def come():
        now = progress()
        if now["phase"] in ("completed", "failed"):
            raise RuntimeError(f"{case.name} was over before it could be cancelled: {now}")
        return reached(now)

    harness.wait_for(come, 60, "the moment to cancel")
    guest.beacons.take()
    commanded_at = time.time()
    cluster.sealift("migration", "cancel", migration)
    answered_at = time.time()
    time.sleep(_WATCH_SECONDS)
    after = guest.beacons.take()
    harness.wait_for(lambda: progress()["phase"] == "cancelled", 20, "the cancellation")
    return answered_at - commanded_at, back_at_full_speed(undisturbed, after, commanded_at)


def measure(lab, arguments):
    """{"cancel": [...]}: medians for each engine and moment, in milliseconds from the start of the command."""
    entries = []
    for moment, writes, reached, names in _MOMENTS:
        shape = Shape(_FILL_MIB, writes)
        lab.memory.leave(2 * shape.memory_mib)
        guest = SealiftGuest(lab, shape)
        try:
            guest.boot()
            with lab.limited_to(_MEGABITS):
                for name in names:
                    found = [_cancelled_once(lab, guest, Case(name, 2), reached) for _ in range(arguments.rounds)]
                    answered, from_command = ([round(1000 * seconds) for seconds in column] for column in zip(*found))
                    entries.append({"case": name, "moment": moment, "rounds": len(found),
                                    "answered_ms": statistics.median(answered),
                                    "from_command_ms": statistics.median(from_command),
                                    "worst_ms": max(from_command)})
                    say(f"{name}, {moment}: {from_command} ms after the command")
            guest.verdict()
        finally:
            guest.close()
    print(text_table([HEADS, *map(cells, entries)]))
    return {"cancel": entries}


def cells(entry):
    return [entry["case"], entry["moment"], *(f"{entry[key]:.0f}" for key in _FIGURES), str(entry["rounds"])]
