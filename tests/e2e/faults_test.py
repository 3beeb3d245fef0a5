#!/usr/bin/python3
"""What happens to the guest when something else dies."""

import json
import os
import pathlib
import re
import signal

import harness
from cluster import Cluster, CommandFailed, processes

FILL = 96  # MiB of memory that the guest writes
ENDS = ("completed", "failed", "cancelled")
SLOW_MEGABITS = 50  # at which they take 16 s


class FaultsCase(harness.TestCase):
    agent_settings = None

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self, agent_settings=self.agent_settings)

    def boot(self, fill=FILL):
        self.cluster.create_vm(append=f"guest.fill={fill} guest.dirty=10", memory=f"{fill + 160}MiB",
                               encryption="required")
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()

    def start_slow_migration(self):
        """Begins a migration that takes far longer than what the test does to it, and returns its id."""
        self.cluster.network.slow_down(self.cluster.network.hosts["a"], SLOW_MEGABITS)
        migration = self.cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach").strip()
        # "copying" is written down before the hosts are told: until bytes flow, a host that is cut off ends it.
        self.wait_for(migration, lambda progress: progress["wire_bytes"] > 0, "to copy")
        return migration

    def speed_up(self):
        self.cluster.network.speed_up(self.cluster.network.hosts["a"])

    def wait_for_phase(self, migration, phase):
        self.wait_for(migration, lambda progress: progress["phase"] == phase, f"to be {phase}")

    def wait_for(self, migration, condition, what):
        def holds():
            progress = self.cluster.json("migration", "show", migration)["progress"]
            holds_now = condition(progress)
            self.assertFalse(not holds_now and progress["phase"] in ENDS, f"the migration has ended: {progress}")
            return holds_now
        harness.wait_for(holds, 60, f"migration {what}")

    def assert_runs_only_on(self, host):
        self.assertEqual(self.cluster.json("vm", "show", "web1")["host"], host)
        self.assertEqual(self.cluster.json("vm", "show", "web1")["state"], "running")
        harness.wait_for(lambda: len(processes("qemu-system-x86_64", self.dir)) == 1, 20, "one QEMU")
        harness.wait_for(lambda: not processes("sealift-mover", self.dir), 20, "no mover")
        console = self.cluster.console("web1")
        self.assertTrue(console.ask("verify", "verify .*", 30).group().startswith("verify ok"))
        console.close()


