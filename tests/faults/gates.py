"""The moments at which a gated agent (gated_agent.cc) can be held: before and after each durable step of a migration."""

import contextlib
import socket
import threading

STEPS = ("receiving", "delegated", "ready", "committed", "owned", "released", "resumed", "aborted", "dropped")


class Gates:
    """Lets every agent that uses it pass, except at the one point that is held. `path` is where it listens."""

    def __init__(self, path):
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._changed = threading.Condition()
        self._held = None  # the point
        self._holding = None  # the connection of who has arrived there
        self.passed = []  # points, in the order in which they were reached
        threading.Thread(target=self._serve, daemon=True).start()

    def hold(self, point):
        """From now on the first to arrive at `point` waits there until release()."""
        with self._changed:
            self._held = point

    def wait_reached(self, timeout):
        """Whether somebody waits at the point."""
        with self._changed:
            return self._changed.wait_for(lambda: self._holding is not None, timeout)

    def release(self):
        """Lets who waits go on, if it still exists; nobody is held any more."""
        with self._changed:
            self._held = None
            if self._holding is not None:
                _let_pass(self._holding)
            self._holding = None

    def forget(self):
        """Empties `passed`."""
        with self._changed:
            self.passed = []

    def close(self):
        # shutdown, because a close does not wake the thread in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A frozen agent connects and says nothing yet: others must not wait for it.
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection):
        try:
            point = connection.recv(64).decode("ascii")
        except OSError:
            point = ""
        with self._changed:
            self.passed.append(point)
            if point == self._held and self._holding is None:
                self._holding = connection
                self._changed.notify_all()
                return
        _let_pass(connection)


def _let_pass(connection):
    with contextlib.suppress(OSError):
        connection.send(b".")
    connection.close()
