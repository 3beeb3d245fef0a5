"""A small guest that moves between two hosts again and again, and what the daemons take meanwhile."""

import os
import pathlib
import re

import traces
from cluster import Cluster
from guest import check_journal
from verdict import Sample

_VM = "web1"
_FILL_MIB = 32
_WRITES_MB_S = 5
_DISK_MIB = 512  # sparse; the journal takes 1 MiB a minute
_READY_SECONDS = 60
_CLEAN_SECONDS = 30


class Soak:
    """Two hosts with a guest, on a harness.Stage. `daemons` are names and pids."""

    hosts = ("a", "b")

    def __init__(self, stage):
        self.cluster = Cluster(stage)
        if not self.cluster.network.isolated:
            raise RuntimeError("network namespaces are not allowed here, so there are no hosts to tell apart")
        self.daemons = {"controller": self.cluster.controller.pid,
                        **{f"agent {host}": agent.pid for host, agent in self.cluster.agents.items()}}
        self._disk = stage.dir / "disk.raw"
        with open(self._disk, "wb") as image:
            image.truncate(_DISK_MIB << 20)
        self._disk.chmod(0o666)
        self._journal_records = 0
        self._boot()
        self._with_guest, self._without = (traces.of_host(self.cluster, host) for host in self.hosts)

    def _boot(self):
        self.cluster.create_vm(
            _VM, self.hosts[0], memory=f"{_FILL_MIB + 160}MiB", encryption="required", nics=[{"bridge": "br0"}],
            disks=[{"path": str(self._disk), "format": "raw"}],
            append=f"guest.fill={_FILL_MIB} guest.dirty={_WRITES_MB_S} guest.journal=1")
        console = self.cluster.console(_VM)
        console.wait_line("READY", _READY_SECONDS)
        console.close()

    def move(self, number, engine):
        """Migration `number`, from 0 on; AssertionError unless all is as it was but for the hosts' roles."""
        source, destination = self.hosts[number % 2], self.hosts[1 - number % 2]
        migration = self.cluster.migrate(_VM, destination, "--engine", engine)
        if (migration["progress"]["phase"], migration["engine"]) != ("completed", engine):
            raise AssertionError(f"migration to {destination} with the engine {engine}: {migration}")
        traces.expect(self.cluster, {destination: self._with_guest, source: self._without}, _CLEAN_SECONDS)

    def samples(self):
        """{daemon: Sample}."""
        store = sum(path.stat().st_size for path in (self.cluster.dir / "controller").glob("*.db")) // 1024
        return {name: _sample(pid, store if name == "controller" else 0) for name, pid in self.daemons.items()}

    def check_guest(self):
        """AssertionError unless every page and every record that the guest wrote is there."""
        console = self.cluster.console(_VM)
        verdict = console.ask("verify", "verify .*", 60).group()
        status = console.status()
        console.close()
        if not verdict.startswith("verify ok") or status["bad"]:
            raise AssertionError(f"memory of the guest: {verdict}, {status}")
        journal = check_journal.check(self._disk)
        if journal.boots != 1 or journal.records < max(status["journal"], self._journal_records):
            raise AssertionError(f"journal of the guest: {journal} after {status} and {self._journal_records} records")
        self._journal_records = journal.records


def _sample(pid, store_kib):
    proc = pathlib.Path(f"/proc/{pid}")
    memory = dict(re.findall(r"(\w+): +(\d+) kB", (proc / "smaps_rollup").read_text(encoding="ascii")))
    return Sample(rss_kib=int(memory["Rss"]), anonymous_kib=int(memory["Anonymous"]),
                  threads=len(os.listdir(proc / "task")), descriptors=len(os.listdir(proc / "fd")), store_kib=store_kib)
