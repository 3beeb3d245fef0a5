"""One side of a migration on real sockets: PeerSource makes the connections, PeerDestination takes them."""

import contextlib
import select
import socket
import time

import sealift_protocol as protocol
from sealift_protocol import Direction, HelloKind, HelloPrefix
from sealift_stream import Stream

PATIENCE = 20  # seconds; who waits so long has failed
_CHUNK = 1 << 18


def receive_exactly(connection, size):
    """`size` bytes, or ConnectionError when the connection ends before."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"closed after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def receive_to_end(connection):
    """Everything until the peer closes, whether orderly or by a reset. TimeoutError if it does not close."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(_CHUNK):
            data += piece
    return bytes(data)


def reset(connection):
    """Closes a connection without ceremony: the peer sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


class Peer:
    """All streams of one side. pump() moves bytes; a connection that ends early is an error there."""

    def __init__(self, schedule, sending):
        self.schedule = schedule
        self.streams = [Stream(schedule, number, sending) for number in range(schedule.spec.streams + 1)]
        self.generations = [0] * len(self.streams)  # last used
        self.connections = {}

    def close(self):
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()

    def drop(self, number, how=socket.socket.close):
        """Ends the connection of a stream from this side."""
        self.streams[number].detach()
        how(self.connections.pop(number))

    def join(self, number, connection, generation, peer_next):
        if number in self.connections:
            self.drop(number)
        self.generations[number] = generation
        self.streams[number].attach(generation, peer_next)
        self.connections[number] = connection

    @property
    def ended(self):
        return all(stream.ended for stream in self.streams)

    def pump(self, until, timeout=PATIENCE):
        """Reads and writes until until() is true."""
        deadline = time.monotonic() + timeout
        while not until():
            self._step(deadline)

    def _step(self, deadline):
        writers = [number for number in self.connections if self.streams[number].outgoing()]
        sockets = {connection: number for number, connection in self.connections.items()}
        ready, writable, _ = select.select(list(sockets) + self._listeners(),
                                           [self.connections[number] for number in writers], [],
                                           max(0, deadline - time.monotonic()))
        if not ready and not writable:
            raise TimeoutError("the peer does not do what the test waits for")
        for connection in writable:
            self._write(sockets[connection], connection)
        for connection in ready:
            if connection in sockets:
                self._read(sockets[connection], connection)
            else:
                self.accept()

    def _listeners(self):
        return []

    def _write(self, number, connection):
        stream = self.streams[number]
        stream.sent(connection.send(stream.outgoing()[:_CHUNK], socket.MSG_DONTWAIT))

    def _read(self, number, connection):
        if self.connections.get(number) is not connection:
            return  # replaced in this very round
        data = connection.recv(_CHUNK)
        if data:
            self.streams[number].received(data)
            return
        self.drop(number)
        if not self.streams[number].ended:
            raise ConnectionError(f"the mover closed stream {number}")


class PeerSource(Peer):
    def __init__(self, schedule, address):
        super().__init__(schedule, Direction.TO_DESTINATION)
        self.address = address

    def dial(self):
        connection = socket.create_connection(self.address, PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def open_hello(self, number):
        """A connection of the stream's next generation on which the open was sent, and the open."""
        self.generations[number] += 1
        opened = protocol.make_open(self.schedule, HelloPrefix(HelloKind.OPEN, number, self.generations[number]),
                                    self.schedule.spec.id)
        connection = self.dial()
        connection.sendall(opened)
        return connection, opened

    def finish_hello(self, connection, opened):
        """Checks the reply, sends the finish and lets the stream go on here. Returns what the reply expects next."""
        replied = receive_exactly(connection, protocol.REPLY_SIZE)
        peer_next = protocol.check_reply(self.schedule, opened, replied)
        prefix = HelloPrefix.unpack(opened)
        stream = self.streams[prefix.stream]
        finish = HelloPrefix(HelloKind.FINISH, prefix.stream, prefix.generation)
        connection.sendall(protocol.make_finish(self.schedule, finish, opened, replied, stream.opener.next_sequence))
        self.join(prefix.stream, connection, prefix.generation, peer_next)
        return peer_next

    def connect(self, number):
        return self.finish_hello(*self.open_hello(number))

    def connect_all(self):
        for number in range(len(self.streams)):
            self.connect(number)


class PeerDestination(Peer):
    def __init__(self, schedule):
        super().__init__(schedule, Direction.TO_SOURCE)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.settimeout(PATIENCE)
        self.address = self.listener.getsockname()

    def close(self):
        super().close()
        self.listener.close()

    def _listeners(self):
        return [self.listener]

    def take_open(self):
        """The next connection, and the open that came on it, checked."""
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened = receive_exactly(connection, protocol.OPEN_SIZE)
        prefix = protocol.check_open(self.schedule, opened)
        if prefix.generation <= self.generations[prefix.stream]:
            raise protocol.Rejected(f"generation {prefix.generation} of stream {prefix.stream} was used before")
        return connection, opened

    def answer(self, connection, opened):
        """Replies, checks the finish and lets the stream go on here. Returns the stream and what the finish
        expects next."""
        prefix = HelloPrefix.unpack(opened)
        if prefix.stream in self.connections:
            self.drop(prefix.stream)
        replied = protocol.make_reply(self.schedule, HelloPrefix(HelloKind.REPLY, prefix.stream, prefix.generation),
                                      opened, self.streams[prefix.stream].opener.next_sequence)
        connection.sendall(replied)
        finished = receive_exactly(connection, protocol.FINISH_SIZE)
        peer_next = protocol.check_finish(self.schedule, opened, replied, finished)
        self.join(prefix.stream, connection, prefix.generation, peer_next)
        return prefix.stream, peer_next

    def accept(self):
        return self.answer(*self.take_open())

    def accept_all(self):
        while len(self.connections) < len(self.streams):
            self.accept()
