"""Sees from outside which host a guest runs on: its datagrams (tests/guest/beacon.c, one every 2 ms) are taken on their
way, with the kernel's time of arrival."""

import ctypes
import dataclasses
import socket
import struct

from network import UPLINK

_libc = ctypes.CDLL(None, use_errno=True)
_OPEN = """
import socket
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
socket.send_fds(socket.socket(fileno=0), [b"."], [tap.fileno()])
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

    def __init__(self, stage, udp_port, taps):
        """`taps` are (host, place, device): what passes the device in that place, any if it is "", comes from that
        host."""
        self._taps = [(host, _open_tap(stage, place, f"beacons-{udp_port}-{host}", device, udp_port))
                      for host, place, device in taps]

    def close(self):
        for _, tap in self._taps:
            tap.close()

    def take(self):
        """All beacons since the last take, in the order of their arrival."""
        beacons = []
        for host, tap in self._taps:
            beacons += _drain(tap, host)
        return sorted(beacons, key=lambda beacon: beacon.time)


def at_the_switch(stage, network, udp_port):
    """A Listener for what arrives at the switch."""
    return Listener(stage, udp_port, [(host, network.switch, network.port(place))
                                      for host, place in network.hosts.items()])


def at_the_guests(stage, network, udp_port):
    """A Listener for what leaves the guests, whether it gets off their host or not."""
    return Listener(stage, udp_port, [(host, place, "") for host, place in network.hosts.items()])


def _open_tap(stage, place, name, device, udp_port):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = stage.start_piped(name, place.command(["/usr/bin/python3", "-c", _OPEN]), theirs)
        child.wait(20)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    tap = socket.socket(fileno=fd)
    tap.setblocking(False)
    tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    _attach_filter(tap, udp_port)
    _bind(tap, device)
    return tap


def _bind(tap, device):
    if device:
        tap.bind((device, _ETH_P_ALL))
        return
    # Python knows no name for any device; struct sockaddr_ll does: the index 0.
    address = struct.pack("HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b"")
    if _libc.bind(tap.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), "bind to any device")


def _drain(tap, host):
    while True:
        try:
            frame, control, _, (device, _, kind, _, _) = tap.recvmsg(256, 64)
        except BlockingIOError:
            return
        if kind != _PACKET_OUTGOING and device != UPLINK and len(frame) >= _HEADERS + _BEACON.size:
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
