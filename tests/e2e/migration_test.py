#!/usr/bin/python3
"""Moves of a real guest between real agents."""

import socket
import subprocess
import threading

import harness
from cluster import Cluster, CommandFailed
from guest import check_journal

_GUEST_ADDRESS = "10.213.0.100"
_COUNTER_PORT = 7777


class Counter:
    """An established TCP connection to the guest's counter: one growing number every 50 ms.

    The connection is made in the place of the switch by a small relay, since this process is
    elsewhere; its lines are read here.
    """

    def __init__(self, stage, place):
        ours, theirs = socket.socketpair()
        program = ("import socket,sys;s=socket.create_connection((sys.argv[1],int(sys.argv[2])),10);s.settimeout(None)\n"
                   "while d:=s.recv(4096): sys.stdout.buffer.write(d); sys.stdout.buffer.flush()")
        with theirs:
            stage.start_piped("counter", place.command(
                ["/usr/bin/python3", "-c", program, _GUEST_ADDRESS, _COUNTER_PORT]), theirs)
        self.numbers = []
        self._changed = threading.Condition()
        self._lines = ours.makefile("r")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._lines:
            with self._changed:
                self.numbers.append(int(line))
                self._changed.notify_all()

    def wait_for_more(self, timeout=20):
        """Waits for 20 more numbers (a second of the guest's life)."""
        with self._changed:
            wanted = len(self.numbers) + 20
            if not self._changed.wait_for(lambda: len(self.numbers) >= wanted, timeout):
                raise AssertionError(f"the guest's connection stands still after {self.numbers[-1:]}")


class MigrationTest(harness.TestCase):

    def make_disk(self, size_mib=64):
        disk = self.dir / "disk.raw"
        with open(disk, "wb") as image:
            image.truncate(size_mib << 20)
        disk.chmod(0o666)
        return disk

    def test_ten_moves_lose_nothing(self):
        cluster = Cluster(self)
        disk = self.make_disk()
        network = cluster.network.isolated
        nics = [{"bridge": "br0"}] if network else []
        cluster.create_vm(append=f"guest.fill=64 guest.dirty=10 guest.journal=1 guest.ip={_GUEST_ADDRESS}/24",
                          memory="256MiB", disks=[{"path": str(disk), "format": "raw"}], nics=nics,
                          encryption="required")
        console = cluster.console("web1")
        console.wait_line("READY", 60)
        first = console.status()
        console.close()
        counter = Counter(self, cluster.network.switch) if network else None
        for move in range(10):
            host = "ba"[move % 2]
            engine = ("direct", "direct", "stream", "stream")[move % 4]
            migration = cluster.migrate("web1", host, "--engine", engine)
            self.assertEqual(migration["progress"]["phase"], "completed", migration)
            self.assertEqual(migration["engine"], engine)
            self.assertTrue(migration["encrypted"])
            self.assertEqual(cluster.json("vm", "show", "web1")["host"], host)
            if counter:
                counter.wait_for_more()
        console = cluster.console("web1")
        self.assertTrue(console.ask("verify", "verify .*", 30).group().startswith("verify ok"))
        last = console.status()
        self.assertEqual(last["bad"], 0)
        self.assertGreater(last["mono"], first["mono"])
        self.assertGreater(last["journal"], first["journal"])
        if counter:
            self.assertEqual(counter.numbers, list(range(counter.numbers[0], counter.numbers[-1] + 1)))
        cluster.sealift("vm", "stop", "web1")
        journal = check_journal.check(disk)
        self.assertGreaterEqual(journal.records, last["journal"])
        self.assertEqual(journal.boots, 1)
        self.assertEqual(cluster.json("vm", "show", "web1")["epoch"], 11)

    def test_opportunistic_falls_back_visibly_and_required_is_refused(self):
        cluster = Cluster(self, agent_settings={"b": {"crypto": "off"}})
        cluster.create_vm(append="guest.fill=16", memory="192MiB")
        cluster.console("web1").wait_line("READY", 60)
        cluster.sealift("vm", "set", "web1", "--encryption", "required")
        with self.assertRaises(CommandFailed) as refused:
            cluster.migrate("web1", "b")
        self.assertEqual(refused.exception.status, 8)
        self.assertIn("host b cannot encrypt (crypto is off in its agent.yaml)", refused.exception.message)
        self.assertEqual(cluster.json("migration", "list"), [])
        self.assertEqual(cluster.json("vm", "show", "web1")["state"], "running")

        cluster.sealift("vm", "set", "web1", "--encryption", "opportunistic")
        moved = subprocess.run(cluster.command("vm", "migrate", "web1", "--to", "b"), check=True,
                               capture_output=True, text=True, timeout=120)
        self.assertIn("in the clear", moved.stderr)
        migration = cluster.json("migration", "list")[0]
        self.assertFalse(migration["encrypted"])
        self.assertIn("crypto is off", migration["decision_reason"])
        events = [event["type"] for event in cluster.json("events")]
        self.assertIn("migration.in_the_clear", events)

    def test_detached_migration_can_be_watched_and_repeated_by_request_id(self):
        cluster = Cluster(self)
        cluster.create_vm(append="guest.fill=64", memory="256MiB")
        cluster.console("web1").wait_line("READY", 60)
        argv = ["vm", "migrate", "web1", "--to", "b", "--detach", "--request-id", "nightly-1"]
        migration = cluster.sealift(*argv).strip()
        self.assertEqual(cluster.sealift(*argv).strip(), migration)
        cluster.sealift("migration", "watch", migration)
        self.assertEqual(cluster.json("migration", "show", migration)["progress"]["phase"], "completed")
        self.assertEqual(cluster.sealift(*argv).strip(), migration)
        self.assertEqual(len(cluster.json("migration", "list")), 1)


if __name__ == "__main__":
    harness.main()