class FaultsTest(FaultsCase):

    def test_a_dead_mover_leaves_the_guest_at_the_source(self):
        self.boot()
        migration = self.start_slow_migration()
        movers = processes("sealift-mover", self.dir)
        self.assertEqual(len(movers), 2)
        os.kill(movers[0], signal.SIGKILL)
        self.wait_for_phase(migration, "failed")
        self.assert_runs_only_on("a")
        # And the next try succeeds.
        self.speed_up()
        self.assertEqual(self.cluster.migrate("web1", "b")["progress"]["phase"], "completed")
        self.assert_runs_only_on("b")

    def test_cancel_leaves_the_guest_at_the_source_and_twice_is_harmless(self):
        self.boot()
        migration = self.start_slow_migration()
        self.cluster.sealift("migration", "cancel", migration)
        self.wait_for_phase(migration, "cancelled")
        self.assert_runs_only_on("a")
        # Cancelling what was cancelled is answered as the first time, and does nothing.
        again = self.cluster.json("migration", "cancel", migration)
        self.assertEqual(again["progress"]["phase"], "cancelled")
        self.assert_runs_only_on("a")
        # After a commit it is too late, and the answer says where the VM runs.
        self.speed_up()
        moved = self.cluster.migrate("web1", "b")
        with self.assertRaises(CommandFailed) as late:
            self.cluster.sealift("migration", "cancel", moved["id"])
        self.assertRegex(late.exception.message, r"completed|committed")
        self.assertRegex(late.exception.message, r"host b")
        self.assert_runs_only_on("b")

    def test_a_dead_destination_is_refused_before_anything_is_touched(self):
        self.boot(fill=16)
        self.cluster.agents["b"].kill()
        self.cluster.wait_for_host("b", "unreachable")
        with self.assertRaises(CommandFailed) as refused:
            self.cluster.migrate("web1", "b")
        self.assertEqual(refused.exception.status, 8)
        self.assertRegex(refused.exception.message, "host b")
        self.assertEqual(self.cluster.json("migration", "list"), [])
        self.assert_runs_only_on("a")

    def test_a_killed_agent_leaves_its_guest_running_and_adopts_it(self):
        self.boot(fill=16)
        before = processes("qemu-system-x86_64", self.dir)
        self.cluster.agents["a"].kill()
        self.cluster.wait_for_host("a", "unreachable")
        self.assertEqual(self.cluster.json("vm", "show", "web1")["state"], "unknown")
        self.cluster.agents["a"] = self.cluster.start_agent("a")
        self.cluster.wait_for_host("a")
        self.assertEqual(processes("qemu-system-x86_64", self.dir), before)
        self.assert_runs_only_on("a")

    def test_a_qemu_that_does_not_answer_takes_no_host_away(self):
        self.boot(fill=16)
        self.cluster.create_vm("web2", append="guest.fill=16", memory="176MiB")
        silent, = (pid for pid in self.cluster.processes("qemu-system-x86_64")
                   if b"guest=web2" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(silent, signal.SIGSTOP)
        self.addCleanup(os.kill, silent, signal.SIGCONT)
        harness.wait_for(lambda: "does not answer" in self.cluster.json("vm", "show", "web2").get("state_reason", ""), 20,
                         "the silence to be noticed")
        self.assertEqual(self.cluster.json("host", "show", "a")["state"], "ready")
        self.assertEqual(self.cluster.migrate("web1", "b")["progress"]["phase"], "completed")
        self.assertEqual(self.cluster.json("host", "show", "a")["state"], "ready")

    def test_a_source_agent_killed_while_copying_undoes_the_migration(self):
        self.boot()
        migration = self.start_slow_migration()
        self.cluster.agents["a"].kill()
        self.cluster.agents["a"] = self.cluster.start_agent("a")
        self.wait_for_phase(migration, "failed")
        self.cluster.wait_for_host("a")
        self.assert_runs_only_on("a")

    def test_a_source_agent_that_is_stopped_undoes_the_migration_before_it_ends(self):
        self.boot()
        qemu, = self.cluster.processes("qemu-system-x86_64")
        migration = self.start_slow_migration()
        self.assertEqual(self.cluster.agents["a"].stop(), 0)
        record, = (self.dir / "a/state/migrations").glob("*.json")
        self.assertEqual(json.loads(record.read_text())["step"], "resumed")
        self.assertIn(qemu, self.cluster.processes("qemu-system-x86_64"))
        self.cluster.agents["a"] = self.cluster.start_agent("a")
        self.wait_for_phase(migration, "failed")
        self.cluster.wait_for_host("a")
        self.assert_runs_only_on("a")

    def test_a_destination_agent_killed_while_copying_leaves_the_guest_at_the_source(self):
        self.boot()
        migration = self.start_slow_migration()
        self.cluster.agents["b"].kill()
        self.cluster.agents["b"] = self.cluster.start_agent("b")
        self.wait_for_phase(migration, "failed")
        self.assert_runs_only_on("a")

    def test_a_controller_killed_while_copying_stops_nothing(self):
        self.boot()
        migration = self.start_slow_migration()
        self.cluster.controller.kill()
        self.cluster.controller = self.cluster.start_controller()
        self.speed_up()
        self.wait_for_phase(migration, "completed")
        self.assert_runs_only_on("b")

    def test_a_network_that_is_silent_for_a_while_only_delays(self):
        if not self.cluster.network.isolated:
            self.skipTest("one network for all cannot be cut")
        self.boot()
        migration = self.start_slow_migration()
        self.cluster.network.cut("b")
        # Nobody tells the movers: they have to notice.
        harness.wait_for(lambda: "connection lost" in self.cluster.agents["a"].output(), 15, "the loss to be noticed")
        self.cluster.network.mend("b")
        self.speed_up()
        self.wait_for_phase(migration, "completed")
        self.assert_runs_only_on("b")

    def test_a_migration_goes_on_over_the_other_address_when_one_dies(self):
        network = self.cluster.network
        if not network.isolated:
            self.skipTest("one network for all has no address to lose")
        here = network.hosts["b"]
        other = here.address + "0"
        here.run("ip", "addr", "add", f"{other}/24", "dev", "br0")
        self.cluster.agents["b"].stop()
        with open(self.dir / "b/agent.yaml", "a") as settings:
            settings.write(f"migration_addresses: [{here.address}, {other}, 192.0.2.1]\n")
        self.cluster.agents["b"] = self.cluster.start_agent("b")
        self.cluster.wait_for_host("b")
        self.boot()
        migration = self.start_slow_migration()
        self.assertRegex(self.cluster.agents["b"].output(), "migration address 192.0.2.1: .*")
        connected = here.run("ss", "--tcp", "--numeric", "--no-header", "src", other).stdout
        self.assertIn(other, connected, "streams are spread over the addresses")
        here.run("ip", "addr", "del", f"{other}/24", "dev", "br0")
        harness.wait_for(lambda: "connection lost" in self.cluster.agents["a"].output(), 15, "the loss to be noticed")
        self.speed_up()
        self.wait_for_phase(migration, "completed")
        self.assert_runs_only_on("b")

    def test_the_controller_ends_cleanly_while_somebody_watches(self):
        follower = self.start("follower", self.cluster.command("events", "--follow"))
        follower.wait_for_output("host", 20)
        self.assertEqual(self.cluster.controller.stop(timeout=5), 0)
        # The follower waits for it to come back.
        self.cluster.controller = self.cluster.start_controller()
        self.cluster.sealift("host", "add", "c", "--address", "192.0.2.1")
        follower.wait_for_output("host/c", 60)

    def test_nothing_of_a_migration_is_stored_that_could_be_a_key(self):
        self.boot()
        migration = self.start_slow_migration()
        self.assert_stores_no_key("a/state/migrations", "b/state/migrations", "controller")
        self.speed_up()
        self.wait_for_phase(migration, "completed")
        self.assert_stores_no_key("controller")

    def assert_stores_no_key(self, *folders):
        """Each of these folders holds files, and none of them anything like a key."""
        for folder in folders:
            files = [path for path in (self.dir / folder).rglob("*") if path.is_file()]
            self.assertTrue(files, folder)
            for path in files:
                self.assertIsNone(re.search(rb"sealed_key|public_key", path.read_bytes()), path)


class ReconnectTest(FaultsCase):
    agent_settings = {host: {"reconnect_seconds": 2} for host in ("a", "b")}

    def test_a_destination_that_cannot_be_reached_is_named_with_the_reason(self):
        if not self.cluster.network.isolated:
            self.skipTest("needs network namespaces")
        self.boot(fill=16)
        source, destination = (self.cluster.network.hosts[host] for host in ("a", "b"))
        source.run("ip", "route", "add", "unreachable", destination.address)
        with self.assertRaises(CommandFailed) as failed:
            self.cluster.migrate("web1", "b")
        self.assertRegex(failed.exception.message, "had no connection for 2 s "
                         rf"\(connect to {re.escape(destination.address)}:\d+: .*No route to host\)")
        self.assert_runs_only_on("a")
        source.run("ip", "route", "delete", "unreachable", destination.address)
        self.assertEqual(self.cluster.migrate("web1", "b")["progress"]["phase"], "completed")
        self.assert_runs_only_on("b")



if __name__ == "__main__":
    harness.main()
