#!/usr/bin/python3
"""Where the key of a migration is while it moves and afterwards: nowhere that can be read.

The controller is a test build whose migration keys are known (known_key_controller.cc); everything else is what is
shipped. Each daemon's memory is read through /proc/PID/mem and from a core that gdb writes, and searched for the key,
for everything that is derived from it, and for expanded AES-256 keys, whatever they belong to.
"""

import base64
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import harness
import memory_image
from cluster import Cluster
from wire import Capture, tcp_flows

sys.path.insert(0, str(harness.SOURCE / "tests" / "interop"))
import sealift_protocol as protocol  # noqa: E402  pylint: disable=wrong-import-position
from sealift_protocol import Direction, HelloKind, HelloPrefix, Purpose, RecordType  # noqa: E402  pylint: disable=wrong-import-position

FILL = 96
SLOW_MEGABITS = 50
GENERATIONS = 4  # of the connections of a stream; there is one, unless the network is worse than it should be


@dataclasses.dataclass(frozen=True)
class Record:
    """A sealed record as it was on the wire, with what its IV is made of."""
    header: protocol.Header
    direction: int
    data: bytes

    def opens_with(self, key):
        purpose = Purpose.ACKNOWLEDGEMENT if self.header.type == RecordType.ACKNOWLEDGEMENT else Purpose.RECORDS
        iv = (self.header.stream.to_bytes(2, "big") + bytes([self.direction, purpose]) +
              self.header.sequence.to_bytes(8, "big"))
        try:
            AESGCM(key).decrypt(iv, self.data[protocol.HEADER_SIZE:], self.data[:protocol.HEADER_SIZE])
        except InvalidTag:
            return False
        return True


def sealed_records(flows):
    """The first records of every kind in every connection between movers."""
    records = []
    for data in flows.values():
        if not data.startswith(HelloPrefix.magic):
            continue
        from_source = HelloPrefix.unpack(data).kind == HelloKind.OPEN
        direction = Direction.TO_DESTINATION if from_source else Direction.TO_SOURCE
        at = protocol.OPEN_SIZE + protocol.FINISH_SIZE if from_source else protocol.REPLY_SIZE
        seen = {}
        while at + protocol.HEADER_SIZE <= len(data):
            header = protocol.Header.unpack(data[at:at + protocol.HEADER_SIZE])
            record = Record(header, direction, data[at:at + header.record_size])
            at += header.record_size
            if at > len(data):
                break
            seen[header.type] = seen.get(header.type, 0) + 1
            if seen[header.type] <= 2:
                records.append(record)
    return records


