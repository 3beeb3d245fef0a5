"""One case: a guest is migrated, something fails, and afterwards exactly one guest runs and nothing is lost."""

import time

import beacon
import harness
import traces
from cases import COPYING, ROLLING_BACK
from cluster import Cluster
from faults import KINDS, Scene
from gates import Gates
from guest import check_journal

_VM = "web1"
_BEACON_PORT = 7801
_FILL_MIB = 32
_WRITES_MB_S = 5
_DISK_MIB = 64
_STATE_KIB = 32768  # the write-ahead log of SQLite alone takes 4 MiB
_SLOW_MEGABITS = 50
_READY_SECONDS = 60
_REACH_SECONDS = 30
_AFTER_THE_FAULT_SECONDS = 0.3  # until who waits at the gate goes on
_BACK_SECONDS = 10  # within these the guest has to run again
_END_SECONDS = 90
_CLEAN_SECONDS = 30
_FIRST_BEACONS = 100  # a number below this is that of a guest that has just booted
_ENDS = ("completed", "failed", "cancelled")


class Broken(Exception):
    """What does not hold."""


def require(condition, text):
    if not condition:
        raise Broken(text)


class Timeline:
    """The beacons of one guest in the order of their arrival. Each has a number of its own, and they only grow: no
    second guest ran from the state of another, neither beside it nor after it, and none crashed and booted by itself."""

    def __init__(self):
        self._last = None

    def booted(self):
        """The guest was booted by us: its numbers start over, once."""
        self._last = None

    def add(self, beacons):
        """Raises Broken if they cannot be of the guest that was heard so far."""
        for each in beacons:
            if self._last is not None:
                _require_next(self._last, each)
            self._last = each


def _require_next(before, after):
    if after.sequence <= before.sequence:
        what = "rebooted" if after.sequence < min(before.sequence, _FIRST_BEACONS) else "ran twice"
        raise Broken(f"beacon {after.sequence} from {after.host} after {before.sequence} from {before.host}: the guest "
                     f"{what}")


