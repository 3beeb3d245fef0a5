#!/usr/bin/python3
"""A peer that holds the key and lies in a record: the connection is closed, no byte of the lie is delivered, and
the honest peer goes on with the next generation."""

import contextlib
import dataclasses
import os
import struct

import cases
import sealift_protocol as protocol
from mover_process import DestinationMover, SourceMover
from sealift_peer import receive_to_end
from sealift_protocol import (LARGEST_PAYLOAD, PLAIN_FLAG, REKEY_SHIFT, TAG_SIZE, KeySchedule, Protection, Purpose,
                              RecordKeys, RecordType)

WRONG = b"this must not arrive"
LARGEST_U64 = 2**64 - 1
STREAMS = 6  # data streams of a test


def forged(stream, payload=WRONG, record_type=RecordType.DATA, /, **fields):
    """The next record with other header fields, its tag and IV right for them."""
    header = stream.sealer.header(record_type, len(payload))
    return stream.sealer.seal_as(dataclasses.replace(header, **fields), payload)


def under(stream, schedule=None, purpose=Purpose.RECORDS, direction=None, number=None, index=None, iv=None):
    """The next record under another sub-key or IV, its header right."""
    keys = RecordKeys(schedule or stream.schedule, purpose, direction or stream.sending,
                      stream.number if number is None else number)
    header = dataclasses.replace(stream.sealer.header(RecordType.DATA, len(WRONG)), flags=0)
    index = header.sequence >> REKEY_SHIFT if index is None else index
    return keys.seal(index, header.sequence if iv is None else iv, header.pack(), WRONG)


def flipped(record, at):
    changed = bytearray(record)
    changed[at] ^= 1
    return bytes(changed)


def next_header(stream, **fields):
    return dataclasses.replace(stream.sealer.header(RecordType.DATA, len(WRONG)), **fields)


# Each takes the stream, which has one record sent and one received at least, and gives the bytes of the lie.
HEADER_LIES = {
    "version 0": lambda stream: forged(stream, version=0),
    "version 2": lambda stream: forged(stream, version=2),
    "type 0": lambda stream: forged(stream, type=0),
    "type 5": lambda stream: forged(stream, type=5),
    "type 255": lambda stream: forged(stream, type=255),
    "flag 2": lambda stream: forged(stream, flags=stream.sealer.header(1, 0).flags | 0x02),
    "flag 128": lambda stream: forged(stream, flags=stream.sealer.header(1, 0).flags | 0x80),
    "byte 3 not zero": lambda stream: forged(stream, zero=1),
    "bytes 6 and 7 not zero": lambda stream: forged(stream, zeros=1),
    "stream 0": lambda stream: forged(stream, stream=0),
    "the next stream": lambda stream: forged(stream, stream=stream.number + 1),
    "sequence skipped": lambda stream: forged(stream, sequence=stream.sealer.next_sequence + 1),
    "sequence far ahead": lambda stream: forged(stream, sequence=stream.sealer.next_sequence + 2**32),
    "sequence at its end": lambda stream: forged(stream, sequence=LARGEST_U64),
    "sequence of the last record": lambda stream: forged(stream, sequence=stream.sealer.next_sequence - 1),
    "length over the limit": lambda stream: forged(stream, bytes(LARGEST_PAYLOAD + 1)),
    "length of 4 GiB": lambda stream: next_header(stream, length=2**32 - 1).pack(),
    "control record over the limit": lambda stream: forged(stream, bytes(LARGEST_PAYLOAD + 1), RecordType.CONTROL),
    "final with payload": lambda stream: forged(stream, b"x", RecordType.FINAL),
    "plain final": lambda stream: forged(stream, b"", RecordType.FINAL, flags=PLAIN_FLAG) + bytes(TAG_SIZE),
    "plain control": lambda stream: forged(stream, WRONG, RecordType.CONTROL, flags=PLAIN_FLAG) + bytes(TAG_SIZE),
    "the last record again": lambda stream: stream.last_record,
    "zeros": lambda stream: bytes(100),
    "noise": lambda stream: os.urandom(100),
}

