"""The test guest (tests/guest) in a QEMU that the test starts itself, without an agent."""

import dataclasses
import re
import socket
import sys
import threading
import time

import harness
from qmp import Qmp

sys.path.insert(0, str(harness.SOURCE / "tests/guest"))
import check_journal  # noqa: F401  pylint: disable=unused-import,wrong-import-position

KERNEL = harness.GUEST / "vmlinuz"
INITRD = harness.GUEST / "initrd.gz"
# On an Intel model the guest kernel changes page tables at every entry (Meltdown), on "max" it does not.
# QEMU 7.2's TCG forgets pages written through entries of its TLB that such a change does not flush: about
# every third migration of a "max" guest without KVM arrives with stale pages.
CPU = "Westmere"


class Console:
    """The guest's serial line over the connected socket `connection`, which it owns: collects the
    lines in a thread of its own, sends commands. `process`, if any, is what is at its other end."""

    def __init__(self, connection, process=None):
        self._connection = connection
        self._process = process
        self._changed = threading.Condition()
        self._lines = []
        self._closed = False
        threading.Thread(target=self._collect, daemon=True).start()

    def send(self, command):
        self._connection.sendall(command.encode() + b"\n")

    def close(self):
        self._connection.close()
        if self._process:
            self._process.kill()

    def position(self):
        """How many lines there are: the `after` of a later wait_line."""
        with self._changed:
            return len(self._lines)

    def text(self):
        with self._changed:
            return "\n".join(self._lines)

    def wait_line(self, pattern, timeout, after=0):
        """The match of the first line from number `after` on that `pattern` matches from its start."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if match := re.match(pattern, line):
                        return match
                if self._closed or not self._changed.wait(harness.remaining(deadline)):
                    raise TimeoutError(f"no line '{pattern}' on the console:\n" +
                                       "\n".join(self._lines))

    def ask(self, command, pattern, timeout):
        """Sends a command and returns the match of the answer."""
        after = self.position()
        self.send(command)
        return self.wait_line(pattern, timeout, after)

    def status(self, timeout=20):
        """What the guest's `status` line says: {"mono": seconds, "dirty": pages, ...}."""
        line = self.ask("status", r"status .*", timeout).group()
        return {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", line)}

    def _collect(self):
        with self._connection.makefile("r", encoding="utf-8", errors="replace") as stream:
            try:
                for line in stream:
                    self._add(line.strip())
            except OSError:
                pass  # QEMU is gone
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, line):
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()


@dataclasses.dataclass
class Vm:
    """A running QEMU with the test guest."""
    process: harness.Process
    qmp: Qmp
    console: Console

    def close(self):
        self.qmp.close()
        self.console.close()


def start(test, name, append="", *, memory_mib=256, cpu=CPU, memory_file=None, disk=None,
          forwards=None, incoming=False):
    """Starts a Vm for the harness.TestCase `test`. `append` holds the guest.* options, `memory_file` is
    where the RAM shall lie, `disk` a raw image for the journal, `forwards` {host port: guest port} of
    a user-mode network card. An `incoming` one waits, paused, for a migrate-incoming."""
    qmp, qemu_qmp = socket.socketpair()
    console, qemu_console = socket.socketpair()
    with qemu_qmp, qemu_console:
        argv = _base_argv(append, memory_mib, cpu)
        argv += ["-chardev", f"socket,id=qmp,fd={qemu_qmp.fileno()}",
                 "-mon", "chardev=qmp,mode=control",
                 "-chardev", f"socket,id=console,fd={qemu_console.fileno()}",
                 "-serial", "chardev:console"]
        argv += _memory_argv(memory_file, memory_mib) + _disk_argv(disk) + _network_argv(forwards)
        argv += ["-S", "-incoming", "defer"] if incoming else []
        process = test.start(name, argv, pass_fds=[qemu_qmp.fileno(), qemu_console.fileno()])
    machine = Vm(process, Qmp(qmp), Console(console))
    test.addCleanup(machine.close)
    return machine


def _base_argv(append, memory_mib, cpu):
    if not INITRD.exists():
        raise FileNotFoundError(f"there is no {INITRD}: run scripts/bootstrap")
    return ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
            "-machine", "pc-q35-7.2", "-accel", "tcg,thread=multi", "-cpu", cpu,
            "-m", str(memory_mib), "-kernel", str(KERNEL), "-initrd", str(INITRD),
            "-append", f"console=ttyS0 quiet {append}"]


def _memory_argv(memory_file, memory_mib):
    if memory_file is None:
        return []
    return ["-object", f"memory-backend-file,id=ram,mem-path={memory_file},size={memory_mib}M,share=on",
            "-machine", "memory-backend=ram"]


def _disk_argv(disk):
    if disk is None:
        return []
    return ["-blockdev", f"driver=file,node-name=disk,filename={disk}",
            "-device", "virtio-blk-pci,drive=disk"]


def _network_argv(forwards):
    if forwards is None:
        return []
    rules = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{port}" for host, port in forwards.items())
    return ["-netdev", f"user,id=net{rules}", "-device", "virtio-net-pci,netdev=net"]
