"""Controller and agents of two versions together, and an upgrade in place: what is tried, on a harness.Stage each."""

import shutil
import subprocess

import harness
from cluster import Cluster, CommandFailed, processes

_VM = "web1"
_FILL_MIB = 32
_PLACES = ("controller", "a", "b")


class Site:
    """A cluster whose places run the programs of the folders in `bins`, with a guest on host a."""

    def __init__(self, stage, bins):
        self._stage = stage
        self.cluster = Cluster(stage, bins=dict(bins))
        self.cluster.create_vm(_VM, "a", memory=f"{_FILL_MIB + 160}MiB", encryption="required",
                               append=f"guest.fill={_FILL_MIB} guest.dirty=5")
        self.console().wait_line("READY", 60)

    def console(self):
        return self.cluster.console(_VM)

    def qemus(self):
        return processes("qemu-system-x86_64", self.cluster.dir)

    def move(self, host):
        """Migrates the guest; AssertionError unless it is there, whole, and nowhere else."""
        migration = self.cluster.migrate(_VM, host)
        require(migration["progress"]["phase"] == "completed" and migration["encrypted"], f"migration: {migration}")
        self.check(host)
        return migration["engine"]

    def check(self, host):
        vm = harness.wait_for(lambda: (vm := self.vm())["state"] == "running" and vm, 20, "the VM to be running")
        require(vm["host"] == host, f"the VM is on {vm['host']} instead of {host}")
        harness.wait_for(lambda: len(self.qemus()) == 1, 20, "one QEMU")
        harness.wait_for(lambda: not self.cluster.processes("sealift-mover"), 20, "no mover")
        console = self.console()
        verdict = console.ask("verify", "verify .*", 30).group()
        console.close()
        require(verdict.startswith("verify ok"), verdict)

    def vm(self):
        return self.cluster.json("vm", "show", _VM)

    def both_ways(self):
        """Every operation on a VM. Returns which engines the moves took."""
        engines = [self.move("b"), self.move("a")]
        self.cluster.sealift("vm", "set", _VM, "--encryption", "opportunistic")
        harness.wait_for(lambda: not self.vm()["encryption_pending"], 20, "the host to be told the mode")
        self.cluster.sealift("vm", "stop", _VM)
        self.cluster.sealift("vm", "start", _VM)
        self.console().wait_line("READY", 60)
        engines.append(self.move("b"))
        self.cluster.sealift("vm", "stop", _VM, "--force")
        self.cluster.sealift("vm", "delete", _VM, "--yes")
        require(self.cluster.json("vm", "list") == [], "the VM is still there")
        return engines

    def reinstall(self, host, folder):
        """What a package does to a host: its programs are replaced and its agent is restarted."""
        self.cluster.bins[host] = folder
        self.cluster.install_mover(host)
        self.cluster.agents[host].stop()
        self.cluster.agents[host] = self.cluster.start_agent(host)
        self.cluster.wait_for_host(host)

    def reinstall_controller(self, folder):
        self.cluster.bins["controller"] = folder
        self.cluster.controller.stop()
        self.cluster.controller = self.cluster.start_controller()
        for host in self.cluster.agents:
            self.cluster.wait_for_host(host)


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def _together(controller, a, b):
    def scenario(stage, old, new):
        chosen = {"old": old, "new": new}
        bins = dict(zip(_PLACES, (chosen[controller], chosen[a], chosen[b])))
        engines = Site(stage, bins).both_ways()
        return f"moved with the engines {', '.join(engines)}"
    return scenario


def upgrade_in_place(stage, old, new):
    """First the agents, under the running guest, then the controller, whose store is upgraded."""
    site = Site(stage, {place: old for place in _PLACES})
    site.move("b")
    site.move("a")
    site.cluster.sealift("policy", "set", "--default", "required")
    before, guest = _facts(site), site.qemus()
    for host in ("a", "b"):
        site.reinstall(host, new)
    require(site.qemus() == guest, "the guest's QEMU is another one")
    site.check("a")
    site.move("b")
    site.move("a")
    site.reinstall_controller(new)
    require(_facts(site)[-len(before):] == before, "the store does not hold what it held before")
    site.check("a")
    return "then " + _together_again(site)


def _facts(site):
    """What a store must not lose: oldest last."""
    listed = [(each["id"], each["progress"]["phase"]) for each in site.cluster.json("migration", "list")]
    return [*listed, site.vm()["uuid"], site.cluster.json("policy", "show"),
            [(user["name"], user["role"]) for user in site.cluster.json("user", "list")]]


def _together_again(site):
    return f"moved with the engines {', '.join(site.both_ways())}"


def downgrade(stage, old, new):
    """The agents back, which is harmless; the controller back, which its store refuses."""
    site = Site(stage, {place: new for place in _PLACES})
    site.move("b")
    site.move("a")
    guest = site.qemus()
    for host in ("a", "b"):
        site.reinstall(host, old)
    require(site.qemus() == guest, "the guest's QEMU is another one")
    site.check("a")
    engine = site.move("b")
    words = _refusal(site, old)
    site.reinstall_controller(new)
    site.check("b")
    return f"agents: moved with the engine {engine}; controller: {words}"


def _refusal(site, old):
    """What the controller of `old` says of the store of the newer one."""
    site.cluster.bins["controller"] = old
    site.cluster.controller.stop()
    try:
        site.cluster.start_controller()
    except AssertionError as error:
        words = str(error).strip().splitlines()[-1]
        require("newer sealift" in words, words)
        return words
    return "it takes the store, which is of its own version"


def other_command_line(stage, old, new):
    """The command line of each version with the controller of the other."""
    answers = []
    for controller, client in ((old, new), (new, old)):
        inner = harness.Stage()
        stage.addCleanup(inner.close)
        site = Site(inner, {place: controller for place in _PLACES})
        site.cluster.bins["controller"] = client
        answers.append(", ".join(site.both_ways()))
        inner.close()
    return f"moved with the engines {'; '.join(answers)}"


SCENARIOS = {
    "old controller, new agents": _together("old", "new", "new"),
    "new controller, old agents": _together("new", "old", "old"),
    "new controller, host a old, host b new": _together("new", "old", "new"),
    "old controller, host a old, host b new": _together("old", "old", "new"),
    "each command line with the other controller": other_command_line,
    "upgrade in place": upgrade_in_place,
    "downgrade": downgrade,
}
