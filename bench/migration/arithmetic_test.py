#!/usr/bin/python3
"""How measurements become figures: without guests."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "e2e"))
import cancel  # noqa: E402  pylint: disable=wrong-import-position
import cases  # noqa: E402
import model  # noqa: E402
import results  # noqa: E402
import svg  # noqa: E402
from beacon import Beacon  # noqa: E402
from measure import Sample  # noqa: E402
from switch_over import judge  # noqa: E402


def beacons(host, start, count, first, loops_each=2):
    """`count` beacons, one every 2 ms."""
    return [Beacon(start + 0.002 * i, host, first + i, loops_each * (first + i)) for i in range(count)]


def sample(**values):
    usual = {"seconds": 2.0, "copy_seconds": 1.5, "gb": 1.0, "wire_gb": 1.1, "cpu_seconds": 3.0, "downtime_ms": 20.0,
             "downtime_reported_ms": 10.0, "longest_silence_ms": 22.0, "usual_gap_ms": 2.0, "guest_work_lost": 0.1,
             "iterations": 3, "begun_at": 10.0, "running_at": 12.0, "foreign_cores": 0.0}
    return Sample(**{**usual, **values})


class SwitchOver(unittest.TestCase):
    UNDISTURBED = beacons("a", 90.0, 500, 1)

    def test_downtime_is_the_silence_between_hosts_less_the_usual_one(self):
        during = beacons("a", 100.0, 100, 1000) + beacons("b", 100.248, 50, 1100)
        found = judge(self.UNDISTURBED, during, "a", "b")
        self.assertAlmostEqual(found.downtime_ms, 48.0)
        self.assertAlmostEqual(found.longest_silence_ms, 50.0)
        self.assertAlmostEqual(found.running_at, 100.248)
        self.assertAlmostEqual(found.work_lost, 1 - 0.2 / 0.248)

    def test_a_guest_that_ran_twice_is_an_error(self):
        during = beacons("a", 100.0, 100, 1000) + beacons("b", 100.19, 50, 1095)
        with self.assertRaisesRegex(cases.NotIntact, "on both hosts at once: 5 numbers used twice"):
            judge(self.UNDISTURBED, during, "a", "b")

    def test_a_guest_that_went_back_is_an_error(self):
        during = beacons("a", 100.0, 100, 1000) + beacons("b", 100.25, 50, 1099)
        with self.assertRaisesRegex(cases.NotIntact, "went back by 1 datagrams.* 52 ms before"):
            judge(self.UNDISTURBED, during, "a", "b")

    def test_a_guest_that_never_arrived_is_an_error(self):
        with self.assertRaisesRegex(RuntimeError, "0 from b"):
            judge(self.UNDISTURBED, beacons("a", 100.0, 100, 1000), "a", "b")


class Cancellation(unittest.TestCase):
    UNDISTURBED = beacons("a", 90.0, 500, 1)

    def test_the_guest_is_back_with_the_first_window_at_full_speed(self):
        slow = beacons("a", 100.0, 100, 1000, loops_each=1)  # until 100.2
        fast = [Beacon(100.2 + 0.002 * i, "a", 1100 + i, slow[-1].loops + 2 * i) for i in range(500)]
        self.assertAlmostEqual(cancel.back_at_full_speed(self.UNDISTURBED, slow + fast, 100.05), 0.15, delta=0.01)

    def test_a_guest_that_stays_slow_is_an_error(self):
        slow = beacons("a", 100.0, 500, 1000, loops_each=1)
        with self.assertRaisesRegex(RuntimeError, "not back at full speed"):
            cancel.back_at_full_speed(self.UNDISTURBED, slow, 100.0)


class Figures(unittest.TestCase):
    def test_median_and_spread(self):
        samples = [sample(seconds=seconds) for seconds in (1.0, 2.0, 4.0)]
        entry = results.result(cases.Case("qemu-tls", 2), cases.Shape(512, 100), samples)
        self.assertEqual([entry[key] for key in ("case", "channels", "guest_mib", "dirty_mb_s", "rounds")],
                         ["qemu-tls", 2, 512, 100, 3])
        self.assertEqual(entry["gb_per_s"], 0.5)
        self.assertEqual(entry["cpu_s_per_gb"], 3.0)
        self.assertEqual(entry["downtime_qemu_ms"], 10.0)
        self.assertEqual(entry["spread"]["seconds"], [1.0, 1.5, 3.0, 4.0])

    def test_model(self):
        row, _ = model.rows([{"case": "sealift-direct", "cpu_s_per_gb": 2.0}])
        self.assertEqual(row, ["sealift-direct", "25", "2.00", "2.9", "2.9 (link)", "5 min 39 s"])


class Cases(unittest.TestCase):
    def test_every_round_starts_elsewhere_and_every_second_goes_backwards(self):
        self.assertEqual([cases.in_order_of_round([1, 2, 3], number) for number in range(4)],
                         [[1, 2, 3], [2, 1, 3], [3, 1, 2], [1, 3, 2]])

    def test_names_say_engine_and_mode(self):
        case = cases.Case("sealift-direct-plain", 2)
        self.assertEqual((case.engine, case.encryption, case.is_direct), ("direct", "disabled", True))
        self.assertEqual(cases.Case("qemu-stunnel", 1).transport, "stunnel")

    def test_quick_has_every_case_with_one_or_two_channels(self):
        chosen = cases.chosen(quick=True)
        self.assertEqual({case.name for case in chosen}, set(cases.NAMES))
        self.assertLessEqual({case.channels for case in chosen}, {1, 2})


class Shapes(unittest.TestCase):
    def test_the_guest_has_room_for_its_kernel(self):
        self.assertEqual([cases.Shape(mib).memory_mib for mib in (16, 1024, 8192)], [272, 1280, 9216])


class Plots(unittest.TestCase):
    def test_text_is_escaped_and_all_values_are_drawn(self):
        picture = svg.bars("a < b", "GB/s", [("x", 1.5, 1.0, 2.0, "x"), ("y", 0.0, 0.0, 0.0, "y")])
        self.assertIn("a &lt; b", picture)
        self.assertIn(">1.5</text>", picture)
        self.assertEqual(svg.lines("t", "x", "y", {"s": [(1, 2.0), (2, 4.0)]}).count("<circle"), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
