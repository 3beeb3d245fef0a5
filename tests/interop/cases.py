"""What the tests of a migration share, whichever side the real mover is."""

import random
import socket

from mover_process import harness
from sealift_peer import receive_to_end
from sealift_protocol import Protection

MEGABYTE = 1 << 20


def text(size, seed):
    """Bytes without short periods, so that a piece out of place shows."""
    return random.Random(seed).randbytes(size)


class MigrationTest:
    """A mixin. `mover_type` is DestinationMover or SourceMover."""

    def make(self, streams=1, protection=Protection.SEALED):
        """A migration whose streams are all connected."""
        migration = self.mover_type(self.stage, streams, protection)
        migration.join_all()
        return migration

    def hear(self, migration, data, number=1):
        """The peer says `data` on a stream, and it comes out at the mover's program."""
        stream = migration.peer.streams[number]
        stream.write(data)
        migration.peer.pump(lambda: not stream.outgoing())
        self.assertEqual(migration.read_channel(number, len(data)), data)

    def say(self, migration, data, number=1):
        """The mover's program says `data` on a stream, and the peer gets it."""
        stream = migration.peer.streams[number]
        had = stream.data
        migration.channel(number).sendall(data)
        migration.peer.pump(lambda: len(stream.data) >= len(had) + len(data))
        self.assertEqual(stream.data, had + data)

    def end(self, migration):
        """Ends the control stream, the last one."""
        migration.control.shutdown(socket.SHUT_WR)
        migration.peer.streams[0].end()
        migration.peer.pump(lambda: migration.peer.ended)
        self.assertEqual(migration.control.recv(1), b"", "the final of stream 0 is an end of file for the agent")

    def end_all(self, migration):
        """Ends the data streams, on which nothing more may come either way, and then the control stream."""
        streams = migration.peer.streams[1:]
        had = [stream.data for stream in streams]
        for stream in streams:
            migration.channel(stream.number).shutdown(socket.SHUT_WR)
            stream.end()
        migration.peer.pump(lambda: all(stream.ended for stream in streams))
        self.assertEqual([stream.data for stream in streams], had)
        for stream in streams:
            self.assertEqual(receive_to_end(migration.channel(stream.number)), b"")
        self.end(migration)

    def finish(self, migration):
        self.end(migration)
        migration.mover.wait_for_end()

    def finish_all(self, migration):
        self.end_all(migration)
        migration.mover.wait_for_end()


main = harness.main
TestCase = harness.TestCase
