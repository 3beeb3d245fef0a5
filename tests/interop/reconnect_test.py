#!/usr/bin/python3
"""Connections come and go; every byte arrives once, and what is sent again is sent as it was."""

import socket
import time

import cases
import sealift_protocol as protocol
from cases import MEGABYTE, text
from mover_process import DestinationMover, Program, SourceMover, harness
from sealift_peer import receive_exactly, receive_to_end, reset
from sealift_protocol import Header, HelloKind, HelloPrefix, RecordType

CUTS = 6
COUNTERS_SECONDS = 0.25


def cut_inside_a_record(peer, stream):
    """Writes the beginning of the next record and closes."""
    peer.connections[stream.number].sendall(stream.outgoing()[:30])
    peer.drop(stream.number)


class Reconnect(cases.MigrationTest):
    def test_every_byte_arrives_once_wherever_connections_are_cut(self):
        migration = self.make(streams=2)
        ours = {number: text(12 * MEGABYTE, number) for number in (1, 2)}
        theirs = {number: text(12 * MEGABYTE, -number) for number in (1, 2)}
        programs = {number: Program(migration.channel(number), theirs[number]) for number in (1, 2)}
        for number, data in ours.items():
            migration.peer.streams[number].write(data, 50_000)
            migration.peer.streams[number].end()
        ways = [socket.socket.close, reset]
        for cut in range(CUTS):
            number = 1 + cut % 2
            stream = migration.peer.streams[number]
            far = stream.opener.next_sequence + stream.acknowledged + 15
            migration.peer.pump(lambda: stream.opener.next_sequence + stream.acknowledged >= far)
            migration.peer.drop(number, ways[cut // 2 % 2])
            migration.rejoin(number)
        for number in ours:
            self.assertGreater(migration.peer.streams[number].resent, 0)
            migration.peer.pump(lambda stream=migration.peer.streams[number]: stream.ended)
            self.assertEqual(programs[number].received(), ours[number])
            self.assertEqual(migration.peer.streams[number].data, theirs[number])
        self.finish(migration)

    def test_a_record_that_was_cut_off_is_forgotten(self):
        migration = self.make()
        self.hear(migration, b"whole")
        stream = migration.peer.streams[1]
        for cut in range(3):
            data = b"%d: not in one piece" % cut
            stream.write(data)
            cut_inside_a_record(migration.peer, stream)
            self.assertEqual(migration.rejoin(1), 1 + cut)
            migration.peer.pump(lambda: not stream.outgoing())
            self.assertEqual(migration.read_channel(1, len(data)), data)
        self.finish_all(migration)

    def test_the_mover_sends_again_byte_for_byte(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        data = text(MEGABYTE, 7)
        program = Program(migration.channel(1), data)
        raw = receive_exactly(migration.peer.connections[1], MEGABYTE // 2)
        known = 0
        for _ in range(3):
            known += Header.unpack(raw[known:]).record_size
        stream.received(raw[:known])
        migration.peer.drop(1)
        migration.rejoin(1)  # the hello says: next is record 3
        again = receive_exactly(migration.peer.connections[1], len(raw) - known)
        self.assertEqual(again, raw[known:])
        stream.received(again)
        stream.end()
        migration.peer.pump(lambda: stream.ended)
        self.assertEqual((stream.data, program.received()), (data, b""))
        self.finish(migration)

    def test_what_has_arrived_is_not_sent_again(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        self.hear(migration, b"not yet acknowledged")
        self.assertEqual(stream.acknowledged, 0)
        migration.peer.drop(1)
        self.assertEqual(migration.rejoin(1), 1)
        self.assertEqual((stream.acknowledged, stream.resent), (1, 0))
        self.hear(migration, b"the next")
        self.finish_all(migration)

    def test_messages_of_the_control_stream_survive_too(self):
        migration = self.make()
        control = migration.peer.streams[0]
        for round_number in range(2):
            message = b"\x01 round %d" % round_number
            control.send(RecordType.CONTROL, message)
            control.outgoing()  # sealed, and nothing of it leaves
            migration.peer.drop(0)
            migration.control.send(message)
            migration.rejoin(0)
            migration.peer.pump(lambda: control.all_acknowledged and len(control.messages) == 1 + round_number)
            self.assertEqual((migration.control.recv(100), control.messages[-1]), (message, message))
        self.finish_all(migration)

    def test_an_agent_that_hangs_hears_of_the_end_later(self):
        migration = self.make()
        with migration.mover.hanging_agent():
            self.end_all(migration)
            for connection in migration.peer.connections.values():
                self.assertEqual(receive_to_end(connection), b"")
        migration.mover.wait_for_end()

    def fill_channel(self, migration):
        """Sends more than the channel's buffer takes, while its program does not read."""
        data = text(MEGABYTE, 8)
        migration.peer.streams[1].write(data, 200_000)
        migration.peer.pump(lambda: not migration.peer.streams[1].outgoing())
        return data

    def finish_slowly(self, migration, program, data):
        stream = migration.peer.streams[1]
        stream.end()
        migration.peer.pump(lambda: stream.ended)
        self.assertEqual(program.received(), data)
        self.finish(migration)


class ToADestination(Reconnect, cases.TestCase):
    mover_type = DestinationMover

    def test_an_agent_that_hangs_keeps_no_connection_out(self):
        migration = self.make()
        with migration.mover.hanging_agent():
            several_counters_later = time.monotonic() + 4 * COUNTERS_SECONDS
            while time.monotonic() < several_counters_later:
                migration.peer.drop(1)
                migration.rejoin(1)
                self.hear(migration, b"in spite of it")
        self.finish_all(migration)

    def test_payload_that_waits_for_a_slow_program_outlives_its_connection(self):
        migration = self.make()
        data = self.fill_channel(migration)
        migration.peer.drop(1)
        migration.rejoin(1)
        self.finish_slowly(migration, Program(migration.channel(1)), data)

    def test_the_next_generation_takes_over_a_living_connection(self):
        migration = self.make()
        self.hear(migration, b"first")
        first = migration.peer.connections.pop(1)
        with first:
            migration.peer.generations[1] += 4  # failed tries use generations up
            self.assertEqual(migration.rejoin(1), 1)
            self.assertEqual(receive_to_end(first), b"")
        self.hear(migration, b"second")
        self.finish_all(migration)

    def test_a_lost_hello_is_followed_by_the_next(self):
        migration = self.make()
        for steps in ("open", "open and reply"):
            connection, _ = migration.peer.open_hello(1)
            with connection:
                if steps == "open and reply":
                    receive_exactly(connection, protocol.REPLY_SIZE)
            migration.peer.drop(1)
            migration.rejoin(1)
            self.hear(migration, steps.encode())
        self.finish_all(migration)

    def test_takes_connections_in_any_order(self):
        migration = DestinationMover(self.stage, streams=3)
        for number in (2, 0, 3, 1):
            migration.peer.connect(number)
        migration.mover.wait_for("established")

    def test_an_ended_stream_still_answers_a_hello(self):
        migration = self.make()
        stream, connection = migration.peer.streams[1], migration.peer.connections[1]
        stream.write(b"the end")
        stream.end()
        connection.sendall(stream.outgoing())
        migration.channel(1).shutdown(socket.SHUT_WR)
        self.assertEqual(receive_to_end(migration.channel(1)), b"the end")
        # Its final is acknowledged; its acknowledgement of ours is lost.
        raw = bytearray()
        while not stream.opener.ended:
            raw += connection.recv(1000)
            while len(raw) >= 20 and len(raw) >= Header.unpack(raw).record_size:
                size = Header.unpack(raw).record_size
                if raw[1] != RecordType.ACKNOWLEDGEMENT:
                    stream.received(raw[:size])
                del raw[:size]
        connection.sendall(stream.acknowledgements.seal(1))
        self.assertFalse(stream.all_acknowledged)
        migration.peer.drop(1)
        self.assertEqual(migration.rejoin(1), 2)
        self.assertTrue(stream.all_acknowledged)
        self.finish(migration)


class FromASource(Reconnect, cases.TestCase):
    mover_type = SourceMover

    def test_an_agent_that_hangs_is_asked_for_a_connection_until_it_answers(self):
        migration = self.make(streams=2)
        with migration.mover.hanging_agent():
            migration.peer.drop(1)
            several_counters_later = time.monotonic() + 4 * COUNTERS_SECONDS
            while time.monotonic() < several_counters_later:
                self.hear(migration, b"the other goes on", 2)
        migration.rejoin(1)
        self.hear(migration, b"back")
        self.finish_all(migration)

    def test_payload_that_waits_for_a_slow_program_outlives_its_connection(self):
        migration = self.make()
        data = self.fill_channel(migration)
        migration.peer.drop(1)
        program = Program(migration.channel(1))  # who takes nothing looks at no connection
        migration.rejoin(1)
        self.finish_slowly(migration, program, data)

    def test_claims_a_new_generation_for_every_try(self):
        migration = self.make()
        migration.reachable = False
        migration.peer.drop(1)
        claims = migration.mover.claims
        harness.wait_for(lambda: len(claims) >= 5, 20, "three more claims")
        migration.reachable = True
        migration.rejoin(1)
        self.hear(migration, b"back")
        self.assertEqual([stream for stream, _ in claims], [0, 1] + (len(claims) - 2) * [1])
        self.assertEqual([generation for stream, generation in claims if stream == 1], list(range(1, len(claims))))
        self.assertEqual(migration.peer.generations[1], claims[-1][1])
        self.finish_all(migration)

    def test_comes_back_when_the_hello_is_cut(self):
        migration = self.make()
        migration.peer.drop(1)
        for _ in range(2):
            connection, opened = migration.peer.take_open()
            connection.close()
        connection, opened = migration.peer.take_open()
        reply = HelloPrefix(HelloKind.REPLY, 1, HelloPrefix.unpack(opened).generation)
        connection.sendall(protocol.make_reply(migration.schedule, reply, opened, 0)[:-1])
        connection.close()
        migration.rejoin(1)
        self.hear(migration, b"back")
        self.finish_all(migration)


if __name__ == "__main__":
    cases.main()
