#!/usr/bin/python3
"""Modes, floors, users, draining and the audit, as an administrator uses them."""

import csv
import io
import json
import subprocess

import harness
from cluster import Cluster, CommandFailed


class PolicyTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)
        self.sealift = self.cluster.sealift
        self.json = self.cluster.json

    def boot(self, name, **definition):
        self.cluster.create_vm(name=name, memory="160MiB", append="guest.fill=8", **definition)
        console = self.cluster.console(name)
        console.wait_line("READY", 60)
        console.close()

    def refused(self, status, *argv, **options):
        with self.assertRaises(CommandFailed) as refused:
            self.sealift(*argv, **options)
        self.assertEqual(refused.exception.status, status, refused.exception.message)
        return refused.exception.message

    def set_result(self, vm, *argv):
        """The error of a change that is refused."""
        result = subprocess.run(self.cluster.command("vm", "set", vm, *argv, "-o", "json"), capture_output=True,
                                text=True, check=False, timeout=60)
        self.assertEqual(result.returncode, 9, result.stderr)
        return json.loads(result.stdout)[0]["error"]

    def as_user(self, context, *argv):
        return subprocess.run(
            self.cluster.network.switch.command([harness.binary("sealift"), "--context", context, *argv]),
            capture_output=True, text=True, check=False, timeout=60)

    def test_a_mode_changes_under_a_running_vm_and_a_list_goes_through_a_pipe(self):
        self.boot("web1", encryption="disabled", labels={"env": "prod"})
        self.assertEqual(self.json("vm", "show", "web1")["moves"],
                         [{"host": "b", "outcome": "plain", "reason": "mode is disabled: never encrypted"}])
        listed = self.json("vm", "list")
        for vm in listed:
            vm["encryption"] = "required"
        result = self.json("vm", "set", "--file", "-", stdin=json.dumps(listed))
        self.assertEqual([(each["name"], each["after"], each["pending"]) for each in result],
                         [("web1", "required", False)])
        self.assertEqual(self.json("vm", "show", "web1")["moves"][0]["outcome"], "encrypted")
        self.refused(9, "vm", "set", "web1", "nobody", "--encryption", "opportunistic")
        self.sealift("vm", "set", "--selector", "env=prod,!old", "--encryption", "required")
        self.assertTrue(self.cluster.migrate("web1", "b")["encrypted"])
        held = json.loads((self.dir / "b/state/vms/web1.json").read_text())
        self.assertEqual(held["encryption"], "required")

    def test_a_floor_holds_for_every_vm_and_the_audit_tells_what_went_in_the_clear(self):
        self.boot("web1", encryption="disabled")
        self.assertFalse(self.cluster.migrate("web1", "b")["encrypted"])
        self.sealift("policy", "set", "--floor", "required")
        self.assertIn("below the floor", self.set_result("web1", "--encryption", "disabled"))
        moved = self.cluster.migrate("web1", "a")
        self.assertTrue(moved["encrypted"])
        self.assertIn("floor of the installation", moved["decision_reason"])
        rows = list(csv.DictReader(io.StringIO(self.sealift("audit", "-o", "csv"))))
        self.assertEqual([(row["vm"], row["mode"], row["encrypted"]) for row in rows],
                         [("web1", "required", "true"), ("web1", "disabled", "false")])
        self.assertEqual(len(self.json("audit", "--in-the-clear", "--since", "1h")), 1)
        self.assertEqual(self.json("version")["controller"]["migrations_in_the_clear"], 1)

    def test_draining_moves_every_vm_and_says_what_stays(self):
        self.boot("web1")
        self.boot("web2", encryption="required")
        self.cluster.create_vm(name="off", memory="160MiB")
        self.sealift("vm", "stop", "off", "--force")
        plan = self.json("host", "drain", "a", "--dry-run")
        self.assertEqual({step["vm"]: step["to"] for step in plan}, {"web1": "b", "web2": "b", "off": ""})
        message = self.refused(9, "host", "drain", "a")
        self.assertIn("2 VMs moved, 1 stay", message)
        self.assertEqual(self.json("vm", "show", "web1")["host"], "b")
        self.assertEqual(self.json("vm", "show", "web2")["state"], "running")
        self.assertIn("being drained", self.refused(8, "vm", "migrate", "web1", "--to", "a"))
        self.sealift("host", "undrain", "a")
        self.assertEqual(self.cluster.migrate("web1", "a")["progress"]["phase"], "completed")

    def test_users_do_what_their_role_allows_until_they_are_revoked(self):
        context = self.dir / "kim.yaml"
        self.sealift("user", "add", "kim", "--role", "viewer", "--context-out", context)
        self.assertEqual(context.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.as_user(context, "vm", "list").returncode, 0)
        denied = self.as_user(context, "host", "add", "c", "--address", "192.0.2.1")
        self.assertEqual(denied.returncode, 4)
        self.assertIn("'manage-hosts'", denied.stderr)
        self.assertIn("host add by spiffe://", self.cluster.controller.output())
        self.refused(8, "user", "add", "kim", "--role", "viewer", "--context-out", self.dir / "other.yaml")
        self.assertFalse((self.dir / "other.yaml").exists())
        self.sealift("user", "revoke", "kim")
        self.assertEqual(self.as_user(context, "vm", "list").returncode, 4)
        self.refused(8, "user", "revoke", "admin")


if __name__ == "__main__":
    harness.main()
