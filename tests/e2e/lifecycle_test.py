#!/usr/bin/python3
"""A VM's life on one host: start, stop, crash, console, restart of agent and host."""

import os
import pathlib
import signal
import uuid

import harness
from cluster import Cluster, CommandFailed
from faults_test import processes


class LifecycleTest(harness.TestCase):

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self, hosts=("a",))

    def state(self, name="web1"):
        return self.cluster.json("vm", "show", name)["state"]

    def wait_for_state(self, state, name="web1"):
        harness.wait_for(lambda: self.state(name) == state, 30, f"VM {name} to be {state}")

    def boot(self, **definition):
        self.cluster.create_vm(append="guest.fill=16", memory="192MiB", **definition)
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        return console

    def test_power_button_force_and_delete(self):
        self.boot().close()
        self.cluster.sealift("vm", "stop", "web1")
        self.assertEqual(self.state(), "stopped")
        self.cluster.sealift("vm", "stop", "web1")  # a repeated command is harmless
        self.cluster.sealift("vm", "start", "web1")
        before = processes("qemu-system-x86_64", self.dir)
        self.cluster.sealift("vm", "start", "web1")
        self.assertEqual(processes("qemu-system-x86_64", self.dir), before)
        with self.assertRaises(CommandFailed) as running:
            self.cluster.sealift("vm", "delete", "web1", "--yes")
        self.assertEqual(running.exception.status, 8)
        self.cluster.sealift("vm", "stop", "web1", "--force")
        self.cluster.sealift("vm", "delete", "web1", "--yes")
        self.assertEqual(self.cluster.json("vm", "list"), [])
        self.assertEqual(processes("qemu-system-x86_64", self.dir), [])

    def test_a_guest_that_powers_off_is_stopped_and_a_killed_one_is_crashed(self):
        self.boot().send("poweroff")
        self.wait_for_state("stopped")
        self.cluster.sealift("vm", "start", "web1")
        os.kill(processes("qemu-system-x86_64", self.dir)[0], signal.SIGKILL)
        self.wait_for_state("crashed")

    def test_a_guest_whose_disk_is_full_goes_on_when_it_is_not(self):
        host, folder = self.cluster.network.hosts["a"], self.dir / "small"
        folder.mkdir()
        host.mount_small(folder, 64)
        host.run("truncate", "--size", "64M", folder / "disk")
        host.run("chmod", "666", folder / "disk")
        self.cluster.create_vm(append="guest.journal=1", memory="192MiB",
                               disks=[{"path": str(folder / "disk"), "format": "raw"}])
        harness.wait_for(lambda: "is it full?" in self.cluster.json("vm", "show", "web1")["state_reason"], 30,
                         "the guest to stand still")
        host.run("mount", "-o", "remount,size=64m", folder)

        def written():
            return 512 * int(host.run("stat", "--format=%b", folder / "disk").stdout)
        harness.wait_for(lambda: written() > 65536, 30, "the guest to write again")
        self.wait_for_state("running")

    def test_qemu_is_unprivileged_and_sandboxed(self):
        self.boot().close()
        pid = processes("qemu-system-x86_64", self.dir)[0]
        lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        self.assertNotIn("0", status["Uid"].split())
        self.assertEqual(status["CapEff"].strip("0"), "")
        self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(status["NoNewPrivs"], "1")

    def test_autostart_follows_a_reboot_of_the_host(self):
        self.boot(autostart=True).close()
        self.cluster.agents["a"].stop()
        os.kill(processes("qemu-system-x86_64", self.dir)[0], signal.SIGKILL)
        # The kernel's boot id is all the agent knows of a reboot.
        boot_id = self.dir / "boot_id"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        rebooted = ["unshare", "--mount", "sh", "-c",
                    f"mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec \"$@\"", "sh"]
        self.cluster.agents["a"] = self.cluster.start_agent("a", rebooted)
        self.cluster.wait_for_host("a")
        self.wait_for_state("running")

    def test_crashed_while_the_agent_was_away(self):
        self.boot().close()
        self.cluster.agents["a"].kill()
        os.kill(processes("qemu-system-x86_64", self.dir)[0], signal.SIGKILL)
        self.cluster.agents["a"] = self.cluster.start_agent("a")
        self.wait_for_state("crashed")
        self.cluster.sealift("vm", "start", "web1")
        self.wait_for_state("running")

    def test_a_removed_host_is_out_at_once(self):
        with self.assertRaises(CommandFailed) as owns:
            self.cluster.create_vm(append="guest.fill=16", memory="192MiB")
            self.cluster.sealift("host", "remove", "a")
        self.assertEqual(owns.exception.status, 8)
        self.assertIn("web1", owns.exception.message)
        self.cluster.sealift("vm", "stop", "web1", "--force")
        self.cluster.sealift("vm", "delete", "web1", "--yes")
        self.cluster.sealift("host", "remove", "a")
        self.assertEqual(self.cluster.json("host", "list"), [])


if __name__ == "__main__":
    harness.main()
