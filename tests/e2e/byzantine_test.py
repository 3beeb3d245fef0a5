#!/usr/bin/python3
"""Somebody at the ports of agents and controller: with a wrong certificate, with the controller's own, with no good
intention. The guest runs on, a migration completes, and what they cost is bounded."""

import json
import os
import pathlib
import subprocess
import sys
import unittest
import uuid

import harness
import impostor
from cluster import Cluster
from guest import KERNEL
from impostor import message
from usage import Usage

sys.path.insert(0, str(harness.SOURCE / "tests" / "interop"))
import hpke  # noqa: E402  pylint: disable=wrong-import-position
import sealift_protocol as protocol  # noqa: E402  pylint: disable=wrong-import-position

STRANGERS = 10_000
HANDSHAKE_SECONDS = 10
PLACES = 256  # of an agent's server; each takes two descriptors, and as many may be about to be closed

AGENT_METHODS = ["GetStatus", "CheckVm", "PutVm", "StartVm", "StopVm", "ForgetVm", "PrepareDestination", "PrepareSource",
                 "StartMigration", "CancelMigration", "TellDecision", "ForgetMigration", "InstallCertificate"]
COMMIT, ABORT = 1, 2
STREAM, REQUIRED, DISABLED, FAILED = 1, 3, 1, 6
_PHASE, _DETAIL = 1, 11  # of a MigrationProgress


