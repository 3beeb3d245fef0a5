"""The sealift protocol, version 1, written from docs/protocol.md: spec, sub-keys, records, hello. Bytes in, bytes out.

The functions that make bytes take every field, so that a test can lie in any of them under a right tag or MAC.
"""

import dataclasses
import enum
import hashlib
import hmac
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


class Rejected(Exception):
    """The peer sent what the page does not allow: the connection is to be closed."""


class Direction(enum.IntEnum):
    TO_DESTINATION = 1
    TO_SOURCE = 2

    @property
    def opposite(self):
        return Direction(3 - self)


class Protection(enum.IntEnum):
    SEALED = 1
    PLAIN = 2


class Engine(enum.IntEnum):
    STREAM = 1
    DIRECT = 2


class Purpose(enum.IntEnum):
    RECORDS = 1
    ACKNOWLEDGEMENT = 2
    HELLO = 3


# ---- Spec and sub-keys

LARGEST_PAYLOAD = 262144
REKEY_SHIFT = 20


@dataclasses.dataclass(frozen=True)
class Spec:
    id: bytes
    vm: str = "web-1"
    source: str = "spiffe://example/host/a"
    destination: str = "spiffe://example/host/b"
    protection: Protection = Protection.SEALED
    engine: Engine = Engine.STREAM
    streams: int = 1

    def encode(self):
        texts = b"".join(struct.pack(">H", len(text)) + text
                         for text in (field.encode() for field in (self.vm, self.source, self.destination)))
        numbers = struct.pack(">BBHIB", self.protection, self.engine, self.streams, LARGEST_PAYLOAD, REKEY_SHIFT)
        return b"sealift/1 spec" + self.id + texts + numbers

    def hash(self):
        return hashlib.sha512(self.encode()).digest()


@dataclasses.dataclass(frozen=True)
class KeySchedule:
    """The sub-keys of one migration: `key` is the 32 bytes of the migration key and the 8 of its nonce."""

    spec: Spec
    key: bytes

    def pseudo_random_key(self):
        return hmac.digest(self.key[32:], self.key[:32], "sha512")

    def sub_key(self, purpose, direction, stream, index):
        info = b"sealift/1" + self.spec.hash() + struct.pack(">BBHQ", purpose, direction, stream, index)
        size = 64 if purpose == Purpose.HELLO else 32
        return HKDFExpand(hashes.SHA512(), size, info).derive(self.pseudo_random_key())


# ---- Records

class RecordType(enum.IntEnum):
    DATA = 1
    CONTROL = 2
    FINAL = 3
    ACKNOWLEDGEMENT = 4


HEADER_SIZE = 20
TAG_SIZE = 16
PLAIN_FLAG = 0x01
_HEADER = struct.Struct(">BBBBHHQI")


@dataclasses.dataclass(frozen=True)
class Header:
    type: int
    stream: int
    sequence: int
    length: int
    version: int = 1
    flags: int = 0
    zero: int = 0
    zeros: int = 0

    def pack(self):
        return _HEADER.pack(self.version, self.type, self.flags, self.zero, self.stream, self.zeros, self.sequence,
                            self.length)

    @classmethod
    def unpack(cls, data):
        version, kind, flags, zero, stream, zeros, sequence, length = _HEADER.unpack_from(data)
        return cls(kind, stream, sequence, length, version, flags, zero, zeros)

    @property
    def record_size(self):
        return HEADER_SIZE + self.length + (0 if self.flags & PLAIN_FLAG else TAG_SIZE)


