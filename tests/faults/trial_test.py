#!/usr/bin/python3
"""What the trials take for a guest that ran twice, and what not."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import cases  # noqa: E402  pylint: disable=wrong-import-position
from beacon import Beacon  # noqa: E402
from trial import Broken, Timeline  # noqa: E402


def beacons(host, first, count, start):
    return [Beacon(start + number * 0.002, host, first + number, 0) for number in range(count)]


class TimelineTest(unittest.TestCase):

    def setUp(self):
        self.timeline = Timeline()

    def test_a_guest_may_move_and_miss_beacons(self):
        self.timeline.add(beacons("a", 500, 10, 1.0) + beacons("b", 515, 10, 2.0))
        self.timeline.add(beacons("b", 600, 10, 3.0))

    def test_a_guest_that_we_booted_starts_over(self):
        self.timeline.add(beacons("a", 5000, 10, 1.0))
        self.timeline.booted()
        self.timeline.add(beacons("a", 1, 10, 9.0))

    def test_a_reboot_is_seen(self):
        with self.assertRaisesRegex(Broken, "rebooted"):
            self.timeline.add(beacons("a", 5000, 10, 1.0) + beacons("a", 1, 10, 9.0))

    def test_a_reboot_between_two_looks_is_seen(self):
        self.timeline.add(beacons("a", 5000, 10, 1.0))
        self.timeline.add([])
        with self.assertRaisesRegex(Broken, "rebooted"):
            self.timeline.add(beacons("b", 1, 10, 9.0))

    def test_a_second_boot_is_seen(self):
        self.timeline.booted()
        self.timeline.add(beacons("a", 1, 200, 1.0))
        with self.assertRaisesRegex(Broken, "rebooted"):
            self.timeline.add(beacons("a", 1, 10, 9.0))

    def test_two_at_once_are_seen(self):
        both = sorted(beacons("a", 500, 10, 1.0) + beacons("b", 505, 10, 1.011), key=lambda each: each.time)
        with self.assertRaisesRegex(Broken, "ran twice"):
            self.timeline.add(both)

    def test_one_after_the_other_from_the_same_state_is_seen(self):
        with self.assertRaisesRegex(Broken, "ran twice"):
            self.timeline.add(beacons("a", 5000, 10, 1.0) + beacons("b", 5004, 10, 2.0))

    def test_the_same_state_at_the_same_number_is_seen(self):
        with self.assertRaisesRegex(Broken, "ran twice"):
            self.timeline.add(beacons("a", 5000, 10, 1.0) + beacons("b", 5009, 10, 2.0))


class CasesTest(unittest.TestCase):

    def test_every_name_leads_to_its_case(self):
        for case in cases.every():
            self.assertEqual(cases.by_name(case.name), case)
        self.assertEqual(cases.by_name("random/7/3"), cases.drawn("7", "3"))

    def test_an_unknown_name_is_refused(self):
        with self.assertRaisesRegex(ValueError, "no case nonsense"):
            cases.by_name("nonsense")


if __name__ == "__main__":
    unittest.main()
