#!/usr/bin/python3
"""A peer that lies in a hello: the connection is closed without an answer, and the honest peer goes on."""

import contextlib
import dataclasses
import os
import select
import socket
import time

import cases
import sealift_protocol as protocol
from mover_process import DestinationMover, SourceMover
from sealift_peer import receive_exactly, receive_to_end
from sealift_protocol import Direction, HelloKind, HelloPrefix, KeySchedule, Protection

HELLO_SECONDS = 5
HELLOS_UNDER_WAY = 64
LARGEST_U32, LARGEST_U64 = 2**32 - 1, 2**64 - 1


def flipped(message, bit):
    """The message with one bit changed; a negative bit counts from the end."""
    changed = bytearray(message)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def opens_that_lie(migration):
    """Names and bytes of opens that an acceptor of stream 1 refuses. MACs are right over what is said, except
    where the lie is the MAC."""
    keys = migration.schedule
    honest = HelloPrefix(HelloKind.OPEN, 1, migration.peer.generations[1] + 1)

    def lie(migration_id=keys.spec.id, schedule=keys, **fields):
        return protocol.make_open(schedule, dataclasses.replace(honest, **fields), migration_id)

    said = honest.pack() + keys.spec.id + os.urandom(16)
    other_spec = dataclasses.replace(keys.spec, protection=Protection.PLAIN)
    yield "magic", lie(magic=b"SLFU")
    yield "version 0", lie(version=0)
    yield "version 2", lie(version=2)
    for kind in (0, HelloKind.REPLY, HelloKind.FINISH, 4):
        yield f"kind {kind}", lie(kind=kind)
    for stream in (keys.spec.streams + 1, 65535):
        yield f"stream {stream}", lie(stream=stream)
    yield "another migration", lie(migration_id=os.urandom(16))
    yield "generation 0", lie(generation=0)
    yield "the generation of now", lie(generation=honest.generation - 1)
    yield "an earlier generation", lie(generation=1)
    yield "another key", lie(schedule=KeySchedule(keys.spec, os.urandom(40)))
    yield "another spec", lie(schedule=KeySchedule(other_spec, keys.key))
    yield "MAC flipped at its start", flipped(lie(), -256)
    yield "MAC flipped at its end", flipped(lie(), -1)
    yield "random flipped after the MAC", flipped(lie(), 8 * 30)
    yield "generation raised after the MAC", lie()[:11] + b"\x7f" + lie()[12:]
    for name, direction, place in (("direction", Direction.TO_SOURCE, honest),
                                   ("stream", Direction.TO_DESTINATION, dataclasses.replace(honest, stream=0)),
                                   ("generation", Direction.TO_DESTINATION, dataclasses.replace(honest, generation=9))):
        yield f"MAC of another {name}", said + protocol.hello_mac(keys, direction, place, said)
    yield "zeros", bytes(protocol.OPEN_SIZE)
    yield "noise", os.urandom(protocol.OPEN_SIZE)
    yield "much noise", os.urandom(1 << 20)
    yield "another protocol", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".ljust(protocol.OPEN_SIZE)


def finishes_that_lie(schedule, opened, replied):
    honest = HelloPrefix(HelloKind.FINISH, 1, HelloPrefix.unpack(opened).generation)

    def lie(keys=schedule, answer=replied, **fields):
        return protocol.make_finish(keys, dataclasses.replace(honest, **fields), opened, answer, 0)

    return {
        "magic": lie(magic=b"SLFU"),
        "version": lie(version=2),
        "kind": lie(kind=HelloKind.REPLY),
        "stream": lie(stream=0),
        "generation": lie(generation=honest.generation + 1),
        "MAC flipped": flipped(lie(), -1),
        "next sequence changed after the MAC": flipped(lie(), 8 * 19),
        "another key": lie(keys=KeySchedule(schedule.spec, os.urandom(40))),
        "an answer to another reply": lie(answer=flipped(replied, 8 * 20)),
        "the reply reflected": replied[:protocol.FINISH_SIZE],
        "noise": os.urandom(protocol.FINISH_SIZE),
    }


def replies_that_lie(schedule, opened, recorded):
    """`recorded` is the reply to an earlier open."""
    honest = HelloPrefix(HelloKind.REPLY, 1, HelloPrefix.unpack(opened).generation)

    def lie(keys=schedule, answered=opened, **fields):
        return protocol.make_reply(keys, dataclasses.replace(honest, **fields), answered, 1)

    said = lie()[:-protocol.MAC_SIZE]
    mac_of_a_source = protocol.hello_mac(schedule, Direction.TO_DESTINATION, honest, opened + said)
    return {
        "magic": lie(magic=b"SLFU"),
        "version": lie(version=2),
        "kind": lie(kind=HelloKind.FINISH),
        "stream": lie(stream=0),
        "generation": lie(generation=honest.generation + 1),
        "MAC flipped": flipped(lie(), -1),
        "next sequence changed after the MAC": flipped(lie(), 8 * 35),
        "another key": lie(keys=KeySchedule(schedule.spec, os.urandom(40))),
        "a reply to another open": lie(answered=flipped(opened, 8 * 30)),
        "MAC of the other direction": said + mac_of_a_source,
        "a recorded reply": recorded,
        "the open reflected": opened,
        "zeros": bytes(protocol.REPLY_SIZE),
        "much noise": os.urandom(1 << 20),
    }


