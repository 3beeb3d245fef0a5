#!/usr/bin/python3
"""Daemons whose programs are replaced, as a package does it, and that are restarted: under a running VM, and under a
migration. What becomes of a guest when they are killed is in faults_test.py."""

import os
import shutil

import harness
from cluster import Cluster, processes

_ENDS = ("completed", "failed", "cancelled")
_SLOW_MEGABITS = 50
_FILL = {"small": 16, "slow": 96}  # MiB; at _SLOW_MEGABITS the second takes 16 s


class ReplacementTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.bin = self.dir / "bin"
        self.bin.mkdir()
        for name in ("sealift", "sealift-controllerd", "sealift-agentd", "sealift-mover"):
            shutil.copy(harness.binary(name), self.bin)
        self.cluster = Cluster(self, bins={place: self.bin for place in ("controller", "a", "b")})

    # -- Replacing

    def replace(self, path):
        """Renames a copy over a program that may be running."""
        copy = path.with_suffix(".new")
        shutil.copy(path, copy)
        copy.rename(path)

    def restart_agent(self, host):
        """With SIGTERM, as systemd does, and with a replaced program."""
        self.replace(self.bin / "sealift-agentd")
        self.assertEqual(self.cluster.agents[host].stop(), 0)
        self.cluster.agents[host] = self.cluster.start_agent(host)
        self.assert_runs_program(self.cluster.agents[host], "sealift-agentd")

    def restart_controller(self):
        self.replace(self.bin / "sealift-controllerd")
        self.assertEqual(self.cluster.controller.stop(), 0)
        self.cluster.controller = self.cluster.start_controller()
        self.assert_runs_program(self.cluster.controller, "sealift-controllerd")

    def assert_runs_program(self, process, name):
        self.assertTrue(os.path.samefile(f"/proc/{process.pid}/exe", self.bin / name), f"{name} is not the new one")

    # -- The guest

    def boot(self, fill):
        self.cluster.create_vm(append=f"guest.fill={_FILL[fill]} guest.dirty=10", memory=f"{_FILL[fill] + 160}MiB",
                               encryption="required")
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()

    def start_slow_migration(self):
        """Begins a migration that takes far longer than what the test does to it, and returns its id."""
        if not self.cluster.network.isolated:
            self.skipTest("one network for all cannot be slowed down")
        self.boot("slow")
        self.cluster.network.slow_down(self.cluster.network.hosts["a"], _SLOW_MEGABITS)
        migration = self.cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach").strip()
        harness.wait_for(lambda: self.progress(migration)["wire_bytes"] > 0, 30, "the migration to copy")
        return migration

    def speed_up(self):
        self.cluster.network.speed_up(self.cluster.network.hosts["a"])

    def progress(self, migration):
        return self.cluster.json("migration", "show", migration)["progress"]

    def assert_ends(self, migration, *phases):
        ended = harness.wait_for(
            lambda: (progress := self.progress(migration))["phase"] in _ENDS and progress, 60, "end of the migration")
        self.assertIn(ended["phase"], phases, ended)

    def assert_runs_only_on(self, host):
        vm = harness.wait_for(lambda: (vm := self.cluster.json("vm", "show", "web1"))["state"] == "running" and vm, 20,
                              "the VM to be reported as running")
        self.assertEqual(vm["host"], host)
        harness.wait_for(lambda: len(processes("qemu-system-x86_64", self.dir)) == 1, 20, "one QEMU")
        harness.wait_for(lambda: not processes("sealift-mover", self.dir), 20, "no mover")
        self.assertTrue(self.cluster.network.hosts[host].holds(processes("qemu-system-x86_64", self.dir)[0]))
        console = self.cluster.console("web1")
        self.assertTrue(console.ask("verify", "verify .*", 30).group().startswith("verify ok"))
        console.close()

    def assert_moves(self, host):
        self.assertEqual(self.cluster.migrate("web1", host)["progress"]["phase"], "completed")
        self.assert_runs_only_on(host)

    # -- Under a running VM

    def test_both_agents_are_replaced_under_a_running_vm(self):
        self.boot("small")
        before = processes("qemu-system-x86_64", self.dir)
        for host in ("a", "b"):
            self.restart_agent(host)
            self.cluster.wait_for_host(host)
        self.assertEqual(processes("qemu-system-x86_64", self.dir), before)
        self.assert_runs_only_on("a")
        self.assert_moves("b")
        self.assert_moves("a")

    def test_an_agent_runs_the_mover_it_was_started_with(self):
        """Between the replacement of the programs and the restart of the agent they are of two versions."""
        self.boot("small")
        other = self.dir / "other"
        other.mkdir()
        shutil.copy("/bin/false", other / "sealift-mover")
        for host in ("a", "b"):
            self.cluster.bins[host] = other
            self.cluster.install_mover(host)
        self.assert_moves("b")

    # -- Under a migration

    def test_the_source_agent_is_replaced_under_a_migration(self):
        migration = self.start_slow_migration()
        self.restart_agent("a")
        self.assert_ends(migration, "failed", "cancelled")
        self.speed_up()
        self.assert_runs_only_on("a")
        self.assert_moves("b")

    def test_the_destination_agent_is_replaced_under_a_migration(self):
        migration = self.start_slow_migration()
        self.restart_agent("b")
        self.assert_ends(migration, "failed", "cancelled")
        self.speed_up()
        self.assert_runs_only_on("a")
        self.assert_moves("b")

    def test_the_controller_is_replaced_under_a_migration(self):
        migration = self.start_slow_migration()
        self.restart_controller()
        self.speed_up()
        self.assert_ends(migration, "completed")
        self.assert_runs_only_on("b")
        self.assert_moves("a")


if __name__ == "__main__":
    harness.main()
