#!/usr/bin/python3
"""Hosts that are lost, or only seem to be."""

import os
import signal

import harness
from cluster import Cluster, CommandFailed
from guest import check_journal


class DeadHostTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)
        if not self.cluster.network.isolated:
            self.skipTest("one network for all cannot be cut")

    def boot(self, **definition):
        self.cluster.create_vm(append=f"guest.fill=16 guest.journal={int('disks' in definition)}",
                               memory="192MiB", **definition)
        self.wait_ready()

    def wait_ready(self):
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()

    def qemus(self, host):
        return [pid for pid in self.cluster.processes("qemu-system-x86_64")
                if self.cluster.network.hosts[host].holds(pid)]

    def events(self):
        return [event["type"] for event in self.cluster.json("events")]

    def wait_alive(self, host):
        """Until a host that was confirmed dead has nothing left that is another's."""
        self.cluster.wait_for_host(host)
        harness.wait_for(lambda: "host.alive" in self.events(), 20, f"host {host} to be alive")

    def vm(self):
        return self.cluster.json("vm", "show", "web1")

    def test_a_vm_of_a_host_that_was_lost_boots_elsewhere_and_keeps_its_disk(self):
        disk = self.dir / "disk.raw"
        with open(disk, "wb") as image:
            image.truncate(16 << 20)
        disk.chmod(0o666)
        self.boot(disks=[{"path": str(disk), "format": "raw"}])
        self.cluster.agents["a"].kill()
        os.kill(self.qemus("a")[0], signal.SIGKILL)
        self.cluster.wait_for_host("a", "unreachable")
        self.assertEqual(self.vm()["state"], "unknown")
        with self.assertRaises(CommandFailed) as refused:
            self.cluster.sealift("vm", "start", "web1", "--host", "b")
        self.assertEqual(refused.exception.status, 8)
        self.assertIn("sealift host confirm-dead a", refused.exception.message)

        self.cluster.sealift("host", "confirm-dead", "a")
        dead = self.cluster.json("host", "show", "a")
        self.assertEqual(dead["state"], "dead")
        self.assertTrue(dead["dead_since"])
        self.assertEqual(self.vm()["state"], "crashed")
        self.cluster.sealift("vm", "start", "web1", "--host", "b")
        self.wait_ready()
        self.assertEqual((self.vm()["host"], self.vm()["state"], self.vm()["epoch"]), ("b", "running", 2))
        self.assertEqual(check_journal.check(disk).boots, 2)

        self.cluster.agents["a"] = self.cluster.start_agent("a")
        self.wait_alive("a")
        self.assertFalse(self.cluster.json("host", "show", "a")["dead_since"])
        self.assertEqual(self.qemus("a"), [])
        self.assertEqual(len(self.qemus("b")), 1)
        self.assertEqual(self.cluster.migrate("web1", "a")["progress"]["phase"], "completed")

    def test_a_host_that_was_only_cut_off_gives_up_what_others_own(self):
        self.boot()
        self.cluster.network.cut("a")
        self.cluster.wait_for_host("a", "unreachable")
        self.cluster.sealift("host", "confirm-dead", "a")
        self.cluster.sealift("vm", "start", "web1", "--host", "b")
        self.wait_ready()
        self.cluster.network.mend("a")
        self.wait_alive("a")
        self.assertEqual((self.qemus("a"), len(self.qemus("b"))), ([], 1))
        self.assertIn("vm.stale_copy", self.events())
        self.assertEqual((self.vm()["host"], self.vm()["state"]), ("b", "running"))

    def test_a_host_that_answers_is_not_dead(self):
        with self.assertRaises(CommandFailed) as refused:
            self.cluster.sealift("host", "confirm-dead", "a")
        self.assertEqual(refused.exception.status, 8)
        self.assertIn("sealift host drain a", refused.exception.message)
        with self.assertRaises(CommandFailed) as refused:
            self.cluster.sealift("host", "fence", "a")
        self.assertIn("fence.command", refused.exception.message)


if __name__ == "__main__":
    harness.main()
