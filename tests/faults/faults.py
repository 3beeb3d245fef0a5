"""What can go wrong, and how it is made to: each fault begins, lasts, and is healed."""

import contextlib
import dataclasses
import os
import signal

from cluster import processes
from ptrace import Stopped

_FROZEN_SECONDS = 20
_CUT_SECONDS = 8
_FULL_SECONDS = 8
_SILENT_SECONDS = 12  # longer than QMP is waited for


@dataclasses.dataclass
class Scene:
    """A cluster in which a guest is on its way from one host to another."""
    cluster: object
    source: str
    destination: str

    def host(self, side):
        return {"source": self.source, "destination": self.destination}[side]

    def place(self, side):
        return self.cluster.network.hosts[self.host(side)]

    def processes(self, target):
        """Pids of "controller", "source-agent", "destination-mover", "source-qemu" and the like."""
        if target == "controller":
            return [self.cluster.controller.pid]
        side, kind = target.split("-")
        if kind == "agent":
            return [self.cluster.agents[self.host(side)].pid]
        program = {"mover": "sealift-mover", "qemu": "qemu-system-x86_64"}[kind]
        return [pid for pid in processes(program, self.cluster.dir) if self.place(side).holds(pid)]

    def restart(self, target):
        """Does what systemd does when one of the daemons has died."""
        if target == "controller":
            self.cluster.controller = self.cluster.start_controller()
        elif target.endswith("-agent"):
            host = self.host(target.split("-")[0])
            self.cluster.agents[host] = self.cluster.start_agent(host)


class NothingToHit(Exception):
    """There is no such target at that moment."""


class Fault:
    """`target` is one of `targets`. begin(), `seconds` later heal(), which may be called without begin()."""

    targets = ()
    seconds = 0

    def __init__(self, scene, target):
        self._scene = scene
        self._target = target

    def begin(self):
        raise NotImplementedError

    def heal(self):
        raise NotImplementedError

    def _pids(self):
        pids = self._scene.processes(self._target)
        if not pids:
            raise NothingToHit(self._target)
        return pids


_PROCESSES = ("controller", "source-agent", "destination-agent", "source-mover", "destination-mover", "source-qemu",
              "destination-qemu")
_SIDES = ("source", "destination")


class Kill(Fault):
    """kill -9; a daemon is started again at once."""

    targets = _PROCESSES

    def begin(self):
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)

    def heal(self):
        self._scene.restart(self._target)


class Freeze(Fault):
    """SIGSTOP for longer than anybody waits."""

    targets = _PROCESSES
    seconds = _FROZEN_SECONDS

    def __init__(self, scene, target):
        super().__init__(scene, target)
        self._frozen = []

    def begin(self):
        self._frozen = self._pids()
        self._signal(signal.SIGSTOP)

    def heal(self):
        self._signal(signal.SIGCONT)
        self._frozen = []

    def _signal(self, number):
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class Cut(Fault):
    """A host is off the network, for the other hosts and for the controller."""

    targets = _SIDES
    seconds = _CUT_SECONDS

    def begin(self):
        self._scene.cluster.network.cut(self._scene.host(self._target))

    def heal(self):
        self._scene.cluster.network.mend(self._scene.host(self._target))


class LongCut(Cut):
    """The same, for longer than a migration waits for a connection."""

    seconds = 40


class _Firewall(Fault):
    """Packets that a host's own firewall drops."""

    def __init__(self, scene, target):
        super().__init__(scene, target)
        self._rules = []

    def _drop(self, place, *rule):
        place.run("iptables", "-A", "INPUT", *rule, "-j", "DROP")
        self._rules.append((place, rule))

    def heal(self):
        for place, rule in self._rules:
            place.run("iptables", "-D", "INPUT", *rule, "-j", "DROP")
        self._rules = []


class Deaf(_Firewall):
    """Nothing reaches a host from the other one, which hears it well."""

    targets = _SIDES
    seconds = _CUT_SECONDS

    def begin(self):
        other = self._scene.place(_SIDES[1 - _SIDES.index(self._target)])
        self._drop(self._scene.place(self._target), "-s", other.address)


class Loss(_Firewall):
    """One packet in a hundred is lost on its way between the hosts, in both directions."""

    targets = ("network",)
    seconds = _CUT_SECONDS

    def begin(self):
        places = [self._scene.place(side) for side in _SIDES]
        for place, other in zip(places, reversed(places)):
            self._drop(place, "-s", other.address, "-m", "statistic", "--mode", "random", "--probability", "0.01")


class Reset(Fault):
    """One of the connections between the movers is reset."""

    targets = ("network",)

    def begin(self):
        source, destination = (self._scene.place(side) for side in _SIDES)
        lines = source.run("ss", "-Htn", "state", "established", "dst", destination.address,
                           "dport", ">=", "7440", "dport", "<=", "7499").stdout.splitlines()
        if not lines:
            raise NothingToHit("no connection")
        address, port = lines[0].split()[2].rsplit(":", 1)
        source.run("ss", "-K", "src", address, "sport", "=", port)

    def heal(self):
        pass


class DiskFull(Fault):
    """A daemon's state cannot be written."""

    targets = ("controller", "source-agent", "destination-agent")
    seconds = _FULL_SECONDS

    def __init__(self, scene, target):
        super().__init__(scene, target)
        if target == "controller":
            place, folder = scene.cluster.network.switch, scene.cluster.dir / "controller"
        else:
            side = target.split("-")[0]
            place, folder = scene.place(side), scene.cluster.dir / scene.host(side) / "state"
        self._filler = place.path(folder / "filler")

    def begin(self):
        with open(self._filler, "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 4096)

    def heal(self):
        self._filler.unlink(missing_ok=True)


class QmpSilence(Fault):
    """QEMU's main thread stands still: the guest runs, QMP does not answer."""

    targets = ("source-qemu", "destination-qemu")
    seconds = _SILENT_SECONDS

    def __init__(self, scene, target):
        super().__init__(scene, target)
        self._stopped = contextlib.ExitStack()

    def begin(self):
        for pid in self._pids():
            self._stopped.enter_context(Stopped(pid))

    def heal(self):
        self._stopped.close()


KINDS = {"kill": Kill, "freeze": Freeze, "cut": Cut, "long-cut": LongCut, "deaf": Deaf, "loss": Loss, "reset": Reset,
         "disk-full": DiskFull, "qmp-silence": QmpSilence}
