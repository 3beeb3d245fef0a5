#!/usr/bin/python3
"""The systemd units are correct, and a restart of the agent ends neither a QEMU nor a mover."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

PACKAGING = pathlib.Path(os.environ["SEALIFT_SOURCE"]) / "packaging"
UNITS = ["sealift-agentd.service", "sealift-controllerd.service"]


def read_service(name):
    """The settings of the unit; of one that is given several times the last."""
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", (PACKAGING / name).read_text()))


class ServiceFiles(unittest.TestCase):
    def verify(self, text, name):
        """What systemd-analyze has to say about the unit, with a program that exists in its ExecStart."""
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder, name)
            unit.write_text(re.sub(r"(?m)^ExecStart=/\S+", "ExecStart=/usr/bin/true", text))
            run = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], text=True, check=False,
                                 stdin=subprocess.DEVNULL, capture_output=True)
        return run.returncode, run.stdout + run.stderr

    def test_systemd_accepts_the_units_without_a_warning(self):
        for name in UNITS:
            with self.subTest(name):
                text = (PACKAGING / name).read_text()
                self.assertEqual(self.verify(text, name), (0, ""))

    def test_a_misspelt_setting_would_be_noticed(self):
        text = (PACKAGING / UNITS[0]).read_text() + "\n[Service]\nKilMode=process\n"
        self.assertIn("KilMode", self.verify(text, UNITS[0])[1])

    def test_programs_are_started_from_where_they_are_installed(self):
        for name in UNITS:
            program = "/usr/sbin/" + name.removesuffix(".service")
            self.assertEqual(read_service(name)["ExecStart"], program)

    def test_the_daemons_tell_systemd_when_they_are_ready(self):
        for name in UNITS:
            self.assertEqual(read_service(name)["Type"], "notify")

    def test_stopping_the_agent_ends_nothing_but_the_agent(self):
        agent = read_service("sealift-agentd.service")
        self.assertEqual(agent["KillMode"], "process")
        self.assertEqual(agent["OOMPolicy"], "continue")

    def test_systemd_never_gives_up_on_the_agent(self):
        agent = read_service("sealift-agentd.service")
        self.assertEqual(agent["Restart"], "on-failure")
        self.assertEqual(agent["StartLimitIntervalSec"], "0")

    def test_what_the_agent_needs_to_adopt_machines_survives_its_restart(self):
        agent = read_service("sealift-agentd.service")
        self.assertEqual(agent["RuntimeDirectoryPreserve"], "yes")
        for private in ("PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome"):
            self.assertNotIn(private, agent)

    def test_systemd_accepts_the_settings_of_a_host(self):
        run = subprocess.run(["systemd-tmpfiles", "--create", "--dry-run", PACKAGING / "sealift.tmpfiles"],
                             text=True, check=False, stdin=subprocess.DEVNULL, capture_output=True)
        if "unrecognized option" in run.stderr:  # before systemd 256: read it as if into an empty root
            with tempfile.TemporaryDirectory() as root:
                run = subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}",
                                      PACKAGING / "sealift.tmpfiles"], text=True, check=False,
                                     stdin=subprocess.DEVNULL, capture_output=True)
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def test_guest_memory_may_have_huge_pages(self):
        self.assertRegex((PACKAGING / "sealift.tmpfiles").read_text(),
                         r"(?m)^w /sys/kernel/mm/transparent_hugepage/shmem_enabled - - - - advise$")

    def test_the_controller_runs_as_the_user_that_sysusers_makes(self):
        user = read_service("sealift-controllerd.service")["User"]
        self.assertRegex((PACKAGING / "sealift.sysusers").read_text(), rf"(?m)^u {user} ")


if __name__ == "__main__":
    unittest.main(verbosity=2)
