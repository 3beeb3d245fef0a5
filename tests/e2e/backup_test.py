#!/usr/bin/python3
"""sealift-controllerd backup and restore, of a controller that runs, and what an old backup does not do."""

import os
import pty
import shutil
import signal
import sqlite3
import stat
import subprocess

import harness
from cluster import Cluster, CommandFailed

PASSPHRASE = "correct horse battery"
REFUSED = 8


def controllerd(*argv):
    """Runs sealift-controllerd without a terminal."""
    return subprocess.run([harness.binary("sealift-controllerd"), *argv], capture_output=True, text=True, check=False,
                          timeout=60, stdin=subprocess.DEVNULL, start_new_session=True)


def on_terminal(*argv, answers, timeout=60):
    """Runs it on a terminal of its own, answers what it asks, and returns its exit status and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.alarm(timeout)  # outlives exec
        os.execv(harness.binary("sealift-controllerd"), ["sealift-controllerd", *map(str, argv)])
    shown = b""
    for answer in answers:
        while not shown.endswith(b": "):
            shown += os.read(terminal, 1024)
        shown += b"|"
        os.write(terminal, answer)
    try:
        while more := os.read(terminal, 1024):
            shown += more
    except OSError:  # its end
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


class CommandLineTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.state = self.dir / "state"
        self.backup = self.dir / "backup"
        self.passphrase = self.dir / "passphrase"
        self.passphrase.write_text(PASSPHRASE + "\n")
        self.ok("init", "--state-dir", self.state, "--address", "127.0.0.1",
                "--context-out", self.dir / "context.yaml")

    def ok(self, *argv):
        result = controllerd(*argv)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def refused(self, status, pattern, *argv):
        result = controllerd(*argv)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        self.assertRegex(result.stderr, pattern)

    def make(self, *argv):
        return self.ok("backup", "--state-dir", self.state, "--to", self.backup, *argv)

    def restore(self, *argv):
        return ("restore", "--from", self.backup, "--state-dir", self.dir / "restored", *argv)

    def test_with_a_passphrase_from_a_file(self):
        self.make("--passphrase-file", self.passphrase)
        self.assertEqual(stat.S_IMODE(self.backup.stat().st_mode), 0o600)
        shown = self.ok(*self.restore("--passphrase-file", self.passphrase, "--joined-since", "c", "--joined-since", "d"))
        self.assertIn("these hosts: c, d", shown)
        self.assertEqual((self.dir / "restored/ca.key").read_text(), (self.state / "ca.key").read_text())
        self.refused(1, "never restored over an installation", *self.restore("--passphrase-file", self.passphrase))
        self.refused(1, "exists already", "backup", "--state-dir", self.state, "--to", self.backup, "--without-ca-key")

    def test_it_is_a_database_that_anybody_can_look_at(self):
        self.make("--without-ca-key")
        database = sqlite3.connect(self.backup)
        self.addCleanup(database.close)
        self.assertEqual(database.execute("SELECT name FROM backup_files ORDER BY name").fetchall(),
                         [("address",), ("ca.crt",)])
        self.assertEqual(database.execute("SELECT name FROM users").fetchall(), [("admin",)])

    def test_a_wrong_passphrase(self):
        self.make("--passphrase-file", self.passphrase)
        self.passphrase.write_text("another horse battery")
        self.refused(1, "passphrase is not the one", *self.restore("--passphrase-file", self.passphrase))
        self.assertFalse((self.dir / "restored").exists())

    def test_a_passphrase_that_is_too_short(self):
        self.passphrase.write_text("horse\n")
        self.refused(2, "at least 12", "backup", "--state-dir", self.state, "--to", self.backup,
                     "--passphrase-file", self.passphrase)
        self.assertFalse(self.backup.exists())

    def test_without_the_key_it_says_what_is_to_be_put_where(self):
        self.assertIn(str(self.state / "ca.key"), self.make("--without-ca-key"))
        self.assertIn(str(self.dir / "restored/ca.key"), self.ok(*self.restore()))
        run = ("run", "--state-dir", self.dir / "restored", "--listen", "127.0.0.1:0", "--enrolment-listen", "127.0.0.1:0")
        self.refused(1, "restored/ca.key is not there.*0600", *run)
        shutil.copy(self.state / "ca.key", self.dir / "restored/ca.key")
        ready = self.dir / "ready"
        controller = self.start("controller", [harness.binary("sealift-controllerd"), *run, "--ready-file", ready])
        harness.wait_for(ready.exists, 20, "the controller to serve")
        self.assertEqual(controller.stop(), 0)

    def test_nobody_to_ask(self):
        self.refused(1, "--passphrase-file", "backup", "--state-dir", self.state, "--to", self.backup)
        self.refused(2, "excludes", "backup", "--state-dir", self.state, "--to", self.backup, "--without-ca-key",
                     "--passphrase-file", self.passphrase)

    def test_a_person_is_asked_and_what_is_typed_is_not_shown(self):
        typed = PASSPHRASE.encode() + b"\n"
        backup = ("backup", "--state-dir", self.state, "--to", self.backup)
        status, shown = on_terminal(*backup, answers=[typed, b"something different\n"])
        self.assertEqual(status, 2, shown)
        self.assertIn("not the same", shown)
        status, shown = on_terminal(*backup, answers=[typed, typed])
        self.assertEqual(status, 0, shown)
        self.assertNotIn(PASSPHRASE, shown)
        status, shown = on_terminal(*self.restore(), answers=[typed])
        self.assertEqual(status, 0, shown)

    def test_ctrl_c_ends_it(self):
        status, shown = on_terminal("backup", "--state-dir", self.state, "--to", self.backup, answers=[b"abc\x03"])
        self.assertEqual(status, 1, shown)
        self.assertFalse(self.backup.exists())


class OldBackupTest(harness.TestCase):
    """The VM has moved since the backup was made."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)
        self.cluster.create_vm(append="guest.fill=16", memory="192MiB")
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()
        passphrase = self.dir / "passphrase"
        passphrase.write_text(PASSPHRASE)
        state = self.dir / "controller"
        made = controllerd("backup", "--state-dir", state, "--to", self.dir / "backup", "--passphrase-file", passphrase)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual(self.cluster.migrate("web1", "b")["progress"]["phase"], "completed")
        self.cluster.controller.kill()
        state.rename(self.dir / "lost")
        restored = controllerd("restore", "--state-dir", state, "--from", self.dir / "backup",
                               "--passphrase-file", passphrase)
        self.assertEqual(restored.returncode, 0, restored.stderr)

    def vm(self):
        return self.cluster.json("vm", "show", "web1")

    def events(self):
        return [event["type"] for event in self.cluster.json("events")]

    def test_the_vm_is_found_where_it_is(self):
        self.cluster.controller = self.cluster.start_controller()
        harness.wait_for(lambda: "controller.settled" in self.events(), 20, "every host to be heard")
        self.assertIn("vm.owner_restored", self.events())
        self.assertEqual((self.vm()["host"], self.vm()["state"], self.vm()["epoch"]), ("b", "running", 2))
        self.assertEqual(len(self.cluster.processes("qemu-system-x86_64")), 1)
        self.assertEqual(self.cluster.migrate("web1", "a")["progress"]["phase"], "completed")

    def test_it_is_not_started_where_it_was(self):
        self.cluster.agents["b"].kill()
        self.cluster.controller = self.cluster.start_controller()
        self.cluster.wait_for_host("a")
        for argv in (("vm", "start", "web1"), ("vm", "start", "web1", "--host", "a", "--runs-nowhere")):
            with self.assertRaises(CommandFailed) as refused:
                self.cluster.sealift(*argv)
            self.assertEqual(refused.exception.status, REFUSED)
            self.assertIn("sealift host confirm-dead", refused.exception.message)
        self.assertEqual(len(self.cluster.processes("qemu-system-x86_64")), 1)
        self.cluster.agents["b"] = self.cluster.start_agent("b")
        harness.wait_for(lambda: "controller.settled" in self.events(), 20, "every host to be heard")
        self.assertEqual((self.vm()["host"], self.vm()["state"]), ("b", "running"))


if __name__ == "__main__":
    harness.main()
