#!/usr/bin/python3
"""The movers of a migration under way: what they may do, seen from outside and tried from inside."""

import errno
import pathlib
import signal
import socket
import struct
import subprocess
import sys

import harness
import ptrace
from cluster import Cluster

FILL = 96
SLOW_MEGABITS = 50


def status_of(task):
    lines = (task / "status").read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


class ConfinementTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)
        self.cluster.create_vm(append=f"guest.fill={FILL} guest.dirty=10", memory=f"{FILL + 160}MiB",
                               encryption="required")
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()
        self.cluster.network.slow_down(self.cluster.network.hosts["a"], SLOW_MEGABITS)
        self.migration = self.cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach").strip()
        self.wait_for_phase("copying")
        self.movers = self.cluster.processes("sealift-mover")
        self.assertEqual(len(self.movers), 2)

    def wait_for_phase(self, *phases):
        return harness.wait_for(
            lambda: (phase := self.cluster.json("migration", "show", self.migration)["progress"]["phase"])
            in phases and phase, 90, f"migration to be {phases}")

    def test_movers_have_no_rights_and_are_filtered_in_every_thread(self):
        for pid in self.movers:
            tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
            self.assertGreater(len(tasks), 2, "one thread for each stream")
            for task in tasks:
                with self.subTest(task=task):
                    status = status_of(task)
                    self.assertEqual(status["Seccomp"], ["2"])
                    self.assertEqual(status["NoNewPrivs"], ["1"])
                    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                        self.assertEqual(int(status[capabilities][0], 16), 0, capabilities)
                    self.assertNotIn("0", status["Uid"] + status["Gid"])
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            self.assertRegex(limits, r"Max core file size +0 +0 ")
            self.assertRegex(limits, r"Max open files +512 +512 ")

    def test_a_mover_that_is_taken_over_gets_nowhere(self):
        for pid in self.movers:
            with self.subTest(pid=pid), ptrace.Tracee(pid) as mover:
                path = mover.write(b"/etc/passwd\0")
                self.assertEqual(mover.call(ptrace.OPENAT, -100, path, 0), -errno.EPERM)
                for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_NETLINK):
                    self.assertEqual(mover.call(ptrace.SOCKET, family, socket.SOCK_STREAM, 0), -errno.EPERM)
                # With a socket that it has been given.
                address = mover.write(struct.pack("=H", socket.AF_INET) + struct.pack(">HI", 22, 0x7F000001) + bytes(8))
                for descriptor in (int(entry.name) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir()):
                    self.assertEqual(mover.call(ptrace.CONNECT, descriptor, address, 16), -errno.EPERM)
        # None of it has disturbed the migration.
        self.cluster.network.speed_up(self.cluster.network.hosts["a"])
        self.assertEqual(self.wait_for_phase("completed", "failed"), "completed")

    def test_a_mover_that_wants_another_program_dies_and_the_guest_stays(self):
        with self.assertRaises(ptrace.Killed) as killed, ptrace.Tracee(self.movers[0]) as mover:
            mover.call(ptrace.EXECVE, mover.write(b"/bin/true\0"), 0, 0)
        self.assertEqual(killed.exception.signal, signal.SIGSYS)
        self.wait_for_phase("failed")
        vm = self.cluster.json("vm", "show", "web1")
        self.assertEqual((vm["host"], vm["state"]), ("a", "running"))


class InjectionTest(harness.TestCase):

    def test_the_calls_that_a_mover_is_refused_succeed_in_a_process_that_is_not_confined(self):
        victim = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
                                  stdout=subprocess.PIPE)
        self.addCleanup(victim.stdout.close)
        self.addCleanup(victim.wait)
        self.addCleanup(victim.kill)
        victim.stdout.readline()  # it has begun, and is no copy of us any more
        with ptrace.Tracee(victim.pid) as process:
            descriptor = process.call(ptrace.OPENAT, -100, process.write(b"/etc/passwd\0"), 0)
            self.assertGreaterEqual(descriptor, 0)
            self.assertEqual(process.call(ptrace.CLOSE, descriptor), 0)
            self.assertGreaterEqual(process.call(ptrace.SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0), 0)


if __name__ == "__main__":
    harness.main()
