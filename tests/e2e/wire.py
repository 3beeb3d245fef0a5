"""A capture of what crosses the wire, searched while it comes in."""

import re
import subprocess
import threading

_CHUNK = 1 << 20


class Capture:
    """Watches an interface with tcpdump until stop(), and looks for `needle` in everything seen.

    A needle split between two packets is not found: look for something that is there many times.
    """

    def __init__(self, place, interface, needle):
        self.found = False
        self.bytes = 0
        self.dropped_packets = 0
        self._needle = needle
        self._tcpdump = subprocess.Popen(
            place.command(["tcpdump", "-i", interface, "-n", "-s", "0", "-B", "786432", "-U", "-w", "-"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # tcpdump says "listening on" when it sees packets.
        line = self._tcpdump.stderr.readline().decode()
        if "listening on" not in line:
            raise RuntimeError(f"tcpdump on {interface}: {line.strip()}")

    def _read(self):
        tail = b""
        while chunk := self._tcpdump.stdout.read1(_CHUNK):
            self.bytes += len(chunk)
            window = tail + chunk
            self.found = self.found or self._needle in window
            tail = window[1 - len(self._needle):]

    def stop(self):
        self._tcpdump.terminate()
        self._reader.join()
        summary = self._tcpdump.stderr.read().decode()
        self._tcpdump.wait()
        dropped = re.search(r"(\d+) packets dropped by kernel", summary)
        self.dropped_packets = int(dropped.group(1)) if dropped else 0
        return self