class Secrets:
    """Everything of one migration that nobody may find: {what it is: bytes}."""

    def __init__(self, spec, key):
        schedule = protocol.KeySchedule(spec, key)
        self.aes = {}
        self.all = {"key": key[:32], "nonce and key": key[32:] + key[:32],
                    "pseudo-random key": schedule.pseudo_random_key()[:32],
                    "pseudo-random key, second half": schedule.pseudo_random_key()[32:]}
        for direction in Direction:
            for stream in range(spec.streams + 1):
                self._add_aes(schedule, Purpose.RECORDS, direction, stream, 0)
                for generation in range(1, GENERATIONS + 1):
                    self._add_aes(schedule, Purpose.ACKNOWLEDGEMENT, direction, stream, generation)
                    sub_key = schedule.sub_key(Purpose.HELLO, direction, stream, generation)
                    self.all[f"hello {direction} {stream} {generation}"] = sub_key
        self.of_aes = {key: name for name, key in self.aes.items()}

    def _add_aes(self, schedule, purpose, direction, stream, index):
        name = f"{purpose.name.lower()} {direction} {stream} {index}"
        key = schedule.sub_key(purpose, direction, stream, index)
        self.aes[name] = self.all[name] = key
        # GHASH's key: the AES encryption of a block of zeros.
        hash_key = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))
        self.all[f"hash key of {name}"] = hash_key
        self.all[f"hash key of {name}, bytes swapped"] = hash_key[::-1]

        self._search = memory_image.Search(self.all)
        self._text_search = memory_image.Search(
            {(name, form): text for name, value in self.all.items() for form, text in self._texts(value).items()})

    @staticmethod
    def _texts(value):
        """A secret as it is and as somebody may have written it down. In base64 it depends on what is before it; the
        characters that its neighbours share are left out."""
        base64_forms = {f"base64 after {pad}": base64.b64encode(bytes(pad) + value)[(4 * pad + 2) // 3:-4]
                        for pad in range(3)}
        return {"bytes": value, "hex": value.hex().encode(), "HEX": value.hex().upper().encode(), **base64_forms}

    def found_in(self, data):
        """The names of what occurs in `data`."""
        return self._search.names_in(data)

    def found_in_text(self, data):
        """The same in what is kept or sent, with the forms in which it occurs."""
        return self._text_search.names_in(data)


class MemoryTest(harness.TestCase):
    """`backend` is that of both hosts."""

    def begin(self, backend):
        known = self.dir / "known-key"
        self.key = os.urandom(40)
        known.write_bytes(self.key)
        known.chmod(0o600)
        crypto = {host: {"crypto": f"{{backend: {backend}}}"} for host in "ab"}
        self.cluster = Cluster(self, agent_settings=crypto, controller_command=[
            "env", f"SEALIFT_KNOWN_KEY={known}", harness.binary("known-key-controllerd")])
        capabilities = self.cluster.json("host", "show", "a")["capabilities"]
        if capabilities["aead_backend"] != backend:
            self.skipTest(f"this CPU has no {backend}")
        if capabilities["secret_memory"] != "memfd_secret":
            self.skipTest("this kernel has no secret memory: root reads all of a process")
        self.cluster.create_vm(append=f"guest.fill={FILL} guest.dirty=10", memory=f"{FILL + 160}MiB",
                               encryption="required")
        console = self.cluster.console("web1")
        console.wait_line("READY", 60)
        console.close()
        self.capture = Capture(self.cluster.network.switch, self.cluster.network.wire, self.key[:32],
                               self.dir / "wire.pcap")
        self.cluster.network.slow_down(self.cluster.network.hosts["a"], SLOW_MEGABITS)
        self.migration = self.cluster.sealift("vm", "migrate", "web1", "--to", "b", "--detach").strip()
        self.wait_for_phase("copying")
        self.movers = self.cluster.processes("sealift-mover")
        self.assertEqual(len(self.movers), 2)
        self.secrets = Secrets(self.spec(), self.key)

    def wait_for_phase(self, *phases):
        return harness.wait_for(
            lambda: (phase := self.cluster.json("migration", "show", self.migration)["progress"]["phase"])
            in phases and phase, 90, f"migration to be {phases}")

    def spec(self):
        migration = self.cluster.json("migration", "show", self.migration)
        domain = re.search(r"(?m)^trust_domain: (\S+)", (self.cluster.dir / "context.yaml").read_text())[1].strip("'\"")
        return protocol.Spec(bytes.fromhex(self.migration), "web1", f"spiffe://{domain}/host/a",
                             f"spiffe://{domain}/host/b", engine=protocol.Engine[migration["engine"].upper()],
                             streams=migration["streams"])

    def daemons(self):
        return {"controller": self.cluster.controller.pid,
                **{f"agent {host}": agent.pid for host, agent in self.cluster.agents.items()}}

    def images(self, processes):
        """Two images of each process: (who, how) -> {mapping: bytes}."""
        made = {}
        for name, pid in processes.items():
            made[name, "mapped"], refused = memory_image.mapped_image(pid)
            made[name, "core"] = memory_image.core_image(pid, self.dir)
            self.assertGreater(sum(map(len, made[name, "mapped"].values())), 1 << 18, "an image of nothing")
            self.assertGreater(len(made[name, "core"]["core"]), 1 << 18, "a core of nothing")
            for mapping in refused:
                self.assertIn("secretmem", mapping, "only secret memory is refused")
            print(f"{name}: {sum(map(len, made[name, 'mapped'].values())) >> 20} MiB of memory, "
                  f"{len(made[name, 'core']['core']) >> 20} MiB of core in use, {len(refused)} mappings refused", file=sys.stderr)
        return made

    def assert_no_secret(self, images):
        for (name, how), image in images.items():
            for mapping, data in image.items():
                self.assertEqual(self.secrets.found_in(data), [], f"{name}, {how}: {mapping}")

    def schedules(self, images):
        """{AES-256 key whose expanded form is in memory: where}."""
        return {key: f"{name}, {how}: {mapping}" for (name, how), image in images.items()
                for mapping, data in image.items() for key in memory_image.schedules(data)}

    def assert_schedules_are_of_something_else(self, schedules, records):
        for key, where in schedules.items():
            self.assertNotIn(key, self.secrets.of_aes, where)
            self.assertFalse([record.header for record in records if record.opens_with(key)], where)

    def assert_files_hold_no_secret(self):
        kept = [path for path in self.dir.rglob("*") if path.is_file() and path.name not in ("known-key", "wire.pcap")]
        names = {path.name for path in kept}
        self.assertTrue({"controller.log", "agent-a.log", "agent-b.log", "identity.pem"} <= names, names)
        self.assertTrue([path for path in kept if path.parent.name == "controller" and path.suffix != ".pem"], names)
        for path in kept:
            self.assertEqual(self.secrets.found_in_text(path.read_bytes()), [], path)
        for said in (("events",), ("migration", "list"), ("migration", "show", self.migration), ("vm", "list"),
                     ("host", "list")):
            text = self.cluster.sealift(*said, "-o", "json").encode()
            self.assertEqual(self.secrets.found_in_text(text), [], said)

    def captured(self):
        """Ends the capture; the flows in it."""
        self.capture.stop()
        self.assertEqual(self.capture.dropped_packets, 0)
        return tcp_flows(self.dir / "wire.pcap")

    def assert_flows_hold_no_secret(self, flows):
        ports = {str(address[1]) for flow in flows for address in (flow[:2], flow[2:])}
        self.assertTrue(ports & {str(port) for port in self.cluster.ports}, "the control plane is in the capture")
        for flow, data in flows.items():
            self.assertEqual(self.secrets.found_in_text(data), [], flow)
        self.assertFalse(self.capture.found)

    def records_of(self, flows):
        records = sealed_records(flows)
        kinds = {(record.header.type, record.direction) for record in records}
        self.assertIn((RecordType.DATA, Direction.TO_DESTINATION), kinds)
        self.assertIn((RecordType.ACKNOWLEDGEMENT, Direction.TO_SOURCE), kinds)
        # The sub-keys that are looked for are those in use: each record opens with one of them.
        for record in records:
            self.assertTrue(any(record.opens_with(key) for key in self.secrets.of_aes), record.header)
        return records

    def image_during_the_move(self):
        for mover in self.movers:
            os.kill(mover, signal.SIGSTOP)
        try:
            daemons = self.images(self.daemons())
            movers = self.images({f"mover {pid}": pid for pid in self.movers})
        finally:
            for mover in self.movers:
                os.kill(mover, signal.SIGCONT)
        self.assertEqual(self.wait_for_phase("copying", "completed", "failed"), "copying", "imaged too late")
        return daemons, movers

    def finish(self):
        self.cluster.network.speed_up(self.cluster.network.hosts["a"])
        self.assertEqual(self.wait_for_phase("completed", "failed"), "completed")
        harness.wait_for(lambda: not self.cluster.processes("sealift-mover"), 20, "movers to end")
        return self.images(self.daemons())

    def move(self, backend):
        """Images of the daemons and movers during the move and of the daemons after it, and the records of the move,
        in which, as in all files, nothing of the key was found."""
        self.begin(backend)
        daemons, movers = self.image_during_the_move()
        self.assert_files_hold_no_secret()
        afterwards = self.finish()
        flows = self.captured()
        self.assert_flows_hold_no_secret(flows)
        self.assert_files_hold_no_secret()
        return daemons, movers, afterwards, self.records_of(flows)

    def test_ipsec_mb_leaves_nothing_to_be_read_anywhere(self):
        daemons, movers, afterwards, records = self.move("ipsec-mb")
        schedules = [self.schedules(images) for images in (daemons, movers, afterwards)]
        for images, found in zip((daemons, movers, afterwards), schedules):
            self.assert_no_secret(images)
            self.assert_schedules_are_of_something_else(found, records)
        self.assertTrue(schedules[0], "TLS sessions have schedules: the search works on real ones")

    def test_openssl_has_its_key_schedules_on_the_heap_of_the_movers_and_nothing_else(self):
        daemons, movers, afterwards, records = self.move("openssl")
        for images in (daemons, afterwards):
            self.assert_no_secret(images)
            self.assert_schedules_are_of_something_else(self.schedules(images), records)
        # The documented exception (docs/key_management.md), and what shows that this test can fail.
        found = self.schedules(movers)
        ours = {self.secrets.of_aes[key]: where for key, where in found.items() if key in self.secrets.of_aes}
        self.assertIn(f"records {Direction.TO_DESTINATION} 1 0", ours)
        self.assertTrue(any(record.opens_with(key) for key in found for record in records))
        exempt = {name for name in self.secrets.all if name in self.secrets.aes or name.startswith("hash key")}
        for (name, how), image in movers.items():
            for mapping, data in image.items():
                self.assertEqual(set(self.secrets.found_in(data)) - exempt, set(), f"{name}, {how}: {mapping}")
                self.assert_keys_only_in_schedules(data, f"{name}, {how}: {mapping}")

    def assert_keys_only_in_schedules(self, data, where):
        """An AES sub-key is nowhere but at the beginning of its own round keys."""
        schedules = memory_image.schedules(data)
        for name, key in self.secrets.aes.items():
            self.assertEqual(set(memory_image.occurrences(key, data)) - set(schedules.get(key, [])), set(),
                             f"{where}: {name}")


class SearchTest(unittest.TestCase):
    """The search finds what it is to find."""

    KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    LAST_WORD = bytes.fromhex("706c631e")  # FIPS 197 A.3, w[59]

    def test_expansion_is_that_of_the_standard(self):
        self.assertEqual(memory_image.SBOX[:4], bytes.fromhex("637c777b"))
        self.assertEqual(memory_image.expand(self.KEY)[-4:], self.LAST_WORD)

    def test_schedules_are_found_in_each_form_at_each_place(self):
        for form in memory_image.forms(self.KEY):
            for before in (0, 4, 8, 4096, 70004):
                data = os.urandom(before) + form + os.urandom(999)
                self.assertEqual(memory_image.schedules(data), {self.KEY: [before]})

    def test_nothing_is_found_where_nothing_is(self):
        almost = bytearray(memory_image.expand(self.KEY))
        almost[-1] ^= 1
        for data in (bytes(1 << 16), b"\xff" * (1 << 16), os.urandom(1 << 20), bytes(almost), b"", b"short"):
            self.assertEqual(memory_image.schedules(data), {})

    def test_a_key_planted_in_a_process_is_found_in_both_images(self):
        key = os.urandom(32)
        program = ("import sys, time\nplanted = bytearray(sys.stdin.buffer.read(272))\n"
                   "print('planted', flush=True)\ntime.sleep(60)")
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        child.stdin.write(memory_image.expand(key) + key[::-1])
        child.stdin.close()
        self.addCleanup(child.stdout.close)
        self.assertEqual(child.stdout.readline(), b"planted\n")
        stage = harness.Stage()
        self.addCleanup(stage.close)
        for image in (memory_image.mapped_image(child.pid)[0], memory_image.core_image(child.pid, stage.dir)):
            self.assertTrue([mapping for mapping, data in image.items() if key[::-1] in data])
            self.assertTrue([mapping for mapping, data in image.items() if key in memory_image.schedules(data)])


if __name__ == "__main__":
    harness.main()
