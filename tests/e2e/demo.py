#!/usr/bin/python3
"""The demonstration behind scripts/demo: a guest moves from host a to host b encrypted, and back in the
clear, while the wire is watched for something that only its memory holds."""

import argparse
import json
import os
import subprocess
import sys

import harness
from cluster import Cluster
from wire import Capture

_FILL_MIB = 512
_DIRTY_MB_PER_SECOND = 20
_VM = "demo"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Demo:
    """One run on a harness.Stage."""

    def __init__(self, stage):
        self._canary = os.urandom(16)
        self._cluster = Cluster(stage)
        self._console = None
        self.migrations = []
        self.canary_on_wire = {}
        self.guest_ok = True
        net = self._cluster.network
        say("hosts a and b are " + ("network namespaces joined by veth" if net.isolated else
                                    "loopback addresses: network namespaces are not allowed here"))

    def boot(self):
        say(f"booting a guest that writes {_FILL_MIB} MiB and goes on writing {_DIRTY_MB_PER_SECOND} MB/s")
        self._cluster.create_vm(_VM, "a", memory="768MiB", encryption="required", append=(
            f"guest.fill={_FILL_MIB} guest.dirty={_DIRTY_MB_PER_SECOND} guest.canary={self._canary.hex()}"))
        self._console = self._cluster.console(_VM)
        self._console.wait_line("READY", 60)

    def move(self, source, destination, mode):
        say(f"moving it from {source} to {destination}, encryption {mode}")
        self._cluster.sealift("vm", "set", _VM, "--encryption", mode)
        before = self._console.status()
        self._console.close()
        network = self._cluster.network
        capture = Capture(network.switch, network.wire, self._canary)
        migration = self._migrate(destination)
        capture.stop()
        self._console = self._cluster.console(_VM)
        self._check_guest(before)
        self._record(migration, source, destination, mode, capture)

    def _migrate(self, destination):
        # The progress line is drawn on the terminal by the command itself.
        result = subprocess.run(self._cluster.command("vm", "migrate", _VM, "--to", destination, "-o", "json"),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"the migration ended with exit status {result.returncode}")
        return json.loads(result.stdout)

    def _check_guest(self, before):
        after = self._console.status()
        verdict = self._console.ask("verify", "verify .*", 60).group()
        ok = verdict.startswith("verify ok") and after["bad"] == 0 and after["mono"] > before["mono"]
        self.guest_ok = self.guest_ok and ok
        say(f"guest: {verdict}, its clock went on from {before['mono']:.1f} to {after['mono']:.1f} s")

    def _record(self, migration, source, destination, mode, capture):
        progress = migration["progress"]
        if capture.bytes < progress["wire_bytes"] / 4:
            raise RuntimeError(f"the capture saw only {capture.bytes} bytes: it proves nothing")
        self.canary_on_wire[mode] = capture.found
        say(f"wire: {capture.bytes / 1e6:.0f} MB watched ({capture.dropped_packets} packets missed), "
            f"canary {'FOUND' if capture.found else 'not found'}")
        self.migrations.append({
            "from": source, "to": destination, "mode": mode,
            "encrypted": migration["encrypted"], "cipher": migration["cipher"],
            "engine": migration["engine"], "ram_bytes": progress["ram_total_bytes"],
            "wire_bytes": progress["wire_bytes"], "duration_ms": progress["elapsed_ms"],
            "downtime_ms": progress["downtime_ms"], "status": progress["phase"]})

    def report(self):
        return {"migrations": self.migrations, "canary_on_wire": self.canary_on_wire,
                "guest_ok": self.guest_ok}

    def held(self):
        """Whether everything that the demonstration is to show was seen."""
        return (self.guest_ok and self.canary_on_wire == {"required": False, "disabled": True} and
                [m["encrypted"] for m in self.migrations] == [True, False] and
                all(m["status"] == "completed" for m in self.migrations))


def table(migrations):
    rows = [("MODE", "CIPHER", "ENGINE", "RAM", "ON THE WIRE", "SECONDS", "GB/S", "DOWNTIME")]
    for m in migrations:
        seconds = m["duration_ms"] / 1000
        rows.append((m["mode"], m["cipher"] or "none", m["engine"], f"{m['ram_bytes'] >> 20} MiB",
                     f"{m['wire_bytes'] / 1e6:.0f} MB", f"{seconds:.2f}",
                     f"{m['wire_bytes'] / 1e9 / seconds:.2f}", f"{m['downtime_ms']} ms"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def run(json_file):
    stage = harness.Stage()
    try:
        demo = Demo(stage)
        demo.boot()
        demo.move("a", "b", "required")
        demo.move("b", "a", "disabled")
    except Exception as error:  # whatever it was: the daemons' logs tell more
        stage.print_logs()
        say(f"demo: {error}")
        return 1
    finally:
        stage.close()
    print(table(demo.migrations))
    for mode, found in demo.canary_on_wire.items():
        print(f"canary of the guest's memory on the wire, {mode}: {'found' if found else 'not found'}")
    if json_file:
        with open(json_file, "w", encoding="utf-8") as output:
            json.dump(demo.report(), output, indent=2)
            output.write("\n")
    if demo.held():
        return 0
    say("demo: not everything held, see above")
    return 1


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the result there, too")
    arguments = parser.parse_args()
    harness.adopt_orphans()
    try:
        sys.exit(run(arguments.json))
    except KeyboardInterrupt:
        say("demo: interrupted, everything is cleaned up")
        sys.exit(130)


if __name__ == "__main__":
    main()
