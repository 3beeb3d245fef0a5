"""The real sealift-mover, with the test in the place of its agent and of QEMU."""

import contextlib
import ctypes
import json
import os
import pathlib
import queue
import socket
import sys
import threading

import hpke
import sealift_protocol as protocol
from sealift_peer import PATIENCE, PeerDestination, PeerSource, receive_exactly

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # noqa: E402

SOURCE, DESTINATION = 1, 2
_LARGEST_MESSAGE = 1 << 17


def _socket_of(pid, number):
    """A descriptor of another process, as a socket of ours (pidfd_getfd(2))."""
    pidfd_getfd = 438
    pidfd = os.pidfd_open(pid)
    try:
        found = ctypes.CDLL(None, use_errno=True).syscall(pidfd_getfd, pidfd, number, 0)
    finally:
        os.close(pidfd)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"pidfd_getfd {pid} {number}")
    return socket.socket(fileno=found)


class MoverProcess:
    """A mover and its agent's end of the socket between them (src/mover/control.h). Requests for connections are
    answered by dial(), a function that returns a socket or None."""

    def __init__(self, stage, dial=None):
        self._agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stage.addCleanup(self._agent.close)
        self._their_number = theirs.fileno()
        with theirs:
            self.process = stage.start("mover", [harness.binary("sealift-mover"), theirs.fileno()],
                                       pass_fds=[theirs.fileno()])
        self._dial = dial
        self._messages = queue.SimpleQueue()
        self.claims = []  # (stream, generation) of each request for a connection
        self._awake = threading.Event()
        self._awake.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        stage.addCleanup(self._stop_reading)
        self._public_key = bytes.fromhex(self.wait_for("offer")["public_key"])

    def begin(self, role, schedule, descriptors, memory=()):
        """`memory` is the guest memory of a destination that takes pages: memory files."""
        spec = schedule.spec
        sealed_key = hpke.seal(self._public_key, spec.hash(), schedule.key)
        self._send({"type": "start", "role": role, "id": spec.id.hex(), "vm": spec.vm, "source": spec.source,
                    "destination": spec.destination, "protection": spec.protection, "engine": spec.engine,
                    "streams": spec.streams, "sealed_key": sealed_key.hex(),
                    "blocks": [{"size": os.fstat(file.fileno()).st_size, "address": 0} for file in memory],
                    "reconnect_seconds": PATIENCE},
                   [*descriptors, *memory])

    def wait_for(self, kind):
        """The next message, which must be of this type. Counters and requests for connections do not count."""
        message = self._messages.get(timeout=PATIENCE)
        if message["type"] != kind:
            raise AssertionError(f"the mover says {message} instead of '{kind}'\n{self.process.output()}")
        return message

    def wait_for_end(self):
        """Waits until the mover says that all has ended, and ends itself, without an error."""
        self.wait_for("ended")
        if status := self.process.wait(PATIENCE):
            raise AssertionError(f"the mover ended with status {status}")

    @contextlib.contextmanager
    def hanging_agent(self):
        """The agent reads nothing meanwhile, and the mover has nowhere to put its messages."""
        self._awake.clear()
        try:
            with _socket_of(self.process.pid, self._their_number) as theirs:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        theirs.send(json.dumps({"type": "counters"}).encode(), socket.MSG_DONTWAIT)
            yield
        finally:
            self._awake.set()

    def _stop_reading(self):
        self._agent.shutdown(socket.SHUT_RDWR)
        self._reader.join()

    def _send(self, message, descriptors=()):
        socket.send_fds(self._agent, [json.dumps(message).encode()], [each.fileno() for each in descriptors])

    def _read(self):
        try:
            while message := self._agent.recv(_LARGEST_MESSAGE):
                self._awake.wait()
                self._take(json.loads(message))
            self._messages.put({"type": "end of file"})
        except OSError as error:
            self._messages.put({"type": "broken", "reason": str(error)})

    def _take(self, message):
        if message["type"] == "connect":
            self._answer(message["stream"], message["generation"])
        elif message["type"] != "counters":
            self._messages.put(message)

    def _answer(self, stream, generation):
        self.claims.append((stream, generation))
        place = {"stream": stream, "generation": generation}
        connection = self._dial()
        if connection is None:
            self._send({"type": "connection_failed", **place})
            return
        with connection:
            self._send({"type": "connection", **place}, [connection])


