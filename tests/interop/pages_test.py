#!/usr/bin/python3
"""The direct engine, written from docs/protocol.md: pages for a destination, and what it must not take."""

import os
import struct

import cases
from mover_process import DestinationMover
from sealift_protocol import Protection, RecordType

PAGE = 4096
SIZES = (64, 7)  # of the blocks, in pages
FIRST_PAGE_STREAM = 2


def pages(*ranges):
    return b"\x01" + b"".join(struct.pack(">HQI", *each) for each in ranges)


def zero_pages(*ranges):
    return b"\x02" + b"".join(struct.pack(">HQI", *each) for each in ranges)


def round_end(number):
    return b"\x03" + struct.pack(">I", number)


def applied(number, data, zero):
    return b"\x04" + struct.pack(">IQQ", number, data, zero)


class PagesTest(cases.TestCase):

    def begin(self, streams=3, protection=Protection.SEALED):
        self.memory = []
        for size in SIZES:
            file = os.fdopen(os.memfd_create("ram"), "r+b", buffering=0)
            file.truncate(size * PAGE)
            self.memory.append(file)
            self.addCleanup(file.close)
        self.migration = DestinationMover(self.stage, streams, protection, self.memory)
        self.migration.join_all()

    def say(self, *messages, stream=FIRST_PAGE_STREAM):
        for record_type, payload in messages:
            self.migration.peer.streams[stream].send(record_type, payload)

    def control(self, payload, stream=FIRST_PAGE_STREAM):
        self.say((RecordType.CONTROL, payload), stream=stream)

    def data(self, payload, stream=FIRST_PAGE_STREAM):
        self.say((RecordType.DATA, payload), stream=stream)

    def page(self, block, number):
        return os.pread(self.memory[block].fileno(), PAGE, number * PAGE)

    def expect_applied(self, *expected, stream=FIRST_PAGE_STREAM):
        messages = self.migration.peer.streams[stream].messages
        self.migration.peer.pump(lambda: len(self.migration.peer.streams[stream].messages) >= len(expected))
        self.assertEqual(list(self.migration.peer.streams[stream].messages), list(expected), messages)

    def expect_refusal(self, announced=()):
        """And nothing but pages (block, number) that were announced rightly was touched."""
        with self.assertRaises((ConnectionError, TimeoutError)):
            self.migration.peer.pump(lambda: False)
        self.migration.mover.wait_for("failed")
        for block, file in enumerate(self.memory):
            mine = sum(1 for of, _ in announced if of == block)
            self.assertLessEqual(os.fstat(file.fileno()).st_blocks, mine * PAGE // 512, "memory was touched")
            for number in range(os.fstat(file.fileno()).st_size // PAGE):
                if (block, number) not in announced:
                    self.assertEqual(self.page(block, number), bytes(PAGE), f"page {number} was touched")

    def move(self, protection):
        self.begin(protection=protection)
        content = cases.text(5 * PAGE, 1)
        self.control(pages((0, 3, 2), (1, 6, 1), (0, 63, 1)))
        self.data(content[:PAGE])
        self.data(content[PAGE:4 * PAGE])
        self.control(pages((0, 3, 1)))
        self.data(content[4 * PAGE:])
        self.control(round_end(1))
        self.control(round_end(1), stream=3)
        self.expect_applied(applied(1, 5, 0))
        self.expect_applied(applied(1, 0, 0), stream=3)
        self.assertEqual(self.page(0, 3), content[4 * PAGE:], "the later copy")
        self.assertEqual(self.page(0, 4), content[PAGE:2 * PAGE])
        self.assertEqual(self.page(1, 6), content[2 * PAGE:3 * PAGE])
        self.assertEqual(self.page(0, 63), content[3 * PAGE:4 * PAGE])
        self.assertEqual(self.page(0, 5), bytes(PAGE))
        self.control(zero_pages((0, 4, 1), (1, 0, 7)))
        self.control(round_end(2))
        self.control(round_end(2), stream=3)
        self.expect_applied(applied(1, 5, 0), applied(2, 5, 8))
        self.assertEqual(self.page(0, 4), bytes(PAGE))
        self.assertEqual(self.page(1, 6), bytes(PAGE))

    def test_pages_arrive_where_they_belong_sealed(self):
        self.move(Protection.SEALED)

    def test_pages_arrive_where_they_belong_plain(self):
        self.move(Protection.PLAIN)

    def test_a_page_stream_ends_as_any_other(self):
        self.begin(streams=2)
        stream = self.migration.peer.streams[FIRST_PAGE_STREAM]
        self.control(round_end(1))
        stream.end()
        self.migration.peer.pump(lambda: stream.ended)

    def test_what_is_not_due_is_refused(self):
        lies = {
            "outside of the block": lambda: self.control(pages((0, 63, 2))),
            "far outside": lambda: self.control(zero_pages((1, 2**64 - 1, 2))),
            "an unknown block": lambda: self.control(pages((2, 0, 1))),
            "an empty range": lambda: self.control(pages((0, 0, 0))),
            "more zero pages than a stripe has": lambda: self.control(zero_pages(*[(0, 0, 64)] * 33)),
            "not announced": lambda: self.data(bytes(PAGE)),
            "the second round first": lambda: self.control(round_end(2)),
            "a confirmation": lambda: self.control(applied(1, 0, 0)),
            "an unknown message": lambda: self.control(b"\x05"),
            "part of a page": lambda: (self.control(pages((0, 0, 1))), self.data(b"\x5a" * (PAGE - 1))),
            "more than was announced": lambda: (self.control(pages((0, 0, 1))), self.data(b"\x5a" * (2 * PAGE))),
            "a round while pages are due": lambda: (self.control(pages((0, 0, 1))), self.control(round_end(1))),
        }
        after_an_announcement = ("part of a page", "more than was announced")
        for name, lie in lies.items():
            with self.subTest(name):
                self.begin()
                lie()
                self.expect_refusal(announced=[(0, 0)] if name in after_an_announcement else [])


if __name__ == "__main__":
    cases.main()