class ByzantineTest(unittest.TestCase):
    """One cluster for all, with one guest that runs throughout."""

    @classmethod
    def setUpClass(cls):
        cls.stage = harness.Stage()
        cls.addClassCleanup(cls.stage.close)
        cls.cluster = Cluster(cls.stage)
        cls.cluster.create_vm("web1", "a", append="guest.fill=32 guest.dirty=5", memory="160MiB", encryption="required")
        cls.ask("status")
        cls.authority = impostor.Authority.load(cls.cluster.dir / "controller")
        cls.switch = cls.cluster.network.switch
        operators, enrolment = (f"{cls.switch.address}:{port}" for port in cls.cluster.ports[:2])
        cls.noise = cls.strangers("garbage", *cls.address("b").split(":"),
                                  cls.issue("noise", cls.authority.identity("controller")))
        cls.slow_ones = cls.strangers("dribble", cls.address("b"), operators, enrolment)
        cls.daemons = {name: process.pid for name, process in
                       {**cls.cluster.agents, "controller": cls.cluster.controller}.items()}

    def setUp(self):
        self.addCleanup(self._print_logs)

    def _print_logs(self):
        if harness.failed(self):
            self.stage.print_logs()

    def tearDown(self):
        self.assertTrue(self.ask("verify").startswith("verify ok"), "the guest runs, with its memory whole")
        for name, pid in self.daemons.items():
            self.assertTrue(pathlib.Path(f"/proc/{pid}").exists(), f"{name} runs")

    @classmethod
    def ask(cls, command):
        console = cls.cluster.console("web1")
        console.wait_line("READY|.*", 60)
        answer = console.ask(command, f"{command} .*", 60).group()
        console.close()
        return answer

    @classmethod
    def issue(cls, name, *uris, authority=None, **options):
        return (authority or cls.authority).issue(cls.cluster.dir / f"{name}.pem", *uris, **options)

    @classmethod
    def address(cls, host):
        return f"{cls.cluster.network.hosts[host].address}:{cls.cluster.port(host)}"

    def caller(self, address, server, identity):
        caller = impostor.Caller(self.stage, self.switch, address, self.authority.identity(server),
                                 self.cluster.dir / "controller" / "ca.crt", identity)
        self.addCleanup(caller.close)
        return caller

    def agent(self, host, identity):
        return self.caller(self.address(host), f"host/{host}", identity)

    @classmethod
    def strangers(cls, *argv, **options):
        """Starts strangers.py where the controller is: at the address that an agent knows it by."""
        program = harness.SOURCE / "tests" / "e2e" / "strangers.py"
        process = subprocess.Popen(cls.switch.command([sys.executable, "-B", program, *argv]),
                                   stdout=subprocess.PIPE, **options)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.stdout.close)
        cls.addClassCleanup(process.kill)
        return process

    # -- Who is who

    def test_an_impostor_gets_no_answer_from_an_agent(self):
        controller = self.authority.identity("controller")
        lookalike = self.authority.lookalike()
        other = self.authority.lookalike("sealift-other")
        cases = {
            "without a certificate": None,
            "a controller of another installation": self.issue("i1", other.identity("controller"), authority=other),
            "the controller's name from another authority": self.issue("i2", controller, authority=lookalike),
            "the controller of another trust domain": self.issue("i3", self.authority.identity("controller", "other")),
            "an administrator": self.issue("i4", self.authority.identity("admin/admin")),
            "another host": self.cluster.dir / "b" / "state" / "identity.pem",
            "the host itself": self.cluster.dir / "a" / "state" / "identity.pem",
            "the controller a while ago": self.issue("i5", controller, lifetime=-impostor.DAY),
            "the controller and a host": self.issue("i6", controller, self.authority.identity("host/b")),
            "nobody": self.issue("i7", "https://example.net/controller"),
        }
        for name, identity in cases.items():
            with self.subTest(name):
                self.assertEqual(self.agent("a", identity).call("AgentService/GetStatus")[0], impostor.UNAVAILABLE)
        code, status, _ = self.agent("a", self.issue("good", controller)).call("AgentService/GetStatus")
        self.assertEqual((code, status.count(b"web1") > 0), (impostor.OK, True), "who is the controller is served")

    def test_an_impostor_gets_no_answer_from_the_controller(self):
        operators, enrolment = (f"{self.switch.address}:{port}" for port in self.cluster.ports[:2])
        admin = self.authority.identity("admin/admin")
        cases = {
            "without a certificate": None,
            "a host": self.cluster.dir / "b" / "state" / "identity.pem",
            "the controller itself": self.cluster.dir / "controller" / "identity.pem",
            "an administrator from another authority": self.issue("o1", admin, authority=self.authority.lookalike()),
            "an administrator a while ago": self.issue("o2", admin, lifetime=-impostor.DAY),
        }
        for name, identity in cases.items():
            with self.subTest(name):
                code, _, text = self.caller(operators, "controller", identity).call("HostService/List")
                self.assertEqual(code, impostor.UNAVAILABLE, text)
        unknown = self.caller(operators, "controller", self.issue("o3", admin))
        self.assertEqual(unknown.call("HostService/List")[0], impostor.PERMISSION_DENIED, "our authority's, but no user's")

        joiner = self.caller(enrolment, "controller", None)
        self.assertEqual(joiner.call("HostService/List")[0], impostor.UNIMPLEMENTED)
        guess = message(_1=os.urandom(32), _2="a", _3="")
        self.assertEqual(joiner.call("EnrolmentService/Enrol", guess)[0], impostor.PERMISSION_DENIED)
        self.assertEqual(joiner.call("EnrolmentService/Enrol", message(_3="x" * 100_000))[0], impostor.RESOURCE_EXHAUSTED)
        for _ in range(50):
            if joiner.call("EnrolmentService/Enrol", guess)[0] == impostor.RESOURCE_EXHAUSTED:
                break
        else:
            self.fail("guesses are not limited")
        self.assertEqual(self.cluster.json("host", "show", "a")["state"], "ready")

    # -- The controller's own certificate in wrong hands

    def spec(self, **changes):
        values = {"id": os.urandom(16), "vm": "web9", "source": self.authority.identity("host/a"),
                  "destination": self.authority.identity("host/b"), **changes}
        return protocol.Spec(**values)

    @staticmethod
    def spec_message(spec, mode=REQUIRED):
        return message(_1=spec.id, _2=spec.vm, _3=spec.source, _4=spec.destination,
                       _5=int(spec.protection == protocol.Protection.PLAIN), _6=STREAM, _7=spec.streams, _8=mode)

    def destination_message(self, spec):
        definition = {"name": spec.vm, "uuid": str(uuid.uuid4()), "memory": "64MiB", "kernel": str(self.cluster.dir / KERNEL.name)}
        return message(_1=self.spec_message(spec), _2=json.dumps(definition), _3=7,
                       _4=self.cluster.network.hosts["b"].address)

    def test_the_controllers_certificate_makes_no_agent_do_what_cannot_be(self):
        identity = self.issue("thief", self.authority.identity("controller"))
        at_a, at_b = self.agent("a", identity), self.agent("b", identity)

        def refuse(caller, code, method, *fields):
            got, _, text = caller.call(f"AgentService/{method}", *fields)
            self.assertEqual(got, code, f"{method}: {text}")

        for method in AGENT_METHODS:
            self.assertNotEqual(at_b.call(f"AgentService/{method}", b"\xff" * 50)[0], impostor.OK, method)
        refuse(at_b, impostor.RESOURCE_EXHAUSTED, "PutVm", bytes(5 << 20))
        refuse(at_b, impostor.UNIMPLEMENTED, "GetKey")
        for method in ("StartMigration", "CancelMigration", "TellDecision"):
            refuse(at_b, impostor.INVALID_ARGUMENT, method, message(_1=b"short"))
            refuse(at_b, impostor.NOT_FOUND, method, message(_1=os.urandom(16), _2=b"" if method[0] == "S" else COMMIT))

        # The guest stays what it is.
        def leaving(**changes):
            return self.spec(vm="web1", **changes)
        epoch = self.cluster.json("vm", "show", "web1")["epoch"]
        plain = leaving(protection=protocol.Protection.PLAIN)
        refuse(at_a, impostor.PERMISSION_DENIED, "PrepareSource", message(_1=self.spec_message(plain), _2=epoch))
        refuse(at_a, impostor.PERMISSION_DENIED, "PrepareSource", message(_1=self.spec_message(leaving(), DISABLED), _2=epoch))
        refuse(at_a, impostor.ABORTED, "PrepareSource", message(_1=self.spec_message(leaving()), _2=epoch + 1))
        refuse(at_b, impostor.PERMISSION_DENIED, "PrepareSource", message(_1=self.spec_message(leaving()), _2=epoch))
        refuse(at_a, impostor.NOT_FOUND, "PrepareSource", message(_1=self.spec_message(self.spec()), _2=1))

        # A destination that has received nothing: no decision, no old key, no second order makes a guest of it.
        spec = self.spec()
        order = self.destination_message(spec)
        commit = message(_1=spec.id, _2=COMMIT)

        def prepare():
            code, response, text = at_b.call("AgentService/PrepareDestination", order)
            self.assertEqual(code, impostor.OK, text)
            return impostor.fields_of(response)[1]
        sealed = message(_1=spec.id, _2=hpke.seal(prepare(), spec.hash(), os.urandom(40)))
        refuse(at_b, impostor.ALREADY_EXISTS, "PrepareDestination", order)
        refuse(at_b, impostor.FAILED_PRECONDITION, "TellDecision", commit)
        refuse(at_a, impostor.NOT_FOUND, "TellDecision", commit)
        refuse(at_b, impostor.OK, "StartMigration", sealed)
        refuse(at_b, impostor.FAILED_PRECONDITION, "StartMigration", sealed)
        refuse(at_b, impostor.FAILED_PRECONDITION, "TellDecision", commit)
        self.end(at_b, spec)
        prepare()  # the same id once more, for another mover: it cannot open what was sealed to the first one
        at_b.call("AgentService/StartMigration", sealed)
        harness.wait_for(lambda: self.progress_at(at_b)[_PHASE] == FAILED, 10, "the old key to be refused")
        self.assertIn(b"key", self.progress_at(at_b)[_DETAIL])
        self.end(at_b, spec)
        harness.wait_for(lambda: not self.cluster.processes("sealift-mover"), 10, "the movers to be gone")
        self.assertEqual(len(self.cluster.processes("qemu-system-x86_64")), 1, "no guest came of it")
        self.assertEqual([vm["name"] for vm in self.cluster.json("vm", "list")], ["web1"])

    @staticmethod
    def progress_at(caller):
        """The progress of the only migration of an agent."""
        status = impostor.fields_of(caller.call("AgentService/GetStatus")[1])
        return impostor.fields_of(impostor.fields_of(status[3])[4])

    def end(self, caller, spec):
        """Cancels and forgets a migration: it must let itself be ended."""
        caller.call("AgentService/CancelMigration", message(_1=spec.id))
        harness.wait_for(lambda: caller.call("AgentService/ForgetMigration", message(_1=spec.id))[0] == impostor.OK, 10,
                         "the migration to end")

    # -- Connections that are no calls

    def test_what_is_no_http2_ends_its_connection_only(self):
        kept = json.loads(self.noise.communicate(timeout=60)[0])
        self.assertEqual([name for name, seconds in kept.items() if not seconds], [])

    def test_who_dribbles_is_ended(self):
        kept = json.loads(self.slow_ones.communicate(timeout=60)[0])
        self.assertEqual(len(kept), 3)
        self.assertLess(max(kept.values()), HANDSHAKE_SECONDS + 5)

    def losses(self):
        return sum(event["type"] == "host.unreachable" for event in self.cluster.json("events"))

    def test_with_ten_thousand_strangers_a_migration_completes(self):
        losses = self.losses()
        usage = Usage(self.daemons["a"]).look()
        before = (usage.descriptors, usage.resident_kib)
        flood = self.strangers("flood", *self.address("a").split(":"), STRANGERS, stdin=subprocess.PIPE)
        harness.wait_for(lambda: usage.look().descriptors > before[0] + PLACES, 20, "the strangers to come")
        migration = self.cluster.migrate("web1", "b")
        self.assertEqual(migration["progress"]["phase"], "completed", migration)
        flood.stdin.close()
        while flood.poll() is None:
            usage.look()
        outcome = json.loads(flood.stdout.read())
        print(f"descriptors {before[0]} -> {usage.descriptors}, resident {before[1]} -> {usage.resident_kib} KiB, "
              f"{outcome}", file=sys.stderr)
        self.assertGreaterEqual(outcome["made"], STRANGERS)
        self.assertLessEqual(usage.descriptors, before[0] + 4 * PLACES + 32)
        self.assertLess(usage.resident_kib, before[1] + (100 << 10))
        harness.wait_for(lambda: Usage(self.daemons["a"]).look().descriptors <= before[0] + 16, 2 * HANDSHAKE_SECONDS,
                         "the descriptors to be given back")
        again = self.strangers("flood", *self.address("a").split(":"), STRANGERS // 4, stdin=subprocess.DEVNULL)
        self.assertEqual(again.wait(60), 0)
        self.assertLess(Usage(self.daemons["a"]).look().resident_kib, usage.resident_kib + (8 << 10),
                        "what was freed is used again")
        self.assertEqual(self.losses(), losses, "the controller has kept its connections")


if __name__ == "__main__":
    harness.main()
