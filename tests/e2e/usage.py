"""What a process uses of its machine."""

import pathlib


class Usage:
    """The most that a process was seen to use."""

    def __init__(self, pid):
        self._proc = pathlib.Path(f"/proc/{pid}")
        self.descriptors = 0
        self.resident_kib = 0

    def look(self):
        self.descriptors = max(self.descriptors, len(list((self._proc / "fd").iterdir())))
        status = (self._proc / "status").read_text()
        # Its own memory: a mover maps the guest's, too, which grows while it is received.
        own = int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])
        self.resident_kib = max(self.resident_kib, own)
        return self