class RecordKeys:
    """The AES-256-GCM sub-keys of one purpose, direction and stream, and their IVs."""

    def __init__(self, schedule, purpose, direction, stream):
        self._schedule = schedule
        self._place = (purpose, direction, stream)
        self._ciphers = {}

    def _cipher(self, index):
        if index not in self._ciphers:
            self._ciphers = {index: AESGCM(self._schedule.sub_key(*self._place, index))}
        return self._ciphers[index]

    def iv(self, sequence):
        purpose, direction, stream = self._place
        return struct.pack(">HBBQ", stream, direction, purpose, sequence)

    def seal(self, index, sequence, header, payload):
        return header + self._cipher(index).encrypt(self.iv(sequence), payload, header)

    def open(self, index, sequence, record):
        try:
            return self._cipher(index).decrypt(self.iv(sequence), record[HEADER_SIZE:], record[:HEADER_SIZE])
        except InvalidTag:
            raise Rejected("wrong tag") from None


class _Sequenced:
    """What sealer and opener of data, control and final records have in common."""

    def __init__(self, schedule, stream, direction, sequence=0):
        self.stream = stream
        self.next_sequence = sequence
        self._plain_data = schedule.spec.protection == Protection.PLAIN
        self._keys = RecordKeys(schedule, Purpose.RECORDS, direction, stream)

    def header(self, record_type, length):
        """The one valid header at this place."""
        flags = PLAIN_FLAG if record_type == RecordType.DATA and self._plain_data else 0
        return Header(record_type, self.stream, self.next_sequence, length, flags=flags)


class Sealer(_Sequenced):
    def seal(self, record_type, payload=b""):
        record = self.seal_as(self.header(record_type, len(payload)), payload)
        self.next_sequence += 1
        return record

    def seal_as(self, header, payload):
        """A record with any header: tag and IV are those of this header. Nothing is counted."""
        if header.flags & PLAIN_FLAG:
            return header.pack() + payload
        return self._keys.seal(header.sequence >> REKEY_SHIFT, header.sequence, header.pack(), payload)


class Opener(_Sequenced):
    ended = False

    def open(self, data):
        """(type, payload, size) of the record at the front of `data`, or None while it is not whole."""
        if self.ended:
            raise Rejected("a record after the final")
        if len(data) < HEADER_SIZE:
            return None
        header = Header.unpack(data)
        largest = {RecordType.DATA: LARGEST_PAYLOAD, RecordType.CONTROL: LARGEST_PAYLOAD, RecordType.FINAL: 0}
        if header.length > largest.get(header.type, -1) or header != self.header(header.type, header.length):
            raise Rejected(f"{header} where sequence {self.next_sequence} is next")
        if len(data) < header.record_size:
            return None
        record = bytes(data[:header.record_size])
        payload = record[HEADER_SIZE:]
        if not header.flags & PLAIN_FLAG:
            payload = self._keys.open(header.sequence >> REKEY_SHIFT, header.sequence, record)
        self.next_sequence += 1
        self.ended = header.type == RecordType.FINAL
        return RecordType(header.type), payload, header.record_size


class _Acknowledgements:
    def __init__(self, schedule, stream, direction, generation):
        self.stream = stream
        self.next_sequence = 0
        self._generation = generation
        self._keys = RecordKeys(schedule, Purpose.ACKNOWLEDGEMENT, direction, stream)

    def header(self):
        return Header(RecordType.ACKNOWLEDGEMENT, self.stream, self.next_sequence, 8)


class AcknowledgementSealer(_Acknowledgements):
    """Of one connection; `direction` is the one in which the acknowledgements travel."""

    def seal(self, value):
        record = self.seal_as(self.header(), struct.pack(">Q", value))
        self.next_sequence += 1
        return record

    def seal_as(self, header, payload):
        return self._keys.seal(self._generation, header.sequence, header.pack(), payload)


class AcknowledgementOpener(_Acknowledgements):
    _value = 0

    def open(self, data):
        """(value, size) of the acknowledgement at the front of `data`, or None while it is not whole."""
        if len(data) < HEADER_SIZE:
            return None
        header = Header.unpack(data)
        if header != self.header():
            raise Rejected(f"{header} where acknowledgement {self.next_sequence} is next")
        if len(data) < header.record_size:
            return None
        record = bytes(data[:header.record_size])
        (value,) = struct.unpack(">Q", self._keys.open(self._generation, header.sequence, record))
        if value < self._value:
            raise Rejected("an acknowledgement that falls")
        self._value = value
        self.next_sequence += 1
        return value, header.record_size