class Program:
    """Plays QEMU at one channel: writes `data`, closes its writing half and reads to the end, at the same time."""

    def __init__(self, channel, data=b""):
        self._channel = channel
        self._data = data
        self._received = bytearray()
        self._errors = []
        self._threads = [threading.Thread(target=self._guarded, args=(part,), daemon=True)
                         for part in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def _guarded(self, part):
        try:
            part()
        except OSError as error:
            self._errors.append(error)

    def _write(self):
        self._channel.sendall(self._data)
        self._channel.shutdown(socket.SHUT_WR)

    def _read(self):
        while piece := self._channel.recv(1 << 18):
            self._received += piece

    def received(self):
        """Everything until the end of file, which must come."""
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._errors or any(thread.is_alive() for thread in self._threads):
            raise AssertionError(f"a channel did not come to its end: {self._errors}")
        return bytes(self._received)


def _patient(sock):
    sock.settimeout(PATIENCE)
    return sock


class _Migration:
    """A mover with one end of each of its local channels: `control` (stream 0, datagrams), and channel(n) of
    stream n. `peer` is the test's own side of the migration."""

    def __init__(self, stage, streams, protection, engine=protocol.Engine.STREAM):
        self.schedule = protocol.KeySchedule(
            protocol.Spec(os.urandom(16), streams=streams, protection=protection, engine=engine), os.urandom(40))
        self._sockets = []
        self._channels = {}
        stage.addCleanup(self._close)
        self.control, self._theirs_of_control = self._pair(socket.SOCK_SEQPACKET)

    def _pair(self, kind):
        pair = socket.socketpair(socket.AF_UNIX, kind)
        self._sockets += pair
        return [_patient(end) for end in pair]

    def channel(self, number):
        return self._channels[number]

    def read_channel(self, number, size):
        return receive_exactly(self._channels[number], size)

    def rejoin(self, number):
        """The next connection of one stream; returns what the mover says it expects next."""
        return self.rejoin_each([number])[number]

    def _close(self):
        # A thread that waits in one of them wakes up.
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


class DestinationMover(_Migration):
    """The mover is the destination, `peer` a PeerSource. With `memory`, memory files of guest RAM, the engine is
    direct, and only stream 1 has a channel."""

    def __init__(self, stage, streams=1, protection=protocol.Protection.SEALED, memory=()):
        super().__init__(stage, streams, protection, protocol.Engine.DIRECT if memory else protocol.Engine.STREAM)
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self.peer = PeerSource(self.schedule, listener.getsockname())
        stage.addCleanup(self.peer.close)
        self.mover = MoverProcess(stage)
        theirs = []
        for number in range(1, 2 if memory else streams + 1):
            self._channels[number], end = self._pair(socket.SOCK_STREAM)
            theirs.append(end)
        self.mover.begin(DESTINATION, self.schedule, [self._theirs_of_control, listener, *theirs], memory)
        for end in [listener, self._theirs_of_control, *theirs]:
            end.close()

    def rejoin_each(self, numbers):
        """Makes the next connection of these streams; returns what the mover says it expects next on each."""
        return {number: self.peer.connect(number) for number in numbers}

    def join_all(self):
        self.peer.connect_all()
        self.mover.wait_for("established")


class SourceMover(_Migration):
    """The mover is the source, `peer` a PeerDestination; its agent can be cut off from it with `reachable`."""

    def __init__(self, stage, streams=1, protection=protocol.Protection.SEALED):
        super().__init__(stage, streams, protection)
        self.reachable = True
        self.peer = PeerDestination(self.schedule)
        stage.addCleanup(self.peer.close)
        path = str(stage.dir / "channels")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(streams)
        self.mover = MoverProcess(stage, self._dial)
        self.mover.begin(SOURCE, self.schedule, [self._theirs_of_control, listener])
        listener.close()
        self._theirs_of_control.close()
        for number in range(1, streams + 1):
            channel = socket.socket(socket.AF_UNIX)
            self._sockets.append(_patient(channel))
            channel.connect(path)
            self._channels[number] = channel
        os.unlink(path)

    def _dial(self):
        return socket.create_connection(self.peer.address, PATIENCE) if self.reachable else None

    def rejoin_each(self, numbers):
        """Takes the next connection of these streams; returns what the mover says it expects next on each."""
        joined = dict(self.peer.accept() for _ in numbers)
        if set(joined) != set(numbers):
            raise AssertionError(f"streams {list(joined)} came back, {list(numbers)} were lost")
        return joined

    def join_all(self):
        self.peer.accept_all()
        self.mover.wait_for("established")
