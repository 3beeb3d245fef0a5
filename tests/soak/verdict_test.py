#!/usr/bin/python3
"""What the soak takes for a leak, and what not."""

import dataclasses
import unittest

from verdict import Sample, trends

_BASE = Sample(rss_kib=30000, anonymous_kib=12000, threads=20, descriptors=30)


def run(count, **growth):
    """Samples of so many migrations, each measure higher by its `growth` from one to the next."""
    return [dataclasses.replace(_BASE, **{measure: int(getattr(_BASE, measure) + number * step)
                                          for measure, step in growth.items()}) for number in range(count)]


def grown(samples):
    return {measure for measure, trend in trends(samples).items() if not trend.flat}


class TrendsTest(unittest.TestCase):

    def test_flat_is_flat(self):
        self.assertEqual(grown(run(500)), set())

    def test_a_few_kib_per_migration_are_a_leak(self):
        self.assertEqual(grown(run(500, anonymous_kib=4)), {"anonymous_kib"})

    def test_a_thread_per_hundred_migrations_is_a_leak(self):
        self.assertEqual(grown(run(500, threads=0.01, descriptors=0.01)), {"threads", "descriptors"})

    def test_the_warm_up_does_not_count(self):
        samples = run(500)
        samples[:125] = [dataclasses.replace(_BASE, anonymous_kib=100 + number) for number in range(125)]
        self.assertEqual(grown(samples), set())

    def test_a_single_peak_does_not_count(self):
        samples = run(500)
        samples[480] = dataclasses.replace(_BASE, threads=200, anonymous_kib=500000)
        self.assertEqual(grown(samples), set())

    def test_memory_may_grow_with_the_store_as_long_as_its_cache_does(self):
        self.assertEqual(grown(run(500, anonymous_kib=4, store_kib=4)), set())
        self.assertEqual(grown(run(1500, anonymous_kib=4, store_kib=4)), {"anonymous_kib"})

    def test_the_shortest_run_has_a_verdict(self):
        self.assertEqual(grown(run(8)), set())
        self.assertEqual(grown(run(8, descriptors=1)), {"descriptors"})


if __name__ == "__main__":
    unittest.main()