# ---- Hello

class HelloKind(enum.IntEnum):
    OPEN = 1
    REPLY = 2
    FINISH = 3


OPEN_SIZE = 76
REPLY_SIZE = 68
FINISH_SIZE = 52
MAC_SIZE = 32
_PREFIX = struct.Struct(">4sBBHI")


@dataclasses.dataclass(frozen=True)
class HelloPrefix:
    kind: int
    stream: int
    generation: int
    magic: bytes = b"SLFT"
    version: int = 1

    def pack(self):
        return _PREFIX.pack(self.magic, self.version, self.kind, self.stream, self.generation)

    @classmethod
    def unpack(cls, data):
        magic, version, kind, stream, generation = _PREFIX.unpack_from(data)
        return cls(kind, stream, generation, magic, version)


def hello_mac(schedule, direction, prefix, said):
    key = schedule.sub_key(Purpose.HELLO, direction, prefix.stream, prefix.generation)
    return hmac.digest(key, said, "sha512")[:MAC_SIZE]


def make_open(schedule, prefix, migration_id, random=None):
    said = prefix.pack() + migration_id + (random or os.urandom(16))
    return said + hello_mac(schedule, Direction.TO_DESTINATION, prefix, said)


def make_reply(schedule, prefix, opened, next_sequence, random=None):
    said = prefix.pack() + (random or os.urandom(16)) + struct.pack(">Q", next_sequence)
    return said + hello_mac(schedule, Direction.TO_SOURCE, prefix, opened + said)


def make_finish(schedule, prefix, opened, replied, next_sequence):
    said = prefix.pack() + struct.pack(">Q", next_sequence)
    return said + hello_mac(schedule, Direction.TO_DESTINATION, prefix, opened + replied + said)


def _check_mac(schedule, direction, prefix, before, message):
    expected = hello_mac(schedule, direction, prefix, before + message[:-MAC_SIZE])
    if not hmac.compare_digest(expected, message[-MAC_SIZE:]):
        raise Rejected("wrong MAC in a hello")


def check_open(schedule, message):
    """The prefix of an open; whether its stream and generation make sense now is for the caller."""
    prefix = HelloPrefix.unpack(message)
    if prefix != HelloPrefix(HelloKind.OPEN, prefix.stream, prefix.generation) or prefix.generation == 0:
        raise Rejected(f"no open: {prefix}")
    if message[_PREFIX.size:_PREFIX.size + 16] != schedule.spec.id or prefix.stream > schedule.spec.streams:
        raise Rejected("an open of another migration")
    _check_mac(schedule, Direction.TO_DESTINATION, prefix, b"", message)
    return prefix


def check_reply(schedule, opened, message):
    """The next sequence in a reply to `opened`."""
    before = HelloPrefix.unpack(opened)
    prefix = HelloPrefix(HelloKind.REPLY, before.stream, before.generation)
    if HelloPrefix.unpack(message) != prefix:
        raise Rejected("no reply to this open")
    _check_mac(schedule, Direction.TO_SOURCE, prefix, opened, message)
    return struct.unpack_from(">Q", message, _PREFIX.size + 16)[0]


def check_finish(schedule, opened, replied, message):
    """The next sequence in the finish of this hello."""
    before = HelloPrefix.unpack(opened)
    prefix = HelloPrefix(HelloKind.FINISH, before.stream, before.generation)
    if HelloPrefix.unpack(message) != prefix:
        raise Rejected("no finish of this hello")
    _check_mac(schedule, Direction.TO_DESTINATION, prefix, opened + replied, message)
    return struct.unpack_from(">Q", message, _PREFIX.size)[0]