class ToADestination(cases.MigrationTest, cases.TestCase):
    mover_type = DestinationMover

    def refuse(self, migration, message):
        """The mover closes a new connection on which this was said, and says nothing."""
        with migration.peer.dial() as connection:
            with contextlib.suppress(ConnectionError):  # it may close in the midst of it
                connection.sendall(message)
            self.assertEqual(receive_to_end(connection), b"")

    def join_third_generation(self):
        """A migration whose stream 1 has its third connection."""
        migration = self.make()
        migration.rejoin(1)
        migration.rejoin(1)
        return migration

    def test_refuses_every_open_that_lies_and_does_not_disturb_the_stream(self):
        migration = self.join_third_generation()
        for name, message in opens_that_lie(migration):
            with self.subTest(name):
                self.refuse(migration, message)
                self.hear(migration, name.encode())
        self.assertEqual(migration.peer.generations[1], 3, "all over the one connection")
        self.say(migration, b"the way back was open all the time")
        self.finish_all(migration)

    def test_refuses_strangers_before_the_peer_comes(self):
        migration = DestinationMover(self.stage)
        for name, message in opens_that_lie(migration):
            if "generation" not in name:  # without a connection there is none of now, and no earlier one
                with self.subTest(name):
                    self.refuse(migration, message)
        migration.join_all()
        self.finish_all(migration)

    def test_refuses_a_recorded_open(self):
        migration = self.make()
        connection, recorded = migration.peer.open_hello(1)
        migration.peer.drop(1)
        migration.peer.finish_hello(connection, recorded)
        for _ in range(2):
            self.refuse(migration, recorded)
        self.hear(migration, b"undisturbed")
        migration.rejoin(1)
        self.refuse(migration, recorded)
        self.hear(migration, b"still undisturbed")
        self.finish_all(migration)

    def test_an_open_replayed_during_its_hello_gets_no_further_than_the_reply(self):
        migration = self.make()
        peer = migration.peer
        peer.drop(1)
        honest, opened = peer.open_hello(1)
        with peer.dial() as replay:
            replay.sendall(opened)
            answers = [receive_exactly(connection, protocol.REPLY_SIZE) for connection in (replay, honest)]
            self.assertNotEqual(answers[0], answers[1], "each hello has random bytes of its own")
            protocol.check_reply(migration.schedule, opened, answers[0])
            finish = protocol.make_finish(migration.schedule, HelloPrefix(HelloKind.FINISH, 1, peer.generations[1]),
                                          opened, answers[1], 0)
            honest.sendall(finish)
            peer.join(1, honest, peer.generations[1], 0)
            self.hear(migration, b"the honest connection")
            replay.sendall(finish)
            self.assertEqual(receive_to_end(replay), b"")
        self.hear(migration, b"goes on")
        self.finish_all(migration)

    def test_refuses_every_finish_that_lies(self):
        migration = self.make()
        names = finishes_that_lie(migration.schedule, bytes(protocol.OPEN_SIZE), bytes(protocol.REPLY_SIZE))
        for number, name in enumerate(names):
            connection, opened = migration.peer.open_hello(1)
            migration.peer.drop(1)
            with connection, self.subTest(name):
                replied = receive_exactly(connection, protocol.REPLY_SIZE)
                connection.sendall(finishes_that_lie(migration.schedule, opened, replied)[name])
                self.assertEqual(receive_to_end(connection), b"")
            self.assertEqual(migration.rejoin(1), number)
            self.hear(migration, name.encode())
        self.finish_all(migration)

    def test_refuses_an_impossible_next_sequence(self):
        migration = self.make()
        stream = migration.peer.streams[1]
        self.say(migration, b"12345678")
        said = stream.opener.next_sequence
        self.assertEqual(migration.rejoin(1), 0)  # and so the mover knows that all it said has arrived
        for claim in (said + 1, said - 1, LARGEST_U64):
            with self.subTest(claim):
                connection, opened = migration.peer.open_hello(1)
                migration.peer.drop(1)
                with connection:
                    replied = receive_exactly(connection, protocol.REPLY_SIZE)
                    prefix = HelloPrefix(HelloKind.FINISH, 1, migration.peer.generations[1])
                    connection.sendall(protocol.make_finish(migration.schedule, prefix, opened, replied, claim))
                    self.assertEqual(receive_to_end(connection), b"")
                self.refuse(migration, opened)
                migration.rejoin(1)
        self.say(migration, b"90")
        self.finish_all(migration)

    def test_an_open_that_ends_early_is_nothing(self):
        migration = self.make()
        place = HelloPrefix(HelloKind.OPEN, 1, migration.peer.generations[1] + 1)
        opened = protocol.make_open(migration.schedule, place, migration.schedule.spec.id)
        for size in (0, 1, 12, protocol.OPEN_SIZE - 1):
            with self.subTest(size), migration.peer.dial() as connection:
                connection.sendall(opened[:size])
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_to_end(connection), b"")
        self.hear(migration, b"undisturbed")
        self.finish_all(migration)

    def test_takes_a_hello_in_pieces_and_records_right_behind_it(self):
        migration = self.make()
        peer, stream = migration.peer, migration.peer.streams[1]
        peer.drop(1)
        peer.generations[1] += 1
        place = HelloPrefix(HelloKind.OPEN, 1, peer.generations[1])
        opened = protocol.make_open(migration.schedule, place, migration.schedule.spec.id)
        connection = peer.dial()
        for byte in opened:
            connection.sendall(bytes([byte]))
        replied = receive_exactly(connection, protocol.REPLY_SIZE)
        finish = protocol.make_finish(migration.schedule, dataclasses.replace(place, kind=HelloKind.FINISH), opened,
                                      replied, 0)
        stream.attach(peer.generations[1], protocol.check_reply(migration.schedule, opened, replied))
        stream.write(b"in one piece")
        connection.sendall(finish + stream.outgoing())
        stream.sent(len(stream.outgoing()))
        self.assertEqual(migration.read_channel(1, 12), b"in one piece")
        peer.connections[1] = connection
        self.finish_all(migration)

    def test_closes_hellos_that_take_too_long(self):
        migration = self.make()
        migration.peer.drop(1)
        started = time.monotonic()
        half, stalled = migration.peer.dial(), migration.peer.open_hello(1)[0]
        with half, stalled:
            half.sendall(b"SLFT\1\1")
            receive_exactly(stalled, protocol.REPLY_SIZE)
            for connection in (half, stalled):
                self.assertEqual(receive_to_end(connection), b"")
                self.assertGreater(time.monotonic() - started, HELLO_SECONDS - 0.5)
        self.assertLess(time.monotonic() - started, HELLO_SECONDS + 5)
        migration.rejoin(1)
        self.hear(migration, b"in time")
        self.finish_all(migration)

    def test_many_silent_connections_keep_nobody_out(self):
        migration = self.make()
        with contextlib.ExitStack() as silent:
            started = time.monotonic()
            dialled = [silent.enter_context(migration.peer.dial()) for _ in range(HELLOS_UNDER_WAY + 1)]
            closed = select.select(dialled, [], [], HELLO_SECONDS)[0]
            self.assertEqual([receive_to_end(each) for each in closed], [b""], "one makes room")
            self.assertLess(time.monotonic() - started, HELLO_SECONDS - 0.5)
            migration.rejoin(1)
            self.hear(migration, b"let in")
        self.finish_all(migration)


