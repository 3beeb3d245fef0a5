"""Whether what daemons take stays flat from migration to migration."""

import dataclasses
import statistics

SHORTEST = 8  # migrations: fewer have no quarters


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one daemon takes at one moment. Not its proportional share (PSS): that grows when others that map the same
    libraries end."""
    rss_kib: int
    anonymous_kib: int  # heap and stacks: what a leak grows
    threads: int
    descriptors: int
    store_kib: int = 0  # the controller's database on disk


# How much each may be higher in the last quarter than in the second one. The first quarter is the warm-up: pools of
# threads, arenas of malloc, caches of gRPC, code that is read in when it first runs. Memory: what malloc happens to hold when
# it is looked at differs by some hundred KiB from one moment to the next. Threads and descriptors: gRPC makes and ends a
# thread at its own times, and so do connections of commands that have ended.
ALLOWED = {"rss_kib": 1024, "anonymous_kib": 768, "threads": 2, "descriptors": 2}
STORE_CACHE_KIB = 2048  # SQLite keeps so much of its file in memory and no more: until then it grows as the file does


@dataclasses.dataclass(frozen=True)
class Trend:
    """Of one measure of one daemon: the medians of the second and of the last quarter of a run."""
    earlier: float
    later: float
    allowed: float

    @property
    def growth(self):
        return self.later - self.earlier

    @property
    def flat(self):
        return self.growth <= self.allowed


def trends(samples):
    """{measure: Trend} of one daemon's samples, one per migration, in order."""
    quarter = len(samples) // 4
    second, last = samples[quarter:2 * quarter], samples[-quarter:]
    cached = min(STORE_CACHE_KIB, last[-1].store_kib - second[0].store_kib)

    def trend(measure, allowed):
        if measure.endswith("_kib"):
            allowed += cached
        earlier, later = (statistics.median(getattr(sample, measure) for sample in part) for part in (second, last))
        return Trend(earlier, later, allowed)
    return {measure: trend(measure, allowed) for measure, allowed in ALLOWED.items()}
