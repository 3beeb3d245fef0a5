#!/usr/bin/python3
"""The real mover and the second implementation understand each other: bytes, messages and ends, both ways."""

import select
import socket

import cases
from cases import MEGABYTE, text
from mover_process import DestinationMover, Program, SourceMover
from sealift_peer import receive_exactly, receive_to_end
from sealift_protocol import HEADER_SIZE, LARGEST_PAYLOAD, Header, Protection, RecordType
from sealift_stream import ACKNOWLEDGE_EVERY, RETAINED_RECORDS


class Carry(cases.MigrationTest):
    def carry_megabytes(self, streams, protection):
        migration = self.make(streams, protection)
        ours = {number: text(4 * MEGABYTE + number, number) for number in range(1, streams + 1)}
        theirs = {number: text(5 * MEGABYTE + number, -number) for number in ours}
        programs = {number: Program(migration.channel(number), theirs[number]) for number in ours}
        for number, data in ours.items():
            stream = migration.peer.streams[number]
            stream.write(data[:LARGEST_PAYLOAD], LARGEST_PAYLOAD)
            stream.send(RecordType.DATA, b"")
            stream.write(data[LARGEST_PAYLOAD:], 33_333)
            stream.end()
        migration.peer.pump(lambda: all(migration.peer.streams[number].ended for number in ours))
        for number in ours:
            self.assertEqual(programs[number].received(), ours[number], f"stream {number}, to the mover")
            self.assertEqual(migration.peer.streams[number].data, theirs[number], f"stream {number}, from it")
        self.finish(migration)

    def test_megabytes_both_ways_at_once_sealed(self):
        self.carry_megabytes(1, Protection.SEALED)

    def test_megabytes_both_ways_at_once_plain(self):
        self.carry_megabytes(1, Protection.PLAIN)

    def test_several_streams_at_once(self):
        self.carry_megabytes(4, Protection.SEALED)

    def test_the_peer_ends_its_direction_first(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        stream.write(b"short and first")
        stream.end()
        migration.peer.pump(lambda: stream.all_acknowledged)
        self.assertEqual(receive_to_end(migration.channel(1)), b"short and first")
        data = text(3 * MEGABYTE, 1)
        Program(migration.channel(1), data)
        migration.peer.pump(lambda: stream.ended)
        self.assertEqual(stream.data, data)
        self.finish(migration)

    def test_the_program_ends_its_direction_first(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        program = Program(migration.channel(1), b"short and first")
        migration.peer.pump(lambda: stream.opener.ended)
        self.assertEqual(stream.data, b"short and first")
        data = text(3 * MEGABYTE, 2)
        stream.write(data)
        stream.end()
        migration.peer.pump(lambda: stream.ended)
        self.assertEqual(program.received(), data)
        self.finish(migration)

    def test_a_program_that_stopped_reading_stops_nothing(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        migration.channel(1).shutdown(socket.SHUT_RD)
        stream.write(text(MEGABYTE, 3))
        stream.end()
        data = text(MEGABYTE, 4)
        migration.channel(1).sendall(data[:1000])
        migration.peer.pump(lambda: stream.all_acknowledged and stream.data)
        migration.channel(1).sendall(data[1000:100_000])
        migration.channel(1).shutdown(socket.SHUT_WR)
        migration.peer.pump(lambda: stream.ended)
        self.assertEqual(stream.data, data[:100_000])
        self.finish(migration)

    def carry_messages(self, protection):
        migration = self.make(1, protection)
        control = migration.peer.streams[0]
        sent = [b"\x01", b"\x04with a text", b"\x03" + 1024 * b"t"]
        for message in [b"", *sent]:  # the empty one is none
            control.send(RecordType.CONTROL, message)
        migration.peer.pump(lambda: control.all_acknowledged)
        self.assertEqual([migration.control.recv(4096) for _ in sent], sent)
        for message in sent:
            migration.control.send(message)
        migration.peer.pump(lambda: len(control.messages) == len(sent))
        self.assertEqual(control.messages, sent)
        migration.channel(1).shutdown(socket.SHUT_WR)
        migration.peer.streams[1].end()
        self.finish(migration)

    def test_messages_keep_their_borders_sealed(self):
        self.carry_messages(Protection.SEALED)

    def test_messages_keep_their_borders_and_are_sealed_though_payload_is_plain(self):
        self.carry_messages(Protection.PLAIN)  # this peer takes no plain control record

    def test_acknowledges_the_eighth_data_record(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        stream.write(b"12345678", 1)
        migration.peer.pump(lambda: stream.acknowledged)
        self.assertEqual(stream.acknowledged, ACKNOWLEDGE_EVERY)

    def test_acknowledges_a_control_and_a_final_record_at_once(self):
        migration = self.make()
        for number, kind in ((0, RecordType.CONTROL), (1, RecordType.FINAL)):
            migration.peer.streams[number].send(kind)
            migration.peer.pump(lambda stream=migration.peer.streams[number]: stream.acknowledged == 1)

    def test_waits_when_so_many_records_are_not_acknowledged(self):
        migration = self.make()
        data = text(8 * MEGABYTE, 5)
        program = Program(migration.channel(1), data)
        stream, connection = migration.peer.streams[1], migration.peer.connections[1]
        stream.acknowledging = False
        for _ in range(RETAINED_RECORDS):
            header = receive_exactly(connection, HEADER_SIZE)
            stream.received(header + receive_exactly(connection, Header.unpack(header).record_size - HEADER_SIZE))
        self.assertEqual(select.select([connection], [], [], 0.3)[0], [], "one more came without an acknowledgement")
        stream.acknowledging = True
        connection.sendall(stream.acknowledgements.seal(RETAINED_RECORDS))
        stream.end()
        migration.peer.pump(lambda: stream.ended)
        self.assertEqual((stream.data, program.received()), (data, b""))
        self.finish(migration)


class ToADestination(Carry, cases.TestCase):
    mover_type = DestinationMover


class FromASource(Carry, cases.TestCase):
    mover_type = SourceMover


if __name__ == "__main__":
    cases.main()
