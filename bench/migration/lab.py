"""Two hosts on a switch with the real installation of sealift on them, and QEMU beside it."""

import concurrent.futures
import contextlib
import itertools
import pathlib

import beacon
import harness
from cluster import Cluster
from warm import memory_for_guests

_SHMEM = pathlib.Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_FIRST_BEACON_PORT = 7801
_MOVE_SECONDS = 600
_MOST_AT_ONCE = 16


@contextlib.contextmanager
def huge_shared_memory(say):
    """Sets what sealift's packages set, huge pages for shared memory on advice, and puts back what there was."""
    before = _SHMEM.read_text(encoding="ascii").split("[")[1].split("]")[0]
    if before in ("advise", "always", "within_size", "force"):
        yield before
        return
    try:
        _SHMEM.write_text("advise", encoding="ascii")
    except OSError as error:
        say(f"{_SHMEM} stays {before}: {error.strerror}")
        yield before
        return
    say(f"{_SHMEM}: advise for this run, {before} again at its end")
    try:
        yield "advise"
    finally:
        _SHMEM.write_text(before, encoding="ascii")


class Lab:
    """Everything a measurement needs, on a harness.Stage."""

    hosts = ("a", "b")

    def __init__(self, stage, logs=None):
        """`logs`: the folder for the logs of measurements that failed."""
        self._stage = stage
        self._logs = logs
        self._numbers = itertools.count(1)
        # For as long as the lab: what a thread started is killed when the thread ends (PR_SET_PDEATHSIG).
        self._workers = concurrent.futures.ThreadPoolExecutor(_MOST_AT_ONCE)
        self.cluster = Cluster(stage, self.hosts,
                               agent_settings={host: {"log_level": "info"} for host in self.hosts})
        self.network = self.cluster.network
        if not self.network.isolated:
            raise RuntimeError("this machine allows no network namespaces: nothing here can be measured")
        # What `accel: auto` of sealift's VMs chooses here.
        chosen = self.cluster.json("host", "show", "a")["capabilities"]["accelerator"]
        self.accelerator = "kvm" if chosen == "kvm" else "tcg,thread=multi"
        self.memory = memory_for_guests()
        stage.addCleanup(self.memory.close)
        self.move_seconds = _MOVE_SECONDS  # a migration that takes longer has failed

    def at_once(self, calls):
        """The results of several calls made at the same time."""
        if len(calls) == 1:
            return [calls[0]()]
        return [future.result() for future in [self._workers.submit(call) for call in calls]]

    def place(self, host):
        return self.network.hosts[host]

    def other(self, host):
        return self.hosts[1 - self.hosts.index(host)]

    def folder(self, name):
        path = self._stage.dir / name
        path.mkdir(exist_ok=True)
        return path

    def fresh_path(self, name, suffix):
        """A path where nothing is yet, short enough for a unix socket."""
        return self._stage.dir / f"{name}-{next(self._numbers)}{suffix}"

    def keep_logs(self, name):
        if self._logs:
            self.cluster.keep_logs(self._logs / f"{name}-{next(self._numbers)}")

    def start(self, name, argv, **options):
        return self._stage.start(f"{name}-{next(self._numbers)}", argv, **options)

    def listen(self, guest_number):
        """A beacon.Listener for the beacons of a guest, and the guest's options that send them here."""
        port = _FIRST_BEACON_PORT + guest_number
        options = (f"guest.ip=10.213.0.{100 + guest_number}/24 "
                   f"guest.beacon={self.network.switch.address}:{port}")
        return beacon.at_the_switch(self._stage, self.network, port), options

    @contextlib.contextmanager
    def giving_up_after(self, seconds):
        before, self.move_seconds = self.move_seconds, seconds
        try:
            yield
        finally:
            self.move_seconds = before

    @contextlib.contextmanager
    def limited_to(self, megabits):
        """Each host's uplink lets no more than that out per second."""
        for host in self.hosts:
            self.network.slow_down(self.place(host), megabits)
        try:
            yield
        finally:
            for host in self.hosts:
                self.network.speed_up(self.place(host))
