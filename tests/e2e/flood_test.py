#!/usr/bin/python3
"""Strangers at the port of a mover that receives a guest: they get nothing, and cost it nothing."""

import json
import pathlib
import subprocess
import sys

import harness
from cluster import Cluster
from usage import Usage

FILL = 64
SLOW_MEGABITS = 30
STRANGERS = 10_000

# Runs in the place of the switch. Each connection is one of: silent, the beginning of a hello and then silence, a whole
# hello of another migration, garbage, garbage and a reset. At most 500 of them are held open at a time.
_FLOOD = """
import collections, json, os, socket, struct, sys
address, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
hello = b"SLFT" + struct.pack(">BBHI", 1, 1, 1, 1)
openings = [b"", hello, hello + os.urandom(64), os.urandom(2000), os.urandom(64), hello[:5]]
open_ones, answered, refused = collections.deque(), 0, 0
def close(sock, how):
    global answered
    sock.setblocking(False)
    try:
        answered += len(sock.recv(4096))
    except OSError:
        pass
    if how:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
for number in range(count):
    sock = socket.socket()
    sock.settimeout(5)
    try:
        sock.connect(address)
        sock.sendall(openings[number % len(openings)])
    except OSError:
        refused += 1
        sock.close()
        continue
    open_ones.append(sock)
    if len(open_ones) > 500:
        close(open_ones.popleft(), number % 2)
while open_ones:
    close(open_ones.popleft(), 0)
print(json.dumps({"answered": answered, "refused": refused}))
"""


class FloodTest(harness.TestCase):

    def test_ten_thousand_strangers_stop_no_migration(self):
        cluster = Cluster(self)
        cluster.create_vm(append=f"guest.fill={FILL} guest.dirty=5", memory=f"{FILL + 128}MiB", encryption="required")
        console = cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()
        source, destination = (cluster.network.hosts[name] for name in "ab")
        cluster.network.slow_down(source, SLOW_MEGABITS)
        migration = cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach").strip()

        def phase():
            return cluster.json("migration", "show", migration)["progress"]["phase"]
        harness.wait_for(lambda: phase() == "copying", 60, "the migration to copy")
        port = self.listening_port(destination)
        receiver = next(pid for pid in cluster.processes("sealift-mover") if self.listens(pid))
        usage = Usage(receiver)
        usage.look()
        before = (usage.descriptors, usage.resident_kib)

        flood = subprocess.Popen(cluster.network.switch.command(
            [sys.executable, "-c", _FLOOD, destination.address, port, STRANGERS]), stdout=subprocess.PIPE)
        self.addCleanup(flood.wait)
        self.addCleanup(flood.kill)
        while flood.poll() is None:
            usage.look()
        self.assertEqual(flood.returncode, 0)
        outcome = json.loads(flood.stdout.read())
        flood.stdout.close()
        self.assertEqual(phase(), "copying", "the flood was over before the migration")
        print(f"descriptors {before[0]} -> {usage.descriptors}, resident {before[1]} -> {usage.resident_kib} KiB, "
              f"{outcome}", file=sys.stderr)

        self.assertEqual(outcome["answered"], 0, "strangers get no byte")
        self.assertLess(outcome["refused"], STRANGERS / 10)
        self.assertLessEqual(usage.descriptors, before[0] + 64 + 2, "hellos under way at most, and one in passing")
        self.assertLess(usage.resident_kib, before[1] + 4096)
        cluster.network.speed_up(source)
        harness.wait_for(lambda: phase() in ("completed", "failed"), 60, "the migration to end")
        self.assertEqual(phase(), "completed")
        console = cluster.console("web1")
        self.assertTrue(console.ask("verify", "verify .*", 30).group().startswith("verify ok"))

    @staticmethod
    def listening_port(place):
        """The port of 7440-7499 at which somebody listens in a place."""
        output = place.run("cat", "/proc/net/tcp").stdout
        ports = [int(line.split()[1].rsplit(":", 1)[1], 16) for line in output.splitlines()[1:]
                 if line.split()[3] == "0A"]
        return next(port for port in ports if 7440 <= port <= 7499)

    @staticmethod
    def listens(pid):
        """Whether a mover holds a listening TCP socket: the receiving one does."""
        sockets = {entry.readlink().name for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
        listening = {f"socket:[{line.split()[9]}]" for line in
                     pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"}
        return bool(sockets & listening)


if __name__ == "__main__":
    harness.main()
