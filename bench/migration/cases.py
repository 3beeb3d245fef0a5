"""What is compared: ways to move a guest, and how the guest is shaped."""

import dataclasses

ENGINES = {"sealift-stream": "stream", "sealift-direct": "direct"}
NAMES = ("qemu-plain", "qemu-tls", "qemu-ssh", "qemu-stunnel", "sealift-stream", "sealift-stream-plain",
         "sealift-direct", "sealift-direct-plain")
# An ssh tunnel is one connection, whatever goes through it: more channels do not make it faster.
_CHANNELS = {"qemu-plain": (1, 2), "qemu-tls": (1, 2, 4), "qemu-ssh": (1,), "qemu-stunnel": (1, 2)}
_QUICK_CHANNELS = {"qemu-stunnel": (1,)}
_USUAL_CHANNELS = (1, 2)


class NotIntact(Exception):
    """A migration has damaged or doubled its guest."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A guest: so many MiB are filled with patterns, so many MB a second are rewritten."""
    fill_mib: int
    dirty_mb_s: int = 0

    @property
    def memory_mib(self):
        # What the guest's kernel needs grows with it.
        return self.fill_mib + max(256, self.fill_mib // 8)


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to move a guest. `channels` is the number of connections that carry its RAM."""
    name: str
    channels: int

    @property
    def is_sealift(self):
        return self.name.startswith("sealift-")

    @property
    def is_direct(self):
        return self.name.startswith("sealift-direct")

    @property
    def transport(self):
        """Of QEMU's own migration: "plain", "tls", "ssh" or "stunnel"."""
        return self.name.removeprefix("qemu-")

    @property
    def engine(self):
        return ENGINES[self.name.removesuffix("-plain")]

    @property
    def encryption(self):
        """The VM's mode."""
        return "disabled" if self.name.endswith("-plain") else "required"

    def __str__(self):
        return f"{self.name}/{self.channels}"


def chosen(names=None, channels=None, quick=False):
    """The cases of these names (none: all), each with the numbers of channels it is measured with."""
    cases = []
    for name in names or NAMES:
        usual = _CHANNELS.get(name, _USUAL_CHANNELS)
        if quick:
            usual = [number for number in _QUICK_CHANNELS.get(name, usual) if number <= 2]
        cases += [Case(name, number) for number in channels or usual]
    return cases


def in_order_of_round(cases, number):
    """Every round starts with another case, and every second one goes backwards."""
    if not cases:
        return []
    start = number % len(cases)
    rotated = cases[start:] + cases[:start]
    return rotated[:1] + rotated[:0:-1] if number % 2 else rotated
