"""Guests that can be moved: one of a plain QEMU, driven as its manual says, and one of sealift.

Both offer: boot(), verdict(), close(), `host`, `pid`, `beacons`, and prepared(case), a context in which everything
stands that is there before the command: it yields the command, a function that moves the guest and returns a Moved.
"""

import contextlib
import dataclasses
import functools
import json
import socket
import subprocess
import time

import harness
from cases import NotIntact
from cluster import processes
from guest import CPU, Console, Vm
from qmp import Qmp
from tunnels import open_route

_BOOT_SECONDS = 180
_LOADING_SECONDS = 30
_DOWNTIME_LIMIT_MS = 300  # QEMU's default, and sealift's
_UNLIMITED = 1 << 40


@dataclasses.dataclass(frozen=True)
class Moved:
    """How a migration went, as told by who carried it out."""
    commanded_at: float  # time.time()
    downtime_ms: float
    iterations: int


class MoveFailed(Exception):
    """The migration did not succeed; the guest may be in any state."""


def wait_ready(console):
    """Waits until the guest has filled its memory."""
    line = console.wait_line("READY|.*Kernel panic", _BOOT_SECONDS).group()
    if line != "READY":
        raise MoveFailed(f"the guest does not boot: {line}")


def check_verdict(console):
    """Has all pages checked; fails unless every one is whole and current."""
    verdict = console.ask("verify", "verify .*", 300).group()
    bad = console.status(60)["bad"]
    if not verdict.startswith("verify ok") or bad:
        raise NotIntact(f"the guest is not intact: {verdict}, {bad:.0f} bad pages")


class QemuGuest:
    """A guest without sealift. Its command line is that of src/qemu/qemu_command.cc."""

    def __init__(self, lab, shape, number=0):
        self._lab = lab
        self._shape = shape
        self._number = number
        self._vm = None
        self._tap = f"bench{number}"  # on both hosts, for as long as this guest
        self.host = "a"
        self.beacons, self._beacon_options = lab.listen(number)

    @property
    def pid(self):
        return self._vm.process.pid

    def boot(self):
        for host in self._lab.hosts:
            _make_tap(self._lab.place(host), self._tap)
        self._vm = self._start(self.host)
        wait_ready(self._vm.console)

    def verdict(self):
        check_verdict(self._vm.console)

    def close(self):
        self.beacons.close()
        if self._vm:
            _end(self._vm)
        for host in self._lab.hosts:
            _remove_tap(self._lab.place(host), self._tap)

    @contextlib.contextmanager
    def prepared(self, case):
        target = self._lab.other(self.host)
        route = open_route(case.transport, self._lab, self.host, target)
        try:
            yield functools.partial(self._move, route, case.channels, target)
        finally:
            route.close()

    def _move(self, route, channels, target):
        commanded_at = time.time()
        vm = self._start(target, incoming=True)
        try:
            _prepare(vm.qmp, route, "server", channels)
            vm.qmp.command("migrate-incoming", uri=route.listen)
            _prepare(self._vm.qmp, route, "client", channels)
            self._vm.qmp.command("migrate", uri=route.connect)
            _wait_for_completion(self._vm.qmp, self._lab.move_seconds)
            _wait_for_completion(vm.qmp, _LOADING_SECONDS)
        except BaseException:
            _end(vm)
            raise
        info = harness.wait_for(lambda: _figures(self._vm.qmp), 5, "QEMU's figures")
        self._vm.qmp.command("quit")
        self._vm.process.wait(30)
        _end(self._vm)
        self._vm, self.host = vm, target
        if route.objects:
            vm.qmp.command("object-del", id="tls")
        return Moved(commanded_at, info["downtime"], info["ram"]["dirty-sync-count"])

    def _start(self, host, incoming=False):
        """Starts a Vm on that host."""
        qmp, qemu_qmp = socket.socketpair()
        console, qemu_console = socket.socketpair()
        with qemu_qmp, qemu_console:
            argv = self._argv(qemu_qmp.fileno(), qemu_console.fileno())
            argv += ["-incoming", "defer"] if incoming else []
            process = self._lab.start(f"qemu{self._number}-{host}", self._lab.place(host).command(argv),
                                      pass_fds=[qemu_qmp.fileno(), qemu_console.fileno()])
        return Vm(process, Qmp(qmp), Console(console))

    def _argv(self, qmp_fd, console_fd):
        folder = self._lab.cluster.dir
        name = f"bench{self._number}"
        return ["qemu-system-x86_64", "-name", f"guest={name},debug-threads=on", "-nodefaults", "-no-user-config",
                "-machine", "pc-q35-7.2", "-accel", self._lab.accelerator, "-cpu", f"{CPU},enforce",
                "-smp", "1,sockets=1,cores=1,threads=1", "-m", f"{self._shape.memory_mib}M",
                "-kernel", folder / "vmlinuz", "-initrd", folder / "initrd.gz",
                "-append", f"console=ttyS0 quiet {_guest_options(self._shape)} {self._beacon_options}",
                "-display", "none",
                "-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control",
                "-chardev", f"socket,id=console,fd={console_fd},logfile={self._lab.fresh_path(self._tap, '.log')}",
                "-device", "isa-serial,id=serial0,chardev=console", "-device", "pvpanic,id=panic0",
                "-netdev", f"tap,id=net0,ifname={self._tap},script=no,downscript=no",
                "-device", f"virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:be:00:{self._number:02x},"
                           "bus=pcie.0,addr=0x2,romfile=", "-msg", "timestamp=on"]


