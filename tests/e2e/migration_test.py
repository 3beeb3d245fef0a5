#!/usr/bin/python3
"""Moves of a real guest between real agents."""

import harness
from cluster import Cluster


class MigrationTest(harness.TestCase):

    def test_moves_encrypted_and_back_in_the_clear(self):
        cluster = Cluster(self)
        cluster.create_vm(append="guest.fill=128 guest.dirty=20", encryption="required")
        cluster.console("web1").wait_line("READY", 60)
        there = cluster.migrate("web1", "b")
        self.assertEqual(there["progress"]["phase"], "completed")
        self.assertTrue(there["encrypted"])
        cluster.sealift("vm", "set", "web1", "--encryption", "disabled")
        back = cluster.migrate("web1", "a")
        self.assertFalse(back["encrypted"])
        self.assertEqual(cluster.json("vm", "show", "web1")["host"], "a")
        console = cluster.console("web1")
        self.assertTrue(console.ask("verify", r"verify .*", 30).group().startswith("verify ok"))
        self.assertEqual(console.status()["bad"], 0)


if __name__ == "__main__":
    harness.main()
