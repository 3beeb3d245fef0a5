#!/usr/bin/python3
"""Bad input: a clear message that names the thing and the remedy, a documented exit status, nothing changed."""

import json
import subprocess
import unittest

import harness
from cluster import Cluster, CommandFailed

USAGE, UNREACHABLE, NOT_ALLOWED, NOT_FOUND, REFUSED = 2, 3, 4, 5, 8


class RefusalsTest(unittest.TestCase):
    """One cluster for all: nothing that is refused changes it."""

    @classmethod
    def setUpClass(cls):
        cls.shared = harness.Stage()
        cls.addClassCleanup(cls.shared.close)
        cls.cluster = Cluster(cls.shared)
        cls.cluster.create_vm("web1", "a", append="guest.fill=16", memory="192MiB", encryption="required")

    def refuse(self, status, pattern, *argv, stdin=None):
        with self.assertRaises(CommandFailed) as refused:
            self.cluster.sealift(*argv, stdin=stdin)
        self.assertEqual(refused.exception.status, status, refused.exception.message)
        self.assertRegex(refused.exception.message, pattern)

    def create(self, **changes):
        definition = {"name": "other", "memory": "128MiB"}
        definition.update(changes)
        return json.dumps({key: value for key, value in definition.items() if value is not None})

    def tearDown(self):
        self.assertEqual([vm["name"] for vm in self.cluster.json("vm", "list")], ["web1"])
        self.assertEqual(self.cluster.json("vm", "show", "web1")["host"], "a")
        self.assertEqual(self.cluster.json("migration", "list"), [])

    def test_unknown_names(self):
        self.refuse(NOT_FOUND, "web9", "vm", "show", "web9")
        self.refuse(NOT_FOUND, "web9", "vm", "migrate", "web9", "--to", "b")
        self.refuse(NOT_FOUND, "host named 'c'", "vm", "migrate", "web1", "--to", "c")
        self.refuse(NOT_FOUND, "host named 'c'", "host", "show", "c")
        self.refuse(NOT_FOUND, "0" * 32, "migration", "show", "0" * 32)

    def test_usage(self):
        self.refuse(USAGE, "--to", "vm", "migrate", "web1")
        self.refuse(USAGE, "unknown argument 'nonsense'", "nonsense")
        self.refuse(USAGE, "unknown argument 'nonsense'", "vm", "nonsense")
        self.refuse(USAGE, "sometimes", "vm", "set", "web1", "--encryption", "sometimes")

    def test_same_host(self):
        self.refuse(REFUSED, "web1.*already.*host a|host a.*already", "vm", "migrate", "web1", "--to", "a")

    def test_definitions(self):
        create = ("vm", "create", "-", "--host", "a")
        self.refuse(REFUSED, "web1", *create, stdin=self.create(name="web1"))
        self.refuse(USAGE, r"stdin:3: unknown key 'memroy'.*'memory'", *create, stdin="name: x\nmemory: 1GiB\nmemroy: 2GiB\n")
        self.refuse(USAGE, r"stdin:2:", *create, stdin="name: x\n\tmemory: [\n")
        self.refuse(USAGE, "memory", *create, stdin=self.create(memory="12 parsecs"))
        self.refuse(USAGE, "q35", *create, stdin=self.create(machine="q35"))
        self.refuse(USAGE, "memory", *create, stdin=self.create(memory=None))

    def test_what_the_host_lacks(self):
        create = ("vm", "create", "-", "--host", "a")
        missing = str(self.shared.dir / "missing.raw")
        self.refuse(REFUSED, "missing.raw", *create, stdin=self.create(disks=[{"path": missing, "format": "raw"}]))
        secret = self.shared.dir / "secret.raw"
        secret.touch(mode=0o600)
        self.refuse(REFUSED, r"secret.raw.*sealift-qemu", *create,
                    stdin=self.create(disks=[{"path": str(secret), "format": "raw"}]))
        self.refuse(REFUSED, "pc-q35-9.9", *create, stdin=self.create(machine="pc-q35-9.9"))
        self.refuse(REFUSED, "Imaginary", *create, stdin=self.create(cpu_model="Imaginary"))
        self.refuse(REFUSED, "nosuchbr0", *create, stdin=self.create(nics=[{"bridge": "nosuchbr0"}]))

    def test_a_stopped_vm_does_not_migrate(self):
        self.cluster.sealift("vm", "stop", "web1", "--force")
        self.refuse(REFUSED, "web1.*stopped.*start", "vm", "migrate", "web1", "--to", "b")
        self.cluster.sealift("vm", "start", "web1")

    def test_names_taken(self):
        self.refuse(REFUSED, "host named a already", "host", "add", "a", "--address", "192.0.2.1")

    def join(self, token, folder="x"):
        enrolment = f"{self.cluster.network.switch.address}:{self.cluster._controller_ports[1]}"
        return subprocess.run(self.cluster.network.switch.command(
            [harness.binary("sealift-agentd"), "join", "--controller", enrolment, "--token", token,
             "--state-dir", self.shared.dir / folder]), capture_output=True, text=True, timeout=60, check=False)

    def test_tokens(self):
        added = self.cluster.json("host", "add", "c", "--address", "192.0.2.1")
        self.addCleanup(self.cluster.sealift, "host", "remove", "c")
        cut = self.join(added["token"][:-9])
        self.assertNotEqual(cut.returncode, 0)
        self.assertIn("token", cut.stderr)
        self.assertEqual(self.join(added["token"], "c1").returncode, 0)
        again = self.join(added["token"], "c2")
        self.assertNotEqual(again.returncode, 0)
        self.assertRegex(again.stderr, "expired|used")
        self.assertFalse((self.shared.dir / "c2" / "identity.pem").exists())

    def test_a_stranger_and_a_host_get_nothing_from_the_controller(self):
        other = self.shared.dir / "other.yaml"
        subprocess.run([harness.binary("sealift-controllerd"), "init", "--state-dir", self.shared.dir / "other",
                        "--address", "127.0.0.1", "--context-out", other], check=True, capture_output=True)
        address = f"{self.cluster.network.switch.address}:{self.cluster._controller_ports[0]}"
        stranger = subprocess.run(self.cluster.network.switch.command(
            [harness.binary("sealift"), "--context", other, "--controller", address, "--timeout", "5", "host", "list"]),
            capture_output=True, text=True, timeout=60, check=False)
        self.assertIn(stranger.returncode, (UNREACHABLE, NOT_ALLOWED))
        self.assertIn(address, stranger.stderr)

    def test_an_unreachable_controller(self):
        port = harness.free_port()
        self.refuse(UNREACHABLE, f"{port}", "--controller", f"127.0.0.1:{port}", "--timeout", "3", "vm", "list")


if __name__ == "__main__":
    harness.main()
