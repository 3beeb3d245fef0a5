"""Sees from outside which host a guest runs on: its datagrams (tests/guest/beacon.c, one every 2 ms) are taken at the
switch, at the port of each host, with the kernel's time of arrival."""

import ctypes
import dataclasses
import socket
import struct

from cases import NotIntact

_LISTEN = """
import socket, sys
taps = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in sys.argv[1:]]
for tap, port in zip(taps, sys.argv[1:]):
    tap.bind((port, 0))
socket.send_fds(socket.socket(fileno=0), [b"."], [tap.fileno() for tap in taps])
"""
_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_PACKET_OUTGOING = 4
_BUFFER_BYTES = 256 << 20
_HEADERS = 14 + 20 + 8  # Ethernet, IPv4 without options, UDP
_BEACON = struct.Struct("<QQQ")


@dataclasses.dataclass(frozen=True)
class Beacon:
    """One datagram: seen at `time` (time.time()) on its way from `host`."""
    time: float
    host: str
    sequence: int
    loops: int


class Listener:
    """Collects the beacons for a UDP port from the moment it is made. Nothing runs meanwhile: the kernel keeps them."""

    def __init__(self, stage, network, udp_port):
        self._hosts = list(network.hosts)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ports = [network.port(place) for place in network.hosts.values()]
            child = stage.start_piped(f"beacons-{udp_port}",
                                      network.switch.command(["/usr/bin/python3", "-c", _LISTEN, *ports]), theirs)
            child.wait(20)
            _, fds, _, _ = socket.recv_fds(ours, 1, len(ports))
        self._taps = [socket.socket(fileno=fd) for fd in fds]
        for tap in self._taps:
            tap.setblocking(False)
            tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            _attach_filter(tap, udp_port)
        for tap, port in zip(self._taps, ports):
            tap.bind((port, _ETH_P_ALL))

    def close(self):
        for tap in self._taps:
            tap.close()

    def take(self):
        """All beacons since the last take, in the order of their arrival."""
        beacons = []
        for host, tap in zip(self._hosts, self._taps):
            beacons += _drain(tap, host)
        return sorted(beacons, key=lambda beacon: beacon.time)


def _drain(tap, host):
    while True:
        try:
            frame, control, _, (_, _, kind, _, _) = tap.recvmsg(256, 64)
        except BlockingIOError:
            return
        if kind != _PACKET_OUTGOING and len(frame) >= _HEADERS + _BEACON.size:
            sequence, loops, _ = _BEACON.unpack_from(frame, _HEADERS)
            yield Beacon(_arrival(control), host, sequence, loops)


def _arrival(control):
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data)
            return seconds + nanoseconds / 1e9
    raise RuntimeError("the kernel gives no time of arrival")


def _attach_filter(tap, udp_port):
    """Lets only IPv4 UDP to that port in: guest memory that passes the switch must not land in our buffers."""
    program = [(0x28, 0, 0, 12), (0x15, 0, 6, 0x0800),  # EtherType IPv4
               (0x30, 0, 0, 23), (0x15, 0, 4, 17),  # protocol UDP
               (0xb1, 0, 0, 14), (0x48, 0, 0, 16), (0x15, 0, 1, udp_port),  # its destination port
               (0x6, 0, 0, 0xFFFF), (0x6, 0, 0, 0)]  # take it; drop it
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    # struct sock_fprog; setsockopt copies the program before it returns.
    tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                   struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))


@dataclasses.dataclass(frozen=True)
class SwitchOver:
    """How a guest's change of hosts looked from outside."""
    running_at: float  # its first sign of life at the destination
    downtime_ms: float  # from its last at the source, less the usual time between two
    longest_silence_ms: float  # in the whole move
    work_lost: float  # share of the loops it would have done undisturbed


def usual_gap(beacons):
    """Median time between two beacons, in seconds."""
    gaps = sorted(after.time - before.time for before, after in zip(beacons, beacons[1:]))
    return gaps[len(gaps) // 2]


def loops_per_second(beacons):
    first, last = beacons[0], beacons[-1]
    return (last.loops - first.loops) / (last.time - first.time)


def judge(undisturbed, during, source, destination):
    """The SwitchOver in `during`, the beacons from the command to migrate on. Fails if the guest ran on both hosts at
    once, and so used a number twice, or was not seen on one of them."""
    before = [beacon for beacon in during if beacon.host == source]
    after = [beacon for beacon in during if beacon.host == destination]
    if not before or not after:
        raise RuntimeError(f"beacons of the guest: {len(before)} from {source}, {len(after)} from {destination}")
    if before[-1].sequence >= after[0].sequence:
        raise NotIntact("the guest ran on both hosts at once")
    gap = usual_gap(undisturbed)
    moved = before + after[:1]
    rate = loops_per_second(undisturbed)
    return SwitchOver(
        running_at=after[0].time,
        downtime_ms=max(0.0, after[0].time - before[-1].time - gap) * 1000,
        longest_silence_ms=max(b.time - a.time for a, b in zip(moved, moved[1:])) * 1000,
        work_lost=max(0.0, 1 - loops_per_second(moved) / rate))