class Field:
    """Two hosts with a guest that keeps a journal on disk and in memory, on a harness.Stage. Many cases are tried on
    it, one after the other, as long as all of them pass."""

    hosts = ("a", "b")

    def __init__(self, stage):
        self._stage = stage
        self._gates = {host: Gates(stage.dir / f"gates-{host}") for host in self.hosts}
        for gates in self._gates.values():
            stage.addCleanup(gates.close)
        self.cluster = _GatedCluster(stage, self._gates)
        self._disk = stage.dir / "disk.raw"
        with open(self._disk, "wb") as image:
            image.truncate(_DISK_MIB << 20)
        self._disk.chmod(0o666)
        self._beacons = beacon.at_the_guests(stage, self.cluster.network, _BEACON_PORT)
        stage.addCleanup(self._beacons.close)
        self._timeline = Timeline()
        self._journal_records = 0
        self._boots = 0  # ours
        self._boot()
        self._clean = {host: traces.of_host(self.cluster, host) for host in self.hosts}  # a: with the guest, b: without

    def try_case(self, case):
        """Raises Broken if something does not hold, NothingToHit if the case cannot be."""
        source = self._vm()["host"]
        scene = Scene(self.cluster, source, self._other(source))
        fault = KINDS[case.kind](scene, case.target)
        victims = _victims(scene, case)
        self._listen()
        migration = self._start_and_hold(case, scene)
        try:
            victims = victims or _victims(scene, case)
            fault.begin()
            time.sleep(_AFTER_THE_FAULT_SECONDS)
            self._release()
            time.sleep(max(0.0, fault.seconds - _AFTER_THE_FAULT_SECONDS))
        finally:
            fault.heal()
            self._release()
            if case.is_slow:
                self.cluster.network.speed_up(scene.place("source"))
        self._judge(case, scene, victims, migration, time.time())

    # -- Before

    def _boot(self):
        address = self.cluster.network.switch.address
        self.cluster.create_vm(
            _VM, "a", memory=f"{_FILL_MIB + 160}MiB", encryption="required", nics=[{"bridge": "br0"}],
            disks=[{"path": str(self._disk), "format": "raw"}],
            append=(f"guest.fill={_FILL_MIB} guest.dirty={_WRITES_MB_S} guest.journal=1 guest.ip=10.213.0.100/24 "
                    f"guest.beacon={address}:{_BEACON_PORT}"))
        self._wait_booted()

    def _wait_booted(self):
        console = self.cluster.console(_VM)
        console.wait_line("READY", _READY_SECONDS)
        # Only then the journal tells of this boot.
        harness.wait_for(lambda: console.status()["journal"] > 0, _READY_SECONDS, "the journal to go on")
        console.close()
        self._boots += 1

    def _start_and_hold(self, case, scene):
        """Begins the migration and returns its id when it is where the fault shall hit."""
        for gates in self._gates.values():
            gates.forget()
        if case.gate:
            point, side = case.gate
            gates = self._gates[scene.host(side)]
            gates.hold(point)
        if case.is_slow:
            self.cluster.network.slow_down(scene.place("source"), _SLOW_MEGABITS)
        migration = self.cluster.sealift("vm", "migrate", _VM, "--to", scene.destination, "--engine", case.engine,
                                         "--detach").strip()
        if case.is_slow:
            harness.wait_for(lambda: self._row(migration)["progress"]["wire_bytes"] > 0, _REACH_SECONDS, COPYING)
        if case.moment in ROLLING_BACK:
            self.cluster.sealift("migration", "cancel", migration)
        if case.gate:
            require(gates.wait_reached(_REACH_SECONDS), f"the migration does not get to '{point}': {self._row(migration)}")
        elif not case.is_slow:
            time.sleep(case.moment)
        return migration

    def _release(self):
        for gates in self._gates.values():
            gates.release()

    # -- After

    def _judge(self, case, scene, victims, migration, healed_at):
        row = self._await_end(migration)
        owner = scene.destination if row["progress"]["phase"] == "completed" else scene.source
        lost = bool(victims) and case.target == f"{'source' if owner == scene.source else 'destination'}-qemu"
        if lost:
            self._expect_crashed(owner)
            self._listen()
            self._timeline.booted()
            self.cluster.sealift("vm", "start", _VM)
            self._wait_booted()
        else:
            self._expect_running(owner, healed_at)
        self._check_guest()
        self._check_traces(owner)
        self._listen()

    def _await_end(self, migration):
        def ended():
            row = self._row(migration)
            return row if row["progress"]["phase"] in _ENDS else None
        row = harness.wait_for(ended, _END_SECONDS, f"end of migration {migration}")
        return row

    def _expect_running(self, owner, healed_at):
        harness.wait_for(lambda: (self._vm()["host"], self._vm()["state"]) == (owner, "running"), _BACK_SECONDS,
                         f"the VM to be reported as running on {owner}")
        seen = []

        def beats():  # on the other host it may have done so until it moved
            seen.extend(self._listen())
            return any(each.time > healed_at and each.host == owner for each in seen)
        try:
            harness.wait_for(beats, max(0.1, healed_at + _BACK_SECONDS - time.time()), "a sign of life of the guest")
        except TimeoutError:
            require(not any(each.time > healed_at for each in seen), "the guest beats on another host than is reported")
            last = f"{healed_at - seen[-1].time:.1f} s before, on {seen[-1].host}" if seen else "before this case"
            raise Broken(f"the guest was not heard for {_BACK_SECONDS} s after the fault; last {last}; "
                         f"{self._word_of_console()}") from None
        late = [each.time for each in seen if each.time > healed_at]
        silence = max(after - before for before, after in zip([healed_at, *late], [*late, time.time()]))
        require(silence < _BACK_SECONDS, f"the guest was silent for {silence:.1f} s after the fault")
        require(seen[-1].host == owner, "the guest beats on another host than is reported")

    def _word_of_console(self):
        console = self.cluster.console(_VM)
        try:
            return f"its console says {console.status()}"
        except Exception as error:  # pylint: disable=broad-exception-caught
            return f"its console does not answer: {error}"
        finally:
            console.close()

    def _expect_crashed(self, owner):
        harness.wait_for(lambda: (self._vm()["host"], self._vm()["state"]) == (owner, "crashed"), _CLEAN_SECONDS,
                         f"the VM to be reported as crashed on {owner}")
        require(not self.cluster.processes("qemu-system-x86_64"), "a QEMU of the crashed VM is there")

    def _check_guest(self):
        console = self.cluster.console(_VM)
        verdict = console.ask("verify", "verify .*", 60).group()
        status = console.status()
        console.close()
        require(verdict.startswith("verify ok") and not status["bad"], f"memory: {verdict}, {status}")
        try:
            journal = check_journal.check(self._disk)
        except check_journal.JournalError as error:
            raise Broken(f"journal: {error}") from error
        # What the guest says was written is on the disk.
        require(journal.records >= status["journal"], f"journal: {journal.records} records of {status['journal']:.0f}")
        require(journal.records >= self._journal_records, "the journal has become shorter")
        require(journal.boots == self._boots, f"journal: {journal.boots} boots, {self._boots} of them ours")
        self._journal_records = journal.records

    def _check_traces(self, owner):
        traces.expect(self.cluster, {owner: self._clean["a"], self._other(owner): self._clean["b"]}, _CLEAN_SECONDS)

    # -- Looking

    def _listen(self):
        """The beacons since the last time, which follow those before."""
        beacons = self._beacons.take()
        self._timeline.add(beacons)
        return beacons

    def _vm(self):
        return self.cluster.json("vm", "show", _VM)

    def _row(self, migration):
        return self.cluster.json("migration", "show", migration)

    def _other(self, host):
        return self.hosts[1 - self.hosts.index(host)]


def _victims(scene, case):
    return scene.processes(case.target) if case.kind == "kill" and case.target.endswith("-qemu") else []


class _GatedCluster(Cluster):
    """Its agents can be held, and their disks be filled."""

    def __init__(self, stage, gates):
        self._gates = gates
        super().__init__(stage, agent_command=[harness.binary("gated-agentd")], state_kib=_STATE_KIB)

    def start_agent(self, host, wrapper=()):
        return super().start_agent(host, [*wrapper, "env", f"SEALIFT_GATES={self._gates[host].path}"])
