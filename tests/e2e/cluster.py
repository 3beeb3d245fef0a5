"""A controller and agents, the real programs, on hosts of network.py."""

import json
import os
import pathlib
import shutil
import socket
import subprocess

import harness
import network
from guest import INITRD, KERNEL, Console

_START_SECONDS = 30


def processes(program, under):
    """Pids of the programs of that name whose command line names `under`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if pathlib.Path(os.fsdecode(words[0])).name == program and any(str(under).encode() in word for word in words):
            found.append(int(entry.name))
    return found


class CommandFailed(AssertionError):
    """A `sealift` command ended with another status than 0."""

    def __init__(self, argv, result):
        super().__init__(f"sealift {' '.join(map(str, argv))}: exit status {result.returncode}\n"
                         f"{result.stdout}{result.stderr}")
        self.status = result.returncode
        self.message = result.stderr


class Cluster:
    """`test` is a harness.TestCase: its folder holds everything, and it ends everything. The commands are what runs
    as the controller and as an agent, instead of the programs that are shipped. `bins` are folders with the programs
    of a host, or of "controller"; those of the build are the others. With `state_kib` each daemon's state is on a disk
    of its own of that size."""

    def __init__(self, test, hosts=("a", "b"), agent_settings=None, controller_command=None, agent_command=None,
                 bins=None, state_kib=None):
        self._test = test
        self._controller_command = controller_command
        self._agent_command = agent_command
        self.bins = bins or {}
        self._state_kib = state_kib
        self.dir = test.dir
        self.dir.chmod(0o755)  # QEMU runs as another user
        self.agent_settings = agent_settings or {}
        for source in (KERNEL, INITRD):
            shutil.copy(source, self.dir)
        self.network = network.make(test, hosts)
        self._ports = {}
        self._init_controller()
        self.controller = self.start_controller()
        self.agents = {host: self._join(host) for host in hosts}
        for host in hosts:
            self.wait_for_host(host)

    def keep_logs(self, folder):
        """Copies the logs of everything that was started, and the guests' consoles, to that folder, made anew."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for log in self.dir.glob("*.log"):
            shutil.copy(log, folder)
        for log in self.dir.glob("*/run/vms/*/*.log"):
            host, _, _, vm, name = log.relative_to(self.dir).parts
            shutil.copy(log, folder / f"{vm}-{host}-{name}")

    # -- Daemons

    def binary(self, place, name):
        """The path of a program of a host, or of "controller"."""
        return self.bins[place] / name if place in self.bins else harness.binary(name)

    def _command(self, place):
        if place == "controller":
            return self._controller_command or [self.binary(place, "sealift-controllerd")]
        return self._agent_command or [self.binary(place, "sealift-agentd")]

    def install_mover(self, host):
        """Puts the host's mover where its agent looks for it, as a package does: it is renamed into its place. The
        folder is one that a mover's user may see."""
        new = self.dir / host / "sealift-mover.new"
        shutil.copy(self.binary(host, "sealift-mover"), new)
        new.rename(new.with_suffix(""))

    def _init_controller(self):
        self._controller_ports = [harness.free_port(), harness.free_port()]
        here = self.network.switch
        if self._state_kib:
            self._make_state(here, self.dir / "controller")
        argv = [self.binary("controller", "sealift-controllerd"), "init", "--state-dir", self.dir / "controller",
                "--address", f"{self.network.switch.address}:{self._controller_ports[0]}",
                "--context-out", self.dir / "context.yaml"]
        subprocess.run(here.command(argv), check=True, capture_output=True, timeout=30)

    def _make_state(self, place, folder):
        folder.mkdir()
        place.mount_small(folder, self._state_kib)

    def start_controller(self):
        ready = self.dir / "controller.ready"
        ready.unlink(missing_ok=True)
        here = self.network.switch
        process = self._test.start("controller", here.command(
            [*self._command("controller"), "run", "--state-dir", self.dir / "controller",
             "--listen", f"{here.address}:{self._controller_ports[0]}",
             "--enrolment-listen", f"{here.address}:{self._controller_ports[1]}",
             "--log-level", "debug", "--ready-file", ready]))
        self._wait_ready(process, ready)
        return process

    def _join(self, host):
        place = self.network.hosts[host]
        self._ports[host] = harness.free_port()
        added = self.json("host", "add", host, "--address", f"{place.address}:{self._ports[host]}")
        state = self.dir / host
        state.mkdir()
        self.install_mover(host)
        if self._state_kib:
            self._make_state(place, state / "state")
        enrolment = f"{self.network.switch.address}:{self._controller_ports[1]}"
        subprocess.run(place.command([self.binary(host, "sealift-agentd"), "join", "--controller", enrolment,
                                      "--token", added["token"], "--state-dir", state / "state"]),
                       check=True, capture_output=True, timeout=30)
        settings = {"listen": f"{place.address}:{self._ports[host]}", "state_dir": state / "state",
                    "run_dir": state / "run", "mover_binary": state / "sealift-mover",
                    "log_level": "debug", **self.agent_settings.get(host, {})}
        (state / "agent.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
        return self.start_agent(host)

    def start_agent(self, host, wrapper=()):
        """Starts the agent of a host, as an argument of the command `wrapper` if there is one."""
        ready = self.dir / host / "ready"
        ready.unlink(missing_ok=True)
        process = self._test.start(f"agent-{host}", self.network.hosts[host].command(
            [*wrapper, *self._command(host), "run", "--config",
             self.dir / host / "agent.yaml", "--ready-file", ready]))
        self._wait_ready(process, ready)
        return process

    @staticmethod
    def _wait_ready(process, ready):
        def serving():
            if not process.is_running():
                raise AssertionError(f"{process.name} ended:\n{process.output()}")
            return ready.exists()
        harness.wait_for(serving, _START_SECONDS, f"{process.name} to serve")

    def wait_for_host(self, host, state="ready"):
        harness.wait_for(lambda: self.json("host", "show", host)["state"] == state, _START_SECONDS,
                         f"host {host} to be {state}")

    @property
    def ports(self):
        """The TCP ports of controller and agents."""
        return [*self._controller_ports, *self._ports.values()]

    def port(self, host):
        """The port of an agent."""
        return self._ports[host]

    def processes(self, program):
        """Pids of the programs of that name that belong to this cluster."""
        return processes(program, self.dir)

    # -- The command line

    def command(self, *argv):
        """The words of a `sealift` command, to be run by whoever calls."""
        return self.network.switch.command(
            [self.binary("controller", "sealift"), "--context", self.dir / "context.yaml", *argv])

    def sealift(self, *argv, timeout=120, stdin=None):
        """Runs `sealift ARGV` and returns what it printed; CommandFailed unless it succeeds."""
        result = subprocess.run(self.command(*argv), capture_output=True, text=True, check=False,
                                timeout=timeout, input=stdin,
                                stdin=subprocess.DEVNULL if stdin is None else None)
        if result.returncode != 0:
            raise CommandFailed(argv, result)
        return result.stdout

    def json(self, *argv, **options):
        return json.loads(self.sealift(*argv, "-o", "json", **options))

    # -- VMs

    def create_vm(self, name="web1", host="a", append="", **definition):
        """Creates and starts a VM with the test guest. The keywords are keys of its definition."""
        definition = {"name": name, "memory": "384MiB", "kernel": str(self.dir / KERNEL.name),
                      "initrd": str(self.dir / INITRD.name), "append": f"console=ttyS0 quiet {append}",
                      **definition}
        path = self.dir / f"{name}.yaml"
        path.write_text(json.dumps(definition))  # JSON is YAML
        return self.json("vm", "create", path, "--host", host, "--start")

    def console(self, name):
        """The serial console of a VM, through `sealift vm console`."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._test.start_piped(f"console-{name}",
                                             self.command("vm", "console", name), theirs)
        console = Console(ours, process)
        self._test.addCleanup(console.close)
        return console

    def migrate(self, name, host, *argv, timeout=120):
        """Migrates and returns the migration as the command prints it."""
        return self.json("vm", "migrate", name, "--to", host, *argv, timeout=timeout)
