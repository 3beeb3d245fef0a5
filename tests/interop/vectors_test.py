#!/usr/bin/python3
"""The second implementation reproduces the examples of docs/protocol.md and the vector of RFC 9180."""

import json
import re
import unittest

import hpke
import sealift_protocol as protocol
from mover_process import harness
from sealift_protocol import Direction, HelloKind, HelloPrefix, Protection, Purpose, RecordType

TO_DESTINATION, TO_SOURCE = Direction.TO_DESTINATION, Direction.TO_SOURCE


class Example(dict):
    """An example of the page: names and bytes. It remembers what was not asked for."""

    def __init__(self, heading):
        page = (harness.SOURCE / "docs/protocol.md").read_text()
        block = re.search(rf"^### {heading}\n.*?^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL).group(1)
        for name, value in re.findall(r"^(\S.*)\n((?:  .*\n)+)", block, re.MULTILINE):
            self[name] = bytes.fromhex(value)
        self.unasked = set(self)

    def __getitem__(self, name):
        self.unasked.discard(name)
        return super().__getitem__(name)


def schedule(key, protection=Protection.SEALED):
    spec = protocol.Spec(bytes(range(0x10, 0x20)), "web-1", "spiffe://example/host/a", "spiffe://example/host/b",
                         protection, 1, 4)
    return protocol.KeySchedule(spec, key)


class RecordExample(unittest.TestCase):
    def setUp(self):
        self.example = Example("A worked example")
        self.keys = schedule(self.example["migration key"])

    def tearDown(self):
        self.assertEqual(self.example.unasked, set())

    def test_every_entry(self):
        self.check_keys()
        self.check_sealing()
        self.check_opening()

    def check_keys(self):
        example, keys = self.example, self.keys
        self.assertEqual(keys.spec.encode(), example["spec"])
        self.assertEqual(keys.spec.hash(), example["spec hash"])
        self.assertEqual(keys.pseudo_random_key(), example["pseudo-random key"])
        for index in (0, 1):
            self.assertEqual(keys.sub_key(Purpose.RECORDS, TO_DESTINATION, 1, index),
                             example[f"record key, to the destination, stream 1, index {index}"])
        self.assertEqual(keys.sub_key(Purpose.ACKNOWLEDGEMENT, TO_SOURCE, 1, 1),
                         example["acknowledgement key, to the source, stream 1, generation 1"])
        self.assertEqual(keys.sub_key(Purpose.HELLO, TO_DESTINATION, 1, 1),
                         example["hello key, to the destination, stream 1, generation 1"])
        self.assertEqual(protocol.hello_mac(keys, TO_DESTINATION, HelloPrefix(HelloKind.OPEN, 1, 1), b"hello"),
                         example['MAC under it of "hello"'])
        self.assertEqual(protocol.RecordKeys(keys, Purpose.RECORDS, TO_DESTINATION, 1).iv(0),
                         example["IV of its sequence 0"])

    def records(self):
        """Each record of the example: schedule, sequence, type, payload, bytes."""
        plain = schedule(self.keys.key, Protection.PLAIN)
        return [(self.keys, 0, RecordType.DATA, b"hello", self.example['data record, sequence 0, "hello"']),
                (self.keys, 1, RecordType.FINAL, b"", self.example["final record, sequence 1"]),
                (self.keys, 1 << 20, RecordType.CONTROL, b"rekeyed",
                 self.example['control record, sequence 1048576, "rekeyed"']),
                (plain, 0, RecordType.DATA, b"hello", self.example['plain data record, sequence 0, "hello"'])]

    def check_sealing(self):
        for keys, sequence, kind, payload, record in self.records():
            sealer = protocol.Sealer(keys, 1, TO_DESTINATION, sequence)
            self.assertEqual(sealer.seal(kind, payload), record)
            self.assertEqual(sealer.next_sequence, sequence + 1)
        sealer = protocol.AcknowledgementSealer(self.keys, 1, TO_SOURCE, 1)
        self.assertEqual(sealer.seal(2), self.example["acknowledgement, sequence 0, of everything before 2"])

    def check_opening(self):
        for keys, sequence, kind, payload, record in self.records():
            opener = protocol.Opener(keys, 1, TO_DESTINATION, sequence)
            self.assertEqual(opener.open(record), (kind, payload, len(record)))
        opener = protocol.AcknowledgementOpener(self.keys, 1, TO_SOURCE, 1)
        record = self.example["acknowledgement, sequence 0, of everything before 2"]
        self.assertEqual(opener.open(record), (2, len(record)))


class RecordsThatLie(unittest.TestCase):
    """The opener of this implementation refuses too; without that the other tests here would prove little."""

    def test_no_bit_of_a_sealed_record_can_be_flipped(self):
        keys = schedule(bytes(40))
        record = protocol.Sealer(keys, 1, TO_DESTINATION).seal(RecordType.DATA, b"x")
        # A greater length makes the record incomplete, not wrong: it is followed by enough bytes.
        for bit in range(8 * len(record)):
            changed = bytearray(record)
            changed[bit // 8] ^= 0x80 >> bit % 8
            with self.subTest(bit=bit), self.assertRaises(protocol.Rejected):
                protocol.Opener(keys, 1, TO_DESTINATION).open(bytes(changed) + bytes(protocol.LARGEST_PAYLOAD))


class HelloExample(unittest.TestCase):
    def test_every_entry(self):
        keys = schedule(Example("A worked example")["migration key"])
        example = Example("A worked hello")
        names = {TO_DESTINATION: "destination", TO_SOURCE: "source"}
        for direction, name in names.items():
            self.assertEqual(keys.sub_key(Purpose.HELLO, direction, 1, 2),
                             example[f"hello key, to the {name}, stream 1, generation 2"])
        opened = protocol.make_open(keys, HelloPrefix(HelloKind.OPEN, 1, 2), keys.spec.id, bytes(range(0xc0, 0xd0)))
        replied = protocol.make_reply(keys, HelloPrefix(HelloKind.REPLY, 1, 2), opened, 2, bytes(range(0xd0, 0xe0)))
        finished = protocol.make_finish(keys, HelloPrefix(HelloKind.FINISH, 1, 2), opened, replied, 0)
        self.assertEqual(opened, example["open"])
        self.assertEqual(replied, example["reply, next sequence 2"])
        self.assertEqual(finished, example["finish, next sequence 0"])
        self.assertEqual((len(opened), len(replied), len(finished)),
                         (protocol.OPEN_SIZE, protocol.REPLY_SIZE, protocol.FINISH_SIZE))
        self.assertEqual(protocol.check_open(keys, opened), HelloPrefix(HelloKind.OPEN, 1, 2))
        self.assertEqual(protocol.check_reply(keys, opened, replied), 2)
        self.assertEqual(protocol.check_finish(keys, opened, replied, finished), 0)
        self.assertEqual(example.unasked, set())


class Hpke(unittest.TestCase):
    def test_is_the_vector_of_rfc_9180(self):
        vector = json.loads((harness.SOURCE / "tests/vectors/hpke_rfc9180_a6_1.json").read_text())
        first = vector["encryptions"][0]
        public, info, text, aad = (bytes.fromhex(value) for value in
                                   (vector["pkRm"], vector["info"], first["pt"], first["aad"]))
        sealed = hpke.seal(public, info, text, aad, ephemeral=int(vector["skEm"], 16))
        self.assertEqual(sealed.hex(), vector["enc"] + first["ct"])


if __name__ == "__main__":
    harness.main()