def _end(vm):
    vm.process.kill()
    vm.close()


def _prepare(qmp, route, endpoint, channels):
    """Capabilities and parameters, the same on both sides, before migrate-incoming."""
    if route.objects:
        qmp.command("object-add", **route.objects[endpoint])
    wanted = {"events": True, "return-path": True, "multifd": channels > 1}
    qmp.command("migrate-set-capabilities",
                capabilities=[{"capability": name, "state": state} for name, state in wanted.items()])
    parameters = {"max_bandwidth": _UNLIMITED, "downtime_limit": _DOWNTIME_LIMIT_MS,
                  "tls_creds": "", "tls_hostname": "", **route.parameters}
    if channels > 1:
        parameters["multifd_channels"] = channels
    qmp.command("migrate-set-parameters", **parameters)


def _wait_for_completion(qmp, timeout):
    deadline = time.monotonic() + timeout
    while True:
        try:
            status = qmp.wait_event("MIGRATION", harness.remaining(deadline))["data"]["status"]
        except TimeoutError as error:
            raise MoveFailed(f"QEMU did not finish within {timeout} s") from error
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise MoveFailed(qmp.command("query-migrate").get("error-desc", status))


def _figures(qmp):
    """QEMU computes them a moment after it says "completed"."""
    info = qmp.command("query-migrate")
    return info if info.get("total-time") else None


def _make_tap(place, name):
    place.run("ip", "tuntap", "add", name, "mode", "tap")
    # Not the lowest address: a bridge takes that as its own.
    place.run("ip", "link", "set", name, "address", f"fe:be:00:00:00:{int(name[5:]):02x}", "master", "br0", "up")


def _remove_tap(place, name):
    subprocess.run(place.command(["ip", "link", "delete", name]), capture_output=True, check=False)


def _guest_options(shape):
    return f"guest.fill={shape.fill_mib} guest.dirty={shape.dirty_mb_s} guest.quiet=1"


class SealiftGuest:
    """A guest of the real installation, moved with the real command."""

    def __init__(self, lab, shape, number=0):
        self.name = f"bench{number}"
        self._lab = lab
        self._cluster = lab.cluster
        self._shape = shape
        self._booted = False
        self.host = "a"
        self.beacons, self._beacon_options = lab.listen(number)

    @property
    def pid(self):
        # Named by its console's log: for a moment the QEMU of the other host may still be there.
        pid, = processes("qemu-system-x86_64", self._cluster.dir / self.host / "run/vms" / self.name)
        return pid

    def boot(self):
        self._booted = True
        self._cluster.create_vm(self.name, self.host, append=f"{_guest_options(self._shape)} {self._beacon_options}",
                                memory=f"{self._shape.memory_mib}MiB", nics=[{"bridge": "br0"}])
        self._with_console(wait_ready)

    def verdict(self):
        self._with_console(check_verdict)

    def close(self):
        self.beacons.close()
        if self._booted:
            for migration in self._cluster.json("migration", "list"):
                if migration["vm"] == self.name and "ended" not in migration:
                    self._try("migration", "cancel", migration["id"])
            harness.wait_for(self._deleted, 60, f"VM {self.name} to be deleted")

    @contextlib.contextmanager
    def prepared(self, case):
        self._cluster.sealift("vm", "set", self.name, "--encryption", case.encryption)
        target = self._lab.other(self.host)
        argv = self._cluster.command("vm", "migrate", self.name, "--to", target, "-o", "json",
                                     *migrate_options(self._cluster, case))
        yield functools.partial(self._move, case, argv, target)

    def _move(self, case, argv, target):
        commanded_at = time.time()
        try:
            result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                    timeout=self._lab.move_seconds)
        except subprocess.TimeoutExpired as error:
            raise MoveFailed(f"sealift did not finish within {self._lab.move_seconds} s") from error
        if result.returncode != 0:
            raise MoveFailed(f"exit status {result.returncode}: {result.stderr.strip()}")
        migration = json.loads(result.stdout)
        if (migration["engine"], migration["encrypted"]) != (case.engine, case.encryption == "required"):
            raise MoveFailed(f"asked for {case}, got {migration['engine']}, {migration['decision_reason']}")
        self.host = target
        progress = migration["progress"]
        return Moved(commanded_at, progress["downtime_ms"], progress["iterations"])

    def _deleted(self):
        self._try("vm", "stop", self.name, "--force")  # fails where it does not run any more
        return self._try("vm", "delete", "-y", self.name)

    def _try(self, *argv):
        return subprocess.run(self._cluster.command(*argv), capture_output=True, check=False).returncode == 0

    def _with_console(self, use):
        console = self._cluster.console(self.name)
        try:
            use(console)
        finally:
            console.close()


def migrate_options(cluster, case):
    """The options of `sealift vm migrate` for a case. One stream carries the device state, the others memory; only the
    stream engine with one channel has no other."""
    engine = ["--engine", case.engine] if knows_engines(cluster) else []
    alone = case.engine == "stream" and case.channels == 1
    return ["--streams", str(1 if alone else case.channels + 1), *engine]


def knows_engines(cluster):
    """Whether this build of sealift can be told which engine to use."""
    return "--engine" in cluster.sealift("vm", "migrate", "--help")
