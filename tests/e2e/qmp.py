"""A small QMP client for tests: one command at a time, events kept until they are asked for."""

import json
import socket
import time


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    """Speaks QMP over the connected socket `connection`, which it owns."""

    def __init__(self, connection, timeout=30):
        self._connection = connection
        self._timeout = timeout
        self._received = b""
        self._events = []
        self._next(time.monotonic() + timeout)  # the greeting
        self.command("qmp_capabilities")

    @classmethod
    def connect(cls, path, timeout=30):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return cls(connection, timeout)

    def close(self):
        self._connection.close()

    def command(self, name, **arguments):
        """Runs a command and returns what it returns. In argument names _ stands for -."""
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        request = {"execute": name, "arguments": arguments}
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        deadline = time.monotonic() + self._timeout
        while "event" in (reply := self._next(deadline)):
            self._events.append(reply)
        if "error" in reply:
            raise QmpError(f"{name}: {reply['error']['desc']}")
        return reply["return"]

    def wait_event(self, name, timeout, **data):
        """The first event of that name not yet returned whose data has at least the values `data`.
        Earlier events of other kinds are kept, in their order."""
        deadline = time.monotonic() + timeout
        for index, event in enumerate(self._events):
            if _matches(event, name, data):
                return self._events.pop(index)
        while not _matches(event := self._next(deadline), name, data):
            self._events.append(event)
        return event

    def _next(self, deadline):
        while b"\n" not in self._received:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionError("QEMU closed the QMP connection")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        return json.loads(line)


def _matches(event, name, data):
    return event["event"] == name and data.items() <= event.get("data", {}).items()
