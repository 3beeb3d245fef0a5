#!/usr/bin/python3
"""Checks the journal that the test guest keeps on its disk (tests/guest/journal.c): every record whole,
no gap, no repeat, one unbroken chain of hashes, nothing after the end.

    check_journal.py FILE      prints "journal ok records=N boots=B longest_pause_ms=P", or what is wrong
"""

import dataclasses
import struct
import sys

RECORD = struct.Struct("<8s4Q464sQ")
HASHED_BYTES = RECORD.size - 8
MAGIC = b"SLJRNL01"
READ_BYTES = 1 << 20


class JournalError(Exception):
    """What is wrong with the journal, and where."""


@dataclasses.dataclass
class Journal:
    """What a good journal holds. A record's number is its place: the last one is number `records`."""
    records: int = 0
    boots: int = 0
    longest_pause_ms: float = 0.0  # between two records of one boot, in the guest's own time


@dataclasses.dataclass
class Last:
    boot: int = 0
    monotonic_ns: int = 0
    digest: int = 0


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


def require(condition, number, text):
    if not condition:
        raise JournalError(f"record {number}: {text}")


def check_record(data, number, last):
    """Checks record `number` against the one before it and returns it as the new last one."""
    magic, sequence, monotonic_ns, boot, previous, payload, digest = RECORD.unpack(data)
    require(magic == MAGIC, number, "no record here, but one further on")
    require(digest == fnv1a(data[:HASHED_BYTES]), number, "damaged: its hash is wrong")
    require(sequence == number, number, f"bears the number {sequence}")
    words = struct.unpack("<58Q", payload)
    require(words == tuple(range(number, number + 58)), number, "its payload is wrong")
    require(previous == last.digest, number, "does not follow the record before it")
    require(boot != last.boot or monotonic_ns > last.monotonic_ns, number, "time went backwards")
    return Last(boot, monotonic_ns, digest)


def add(journal, last, record):
    journal.records += 1
    if record.boot != last.boot:
        journal.boots += 1
        return
    pause_ms = (record.monotonic_ns - last.monotonic_ns) / 1e6
    journal.longest_pause_ms = max(journal.longest_pause_ms, pause_ms)


def sectors(data):
    """The bytes up to the last sector that is not all zero, sector by sector."""
    used = len(data.rstrip(b"\0"))
    for offset in range(0, used, RECORD.size):
        yield data[offset:offset + RECORD.size].ljust(RECORD.size, b"\0")


def read_used(path):
    """The file without the zeros at its end."""
    blocks, used = [], 0
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            blocks.append(block)
            if block.count(0) != len(block):
                used = len(blocks)
    return b"".join(blocks[:used])


def check(path):
    """Returns the Journal in the raw disk image `path`; raises JournalError."""
    journal, last = Journal(), Last()
    for number, data in enumerate(sectors(read_used(path)), 1):
        record = check_record(data, number, last)
        add(journal, last, record)
        last = record
    if journal.records == 0:
        raise JournalError("there is no record")
    return journal


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_journal.py FILE")
    try:
        journal = check(sys.argv[1])
    except (JournalError, OSError) as error:
        sys.exit(f"journal BAD: {error}")
    print(f"journal ok records={journal.records} boots={journal.boots} "
          f"longest_pause_ms={journal.longest_pause_ms:.0f}")


if __name__ == "__main__":
    main()