class FromASource(cases.MigrationTest, cases.TestCase):
    mover_type = SourceMover

    def test_finishes_no_hello_with_a_reply_that_lies(self):
        migration = self.make()
        self.hear(migration, b"before all lies")
        migration.peer.drop(1)
        connection, opened = migration.peer.take_open()
        recorded = protocol.make_reply(migration.schedule, HelloPrefix(HelloKind.REPLY, 1, 2), opened, 0)
        connection.close()
        for number, name in enumerate(replies_that_lie(migration.schedule, opened, recorded)):
            connection, opened = migration.peer.take_open()
            with connection, self.subTest(name):
                with contextlib.suppress(ConnectionError):
                    connection.sendall(replies_that_lie(migration.schedule, opened, recorded)[name])
                self.assertEqual(receive_to_end(connection), b"")
                self.assertEqual(HelloPrefix.unpack(opened).generation, 3 + number)
        migration.rejoin(1)
        self.hear(migration, b"after all lies")
        self.say(migration, b"and back")
        self.finish_all(migration)

    def test_goes_on_with_no_impossible_next_sequence(self):
        migration = self.make()
        self.say(migration, b"one record, or more")
        said = migration.peer.streams[1].opener.next_sequence
        migration.peer.drop(1)
        migration.rejoin(1)  # and so the mover knows that all it said has arrived
        migration.peer.drop(1)
        for claim in (said + 1, said - 1, LARGEST_U64):
            with self.subTest(claim):
                connection, opened = migration.peer.take_open()
                with connection:
                    place = HelloPrefix(HelloKind.REPLY, 1, HelloPrefix.unpack(opened).generation)
                    connection.sendall(protocol.make_reply(migration.schedule, place, opened, claim))
                    self.assertEqual(len(receive_to_end(connection)), protocol.FINISH_SIZE)
        migration.rejoin(1)
        self.say(migration, b"more")
        self.finish_all(migration)

    def test_gives_up_a_hello_that_gets_no_reply(self):
        migration = self.make()
        migration.peer.drop(1)
        connection, _ = migration.peer.take_open()
        started = time.monotonic()
        with connection:
            connection.sendall(b"SLFT\1\2")
            self.assertEqual(receive_to_end(connection), b"")
        self.assertGreater(time.monotonic() - started, HELLO_SECONDS - 0.5)
        self.assertLess(time.monotonic() - started, HELLO_SECONDS + 5)
        migration.rejoin(1)
        self.hear(migration, b"in time")
        self.finish_all(migration)


if __name__ == "__main__":
    cases.main()
