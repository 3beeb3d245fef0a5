#!/usr/bin/python3
"""The direct engine on real guests: what could be lost, what is left behind, what it cannot do."""

import os
import pathlib
import re
import struct

import harness
from cluster import Cluster, CommandFailed, processes

_O_DIRECT = 0o40000
_LINK_MEGABITS = 200


class DirectTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)

    def boot(self, append, memory="256MiB", **definition):
        self.cluster.create_vm(append=append, memory=memory, encryption="required", **definition)
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        return console

    def qemu(self):
        return processes("qemu-system-x86_64", self.dir)[0]

    def tracked_mappings(self):
        """Mappings of the guest's process that are registered for write-protection."""
        with open(f"/proc/{self.qemu()}/smaps", encoding="ascii", errors="replace") as smaps:
            return sum(1 for line in smaps if line.startswith("VmFlags:") and " uw" in line)

    def disk_flags(self, disk):
        """The flags with which the guest's process has opened a file."""
        folder = f"/proc/{self.qemu()}"
        for number in os.listdir(f"{folder}/fd"):
            if os.readlink(f"{folder}/fd/{number}") == str(disk):
                with open(f"{folder}/fdinfo/{number}", encoding="ascii") as info:
                    return int(re.search(r"flags:\s+(\d+)", info.read()).group(1), 8)
        raise AssertionError(f"{disk} is not open")

    def without_huge_pages(self, program):
        """Pids of a program's processes that may not have transparent huge pages."""
        return [pid for pid in processes(program, self.dir)
                if "THP_enabled:\t0" in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")]

    def progress_when(self, migration, condition, what):
        """Waits until `condition` holds for the migration, and returns it."""
        last = {}

        def holds():
            last.update(self.cluster.json("migration", "show", migration))
            holds_now = condition(last)
            if not holds_now and last["progress"]["phase"] in ("completed", "failed", "cancelled"):
                raise AssertionError(f"it ended before {what}: {last}")
            return holds_now
        harness.wait_for(holds, 120, what)
        return last

    def phase_is(self, *phases):
        return lambda migration: migration["progress"]["phase"] in phases

    def slow_migration(self, *argv):
        self.cluster.network.slow_down(self.cluster.network.hosts["a"], _LINK_MEGABITS)
        return self.cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach", *argv).strip()

    def assert_guest_intact(self):
        console = self.cluster.console("web1")
        self.assertTrue(console.ask("verify", "verify .*", 60).group().startswith("verify ok"))
        console.close()

    def test_a_guest_that_reads_its_disk_all_the_time_loses_nothing(self):
        disk = self.dir / "disk.raw"
        step, words = 0x9e3779b97f4a7c15, (64 << 20) // 8
        with open(disk, "wb") as image:
            for first in range(0, words, 8192):
                image.write(struct.pack("<8192Q", *(((n + 1) * step) & (2**64 - 1)
                                                    for n in range(first, first + 8192))))
        disk.chmod(0o666)
        console = self.boot("guest.fill=32 guest.dirty=10 guest.readback=1",
                            disks=[{"path": str(disk), "format": "raw"}])
        console.close()
        self.assertTrue(self.disk_flags(disk) & _O_DIRECT)
        for host in "bababa":
            migration = self.cluster.migrate("web1", host)
            self.assertEqual(migration["engine"], "direct", migration["engine_reason"])
            self.assertTrue(self.disk_flags(disk) & _O_DIRECT)
        console = self.cluster.console("web1")
        tick = re.search(r"bad=(\d+).* readback=(\d+) badreads=(\d+)",
                         console.ask("status", "tick .*badreads=.*", 30).group())
        bad, reads, bad_reads = (int(number) for number in tick.groups())
        self.assertEqual((bad, bad_reads), (0, 0))
        self.assertGreater(reads, 100)
        console.close()
        self.assert_guest_intact()

    def test_a_cancel_leaves_the_guest_as_it_was(self):
        disk = self.dir / "disk.raw"
        with open(disk, "wb") as image:
            image.truncate(16 << 20)
        disk.chmod(0o666)
        self.boot("guest.fill=96 guest.dirty=10 guest.journal=1", memory={"size": "256MiB", "hugepages": "off"},
                  disks=[{"path": str(disk), "format": "raw"}]).close()
        migration = self.slow_migration()
        self.progress_when(migration, self.phase_is("copying"), "copying")
        harness.wait_for(lambda: self.tracked_mappings() > 0, 20, "the guest's memory to be tracked")
        self.assertFalse(self.disk_flags(disk) & _O_DIRECT)
        self.assertEqual(len(self.without_huge_pages("qemu-system-x86_64")), 2)
        self.assertEqual(len(self.without_huge_pages("sealift-mover")), 1, "of the destination, which populates")
        self.cluster.sealift("migration", "cancel", migration)
        self.progress_when(migration, self.phase_is("cancelled"), "the cancellation")
        self.assertEqual(self.tracked_mappings(), 0)
        self.assertTrue(self.disk_flags(disk) & _O_DIRECT)
        harness.wait_for(lambda: not processes("sealift-mover", self.dir), 20, "no mover")
        self.assert_guest_intact()

    def test_a_guest_that_writes_faster_than_the_link_is_slowed_down_or_left_alone(self):
        self.boot("guest.fill=32 guest.dirty=60").close()
        failed = self.progress_when(self.slow_migration("--on-no-convergence", "fail"),
                                    self.phase_is("failed"), "the failure")
        self.assertIn("faster than its memory can be copied", failed["progress"]["detail"])
        self.assertEqual(self.cluster.json("vm", "show", "web1")["host"], "a")
        migration = self.cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach").strip()
        self.progress_when(migration, lambda m: "slowed down by" in m["progress"]["detail"],
                           "the guest to be slowed down")
        self.progress_when(migration, self.phase_is("completed"), "the end")
        self.assert_guest_intact()

    def test_private_memory_takes_the_stream_engine_and_says_why(self):
        self.boot("guest.fill=16", memory={"size": "192MiB", "backing": "private"}).close()
        with self.assertRaises(CommandFailed) as refused:
            self.cluster.migrate("web1", "b", "--engine", "direct")
        self.assertEqual(refused.exception.status, 8)
        self.assertIn("--engine auto", refused.exception.message)
        migration = self.cluster.migrate("web1", "b")
        self.assertEqual(migration["engine"], "stream")
        self.assertIn("private", migration["engine_reason"])
        started = [e for e in self.cluster.json("events") if e["type"] == "migration.started"][-1]
        self.assertIn("private", started["text"])
        self.assert_guest_intact()


if __name__ == "__main__":
    harness.main()