TAG_LIES = {
    "payload flipped": lambda stream: flipped(forged(stream), protocol.HEADER_SIZE),
    "tag flipped at its start": lambda stream: flipped(forged(stream), -TAG_SIZE),
    "tag flipped at its end": lambda stream: flipped(forged(stream), -1),
    "tag of zeros": lambda stream: forged(stream)[:-TAG_SIZE] + bytes(TAG_SIZE),
    "length one less": lambda stream: flipped(forged(stream, WRONG + b"!"), 19),
    "final with a wrong tag": lambda stream: flipped(forged(stream, b"", RecordType.FINAL), -1),
    "key of the other direction": lambda stream: under(stream, direction=stream.sending.opposite),
    "key of another stream": lambda stream: under(stream, number=stream.number + 1),
    "key of another rekey index": lambda stream: under(stream, index=1),
    "key of acknowledgements": lambda stream: under(stream, purpose=Purpose.ACKNOWLEDGEMENT, index=stream.generation),
    "another migration's key": lambda stream: under(stream, KeySchedule(stream.schedule.spec, os.urandom(40))),
    "key of another spec": lambda stream: under(
        stream, KeySchedule(dataclasses.replace(stream.schedule.spec, vm="web-2"), stream.schedule.key)),
    "IV of another sequence": lambda stream: under(stream, iv=stream.sealer.next_sequence + 1),
}

SEALED_LIES = {
    "plain flag": lambda stream: forged(stream, flags=PLAIN_FLAG),
    "plain flag, followed by a tag": lambda stream: forged(stream, flags=PLAIN_FLAG) + bytes(TAG_SIZE),
    "plain flag on a sealed record": lambda stream: flipped(forged(stream), 2),
}

PLAIN_LIES = {
    "no plain flag": lambda stream: forged(stream, flags=0),
    "no plain flag on a plain record": lambda stream: flipped(forged(stream), 2),
    "final with a wrong tag": TAG_LIES["final with a wrong tag"],
}


def acknowledged(stream, value, /, **fields):
    """An acknowledgement with other header fields, its tag and IV right for them."""
    header = dataclasses.replace(stream.acknowledgements.header(), **fields)
    return stream.acknowledgements.seal_as(header, struct.pack(">Q", value)[:header.length].ljust(header.length))


def right(stream):
    """The right acknowledgement."""
    return acknowledged(stream, stream.opener.next_sequence)


def acknowledged_under(stream, direction=None, generation=None, purpose=Purpose.ACKNOWLEDGEMENT):
    header = stream.acknowledgements.header()
    keys = RecordKeys(stream.schedule, purpose, direction or stream.sending, stream.number)
    return keys.seal(stream.generation if generation is None else generation, header.sequence, header.pack(),
                     struct.pack(">Q", stream.opener.next_sequence))


ACKNOWLEDGEMENT_LIES = {
    "of a record that was never sent": lambda stream: acknowledged(stream, stream.opener.next_sequence + 1),
    "of everything": lambda stream: acknowledged(stream, LARGEST_U64),
    "falling": lambda stream: right(stream) + acknowledged(stream, stream.opener.next_sequence - 1, sequence=1),
    "repeated": lambda stream: 2 * right(stream),
    "skipping a number": lambda stream: acknowledged(stream, stream.opener.next_sequence, sequence=1),
    "too short": lambda stream: acknowledged(stream, 0, length=7),
    "too long": lambda stream: acknowledged(stream, 0, length=9),
    "version 2": lambda stream: acknowledged(stream, stream.opener.next_sequence, version=2),
    "plain": lambda stream: stream.acknowledgements.header().pack()[:2] + b"\x01" + right(stream)[3:28],
    "flag 2": lambda stream: acknowledged(stream, stream.opener.next_sequence, flags=2),
    "byte 3 not zero": lambda stream: acknowledged(stream, stream.opener.next_sequence, zero=1),
    "bytes 6 and 7 not zero": lambda stream: acknowledged(stream, stream.opener.next_sequence, zeros=1),
    "of stream 0": lambda stream: acknowledged(stream, stream.opener.next_sequence, stream=0),
    "tag flipped": lambda stream: flipped(right(stream), -1),
    "value flipped": lambda stream: flipped(right(stream), protocol.HEADER_SIZE),
    "key of the other direction": lambda stream: acknowledged_under(stream, direction=stream.sending.opposite),
    "key of the last connection": lambda stream: acknowledged_under(stream, generation=stream.generation - 1),
    "key of records": lambda stream: acknowledged_under(stream, purpose=Purpose.RECORDS, generation=0),
}

