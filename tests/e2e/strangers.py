#!/usr/bin/python3
"""Connections that are no calls. Run where the servers can be reached; prints what became of them as JSON.

  strangers.py garbage HOST PORT IDENTITY    what is no HTTP/2, after a good TLS handshake with a certificate
  strangers.py dribble HOST:PORT...          handshakes of a byte now and then, which never end
  strangers.py flood HOST PORT COUNT         so many connections, and on until the standard input ends
"""

import collections
import json
import os
import select
import socket
import ssl
import struct
import sys
import time


def frame(kind, flags, stream, payload=b""):
    """A frame of HTTP/2 (RFC 9113)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
POST = b"\x83\x87\x04\x01/"  # :method POST, :scheme https, :path /

GARBAGE = {
    "no preface": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": bytes(range(256)) * 64,
    "a frame longer than allowed": PREFACE + b"\xff\xff\xff\0\0\0\0\0\1" + bytes(70000),
    "headers on stream 0": PREFACE + frame(1, 4, 0, POST),
    "an even stream": PREFACE + frame(1, 4, 2, POST),
    "headers that are none": PREFACE + frame(1, 4, 1, b"\xff" * 4000),
    "headers without an end": PREFACE + frame(1, 0, 1, POST) + frame(9, 0, 1, b"\x40\x01a\x01b" * 3000) * 40,
    "another frame amid headers": PREFACE + frame(1, 0, 1, POST) + frame(6, 0, 0, bytes(8)),
    "settings of a wrong size": PREFACE + frame(4, 0, 0, b"12345"),
    "a window that overflows": PREFACE + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a flood of pings": PREFACE + frame(6, 0, 0, bytes(8)) * 20000,
}


def trusting_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def client_hello():
    outgoing = ssl.MemoryBIO()
    try:
        trusting_context().wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def is_ended(connection, seconds):
    """Whether the other side ends a connection within so long."""
    end = time.monotonic() + seconds
    try:
        while True:
            connection.settimeout(max(0, end - time.monotonic()))
            if not connection.recv(65536):
                return True
    except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def garbage(host, port, identity):
    """{what was said: for how many seconds the other side kept the connection}. It kept none that it has no name for."""
    context = trusting_context()
    context.load_cert_chain(identity)
    kept = {}
    for name, said in GARBAGE.items():
        connection = context.wrap_socket(socket.create_connection((host, int(port)), 5))
        kept[connection] = (name, time.monotonic())
        try:
            connection.sendall(said)
        except OSError:
            pass  # it has been ended already
    return {name: is_ended(connection, 20) and time.monotonic() - begin for connection, (name, begin) in kept.items()}


def dribble(*addresses):
    """{address: the longest that the other side kept a connection, in seconds}."""
    hello = client_hello()
    begin = time.monotonic()
    left = {}
    for address in addresses:
        host, port = address.rsplit(":", 1)
        for _ in range(20):
            connection = socket.create_connection((host, int(port)), 5)
            connection.setblocking(False)
            left[connection] = address
    kept = collections.Counter()
    said = 0
    while left and time.monotonic() - begin < 30:
        for connection in select.select(left, [], [], 0.2)[0]:
            if is_ended(connection, 0):
                kept[left.pop(connection)] = time.monotonic() - begin
                connection.close()
        for connection in left:
            try:
                connection.send(hello[said % len(hello):][:1])
            except OSError:
                pass  # seen above
        said += 1
    kept.update({address: 1000 for address in left.values()})
    return kept


def flood(host, port, count):
    """At most 2000 are held open at a time: silent, garbage, the beginning of a handshake, and every hundredth a whole
    one without a certificate."""
    hello = client_hello()
    openings = [b"", hello[:100], os.urandom(2000), PREFACE, hello[:5]]
    context = trusting_context()
    open_ones, refused, made = collections.deque(), 0, 0
    while made < int(count) or not select.select([sys.stdin], [], [], 0)[0]:
        made += 1
        try:
            connection = socket.create_connection((host, int(port)), 5)
            open_ones.append(connection)
            if made % 100 == 0:
                connection = context.wrap_socket(connection)
                open_ones[-1] = connection
            connection.sendall(openings[made % len(openings)])
        except OSError:
            refused += 1
        if len(open_ones) > 2000:
            open_ones.popleft().close()
    return {"made": made, "refused": refused}


if __name__ == "__main__":
    print(json.dumps({"garbage": garbage, "dribble": dribble, "flood": flood}[sys.argv[1]](*sys.argv[2:])))
