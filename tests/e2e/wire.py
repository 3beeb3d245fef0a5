"""A capture of what crosses the wire, searched while it comes in, and the TCP connections in one that was kept."""

import pathlib
import re
import struct
import subprocess
import threading

_CHUNK = 1 << 20


class Capture:
    """Watches an interface with tcpdump until stop(), and looks for `needle` in everything seen.

    A needle split between two packets is not found: look for something that is there many times. What was seen is
    also written to the file `keep`, if there is one.
    """

    def __init__(self, place, interface, needle, keep=None):
        self.found = False
        self.bytes = 0
        self.dropped_packets = 0
        self._needle = needle
        self._kept = open(keep, "wb") if keep else None
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
            if self._kept:
                self._kept.write(chunk)
            window = tail + chunk
            self.found = self.found or self._needle in window
            tail = window[1 - len(self._needle):]

    def stop(self):
        self._tcpdump.terminate()
        self._reader.join()
        if self._kept:
            self._kept.close()
        summary = self._tcpdump.stderr.read().decode()
        self._tcpdump.wait()
        dropped = re.search(r"(\d+) packets dropped by kernel", summary)
        self.dropped_packets = int(dropped.group(1)) if dropped else 0
        return self


def tcp_flows(file):
    """{(source address, source port, destination address, destination port): bytes} of every TCP connection of a
    capture, one direction each, from the first packet seen up to the first gap."""
    parts = {}  # flow -> {sequence relative to the first byte: bytes}
    first = {}
    for packet in _packets(pathlib.Path(file).read_bytes()):
        segment = _tcp_segment(packet)
        if segment is None:
            continue
        flow, sequence, syn, payload = segment
        first.setdefault(flow, (sequence + 1) & 0xFFFFFFFF if syn else sequence)
        if payload:
            parts.setdefault(flow, {}).setdefault((sequence - first[flow]) & 0xFFFFFFFF, payload)
    return {flow: _joined(pieces) for flow, pieces in parts.items()}


def _packets(capture):
    """The packets of a file in the format of pcap-savefile(5), in the byte order of this machine."""
    at = 24
    while at + 16 <= len(capture):
        size = struct.unpack_from("=I", capture, at + 8)[0]
        yield capture[at + 16:at + 16 + size]
        at += 16 + size


def _tcp_segment(packet):
    """The flow, the sequence number, whether it begins the flow, and the payload of a TCP packet over IPv4."""
    if packet[12:14] != b"\x08\x00" or packet[23] != 6:
        return None
    header = 14 + (packet[14] & 15) * 4
    total = struct.unpack_from(">H", packet, 16)[0] or len(packet) - 14  # 0: too large for the field, offloaded
    source, destination, sequence = struct.unpack_from(">HHI", packet, header)
    begin = header + (packet[header + 12] >> 4) * 4
    address = [".".join(map(str, packet[at:at + 4])) for at in (26, 30)]
    return (address[0], source, address[1], destination), sequence, packet[header + 13] & 2, packet[begin:14 + total]


def _joined(pieces):
    data = bytearray()
    for at in sorted(pieces):
        if at > len(data):
            break
        data += pieces[at][len(data) - at:]
    return bytes(data)
