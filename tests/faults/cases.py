"""Which fault at which moment: the cases of scripts/faults, and their names."""

import dataclasses
import random

from faults import KINDS

ENGINES = ("direct", "stream")
COPYING = "copying"
# In the order in which they come. The points are gates; at COPYING the link is slow instead. Those of ROLLING_BACK
# come after a cancellation while it copies.
MOMENTS = {"before-receiving": "destination", "before-delegated": "source", COPYING: None, "before-ready": "destination",
           "after-ready": "destination", "before-committed": "source", "after-committed": "source",
           "before-owned": "destination", "after-owned": "destination", "before-released": "source",
           "before-resumed": "source", "after-resumed": "source", "before-dropped": "destination"}
ROLLING_BACK = ("before-resumed", "after-resumed", "before-dropped")
_DECISIVE = ("before-ready", "before-committed", "after-committed", "before-owned")
_RANDOM_DELAY_SECONDS = 2.5  # a migration without a fault takes less


@dataclasses.dataclass(frozen=True)
class Case:
    """`moment` is one of MOMENTS, or a number of seconds after the command."""
    engine: str
    moment: object
    kind: str
    target: str
    name: str

    @property
    def gate(self):
        """The point of gated_agent.cc where it is held, and on which side; None: nowhere."""
        side = MOMENTS.get(self.moment)
        return side and (self.moment.replace("-", " "), side)

    @property
    def is_slow(self):
        """Whether it has to be caught while it copies."""
        return self.moment == COPYING or self.moment in ROLLING_BACK


def _case(engine, moment, kind, target):
    return Case(engine, moment, kind, target, f"{engine}/{moment}/{kind}/{target}")


def every():
    """All cases, in an order that changes the target from one to the next."""
    return [_case(engine, moment, kind, target)
            for kind, fault in KINDS.items() for target in fault.targets for moment in MOMENTS for engine in ENGINES]


def quick():
    """Those for every change: each process killed at each moment that decides, with one engine."""
    chosen = [case for case in every() if case.kind == "kill" and case.moment in _DECISIVE]
    return [case for number, case in enumerate(chosen) if number % 2 == (number // 2) % 2]


def drawn(seed, number):
    """Case `number` of the random ones of a seed."""
    draw = random.Random(f"{seed}/{number}")
    kind = draw.choice(sorted(KINDS))
    return Case(draw.choice(ENGINES), draw.uniform(0, _RANDOM_DELAY_SECONDS), kind,
                draw.choice(KINDS[kind].targets), f"random/{seed}/{number}")


def by_name(name):
    """The case of that name; ValueError if there is none."""
    parts = name.split("/")
    if parts[0] == "random" and len(parts) == 3:
        return drawn(parts[1], parts[2])
    for case in every():
        if case.name == name:
            return case
    raise ValueError(f"there is no case {name}")