LIES_AFTER_THE_FINAL = {
    "data": lambda stream: forged(stream),
    "empty data": lambda stream: forged(stream, b""),
    "another final": lambda stream: forged(stream, b"", RecordType.FINAL),
    "the final again": lambda stream: stream.last_record,
    "control": lambda stream: forged(stream, WRONG, RecordType.CONTROL),
    "noise": lambda stream: os.urandom(50),
}


class Lies(cases.MigrationTest):
    def refuse(self, migration, lies):
        """Says the bytes of each lie on its stream. The mover closes those connections; the next are made."""
        for number, message in lies.items():
            with contextlib.suppress(ConnectionError):  # it may close in the midst of it
                migration.peer.connections[number].sendall(message)
        for number in lies:
            try:
                receive_to_end(migration.peer.connections[number])
            finally:
                migration.peer.drop(number)
        return migration.rejoin_each(lies)

    def tell(self, protection, lies):
        """All lies, on several streams at once, between honest records both ways."""
        migration = self.make(STREAMS, protection)
        streams = migration.peer.streams
        for number in range(1, STREAMS + 1):
            self.hear(migration, b"first", number)
            self.say(migration, b"first", number)
        for at in range(0, len(lies), STREAMS):
            names = dict(enumerate(list(lies)[at:at + STREAMS], 1))
            with self.subTest(list(names.values())):
                expected = self.refuse(migration, {number: lies[name](streams[number])
                                                   for number, name in names.items()})
                self.assertEqual(expected, {number: streams[number].sealer.next_sequence for number in names})
                for number, name in names.items():
                    self.hear(migration, name.encode(), number)
                    self.say(migration, name.encode(), number)
        self.finish_all(migration)

    def test_headers_sealed(self):
        self.tell(Protection.SEALED, HEADER_LIES)

    def test_headers_plain(self):
        self.tell(Protection.PLAIN, HEADER_LIES)

    def test_keys_and_tags(self):
        self.tell(Protection.SEALED, TAG_LIES)

    def test_plain_records_in_a_sealed_migration(self):
        self.tell(Protection.SEALED, SEALED_LIES)

    def test_sealed_records_in_a_plain_migration(self):
        self.tell(Protection.PLAIN, PLAIN_LIES)

    def test_acknowledgements_sealed(self):
        self.tell(Protection.SEALED, ACKNOWLEDGEMENT_LIES)

    def test_acknowledgements_plain(self):
        self.tell(Protection.PLAIN, ACKNOWLEDGEMENT_LIES)

    def test_a_lie_behind_honest_records_takes_nothing_from_them(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        stream.write(b"honest" * 5, 6)
        message = bytes(stream.outgoing()) + flipped(forged(stream), -1)
        self.assertEqual(self.refuse(migration, {1: message}), {1: 5})
        self.assertEqual(migration.read_channel(1, 30), b"honest" * 5)
        self.finish_all(migration)

    def test_after_the_final_the_other_direction_goes_on(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        self.hear(migration, b"all")
        stream.end()
        migration.peer.pump(lambda: not stream.outgoing())
        self.assertEqual(receive_to_end(migration.channel(1)), b"")
        for name, lie in LIES_AFTER_THE_FINAL.items():
            with self.subTest(name):
                self.assertEqual(self.refuse(migration, {1: lie(stream)}), {1: 2})
            self.say(migration, name.encode())
        migration.channel(1).shutdown(1)
        migration.peer.pump(lambda: stream.ended)
        self.finish(migration)

    def test_a_record_that_has_no_place_on_its_stream_ends_the_migration(self):
        for number, kind in ((0, RecordType.DATA), (1, RecordType.CONTROL)):
            migration = self.make()
            stream = migration.peer.streams[number]
            stream.send(kind, WRONG)
            migration.peer.connections[number].sendall(stream.outgoing())
            self.assertIn("no place", migration.mover.wait_for("failed")["reason"])
            self.assertEqual(migration.mover.process.wait(20), 1)
            for local in (migration.control, migration.channel(1)):
                self.assertEqual(receive_to_end(local), b"")


class ToADestination(Lies, cases.TestCase):
    mover_type = DestinationMover


class FromASource(Lies, cases.TestCase):
    mover_type = SourceMover


if __name__ == "__main__":
    cases.main()
