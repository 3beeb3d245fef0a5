"""Hosts without machines: network namespaces on one bridge, or, where those are not allowed, addresses of
the loopback interface.

A namespace lives as long as the process that holds it, a child of the test: nothing has a name, and
nothing is left behind, however the test ends.
"""

import os
import pathlib
import subprocess

import harness

_SUBNET = "10.213.0"
UPLINK = "uplink"  # of a host, the device that leads to the switch


class Place:
    """Where programs of one host run, with mounts of their own. `address` is the host's own."""

    def __init__(self, address, pid=None):
        self.address = address
        self._pid = pid

    def command(self, argv):
        """`argv`, to be run in this place."""
        if self._pid is None:
            return [str(word) for word in argv]
        return ["nsenter", f"--target={self._pid}", "--net", "--mount", "--"] + [str(word) for word in argv]

    def holds(self, pid):
        """Whether a process is in this place."""
        try:
            return os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{self._pid or 'self'}/ns/net")
        except OSError:  # it is gone
            return False

    def path(self, path):
        """Where a path of this place is for all others."""
        return pathlib.Path(path) if self._pid is None else pathlib.Path(f"/proc/{self._pid}/root{path}")

    def mount_small(self, folder, kib):
        """Gives a folder a file system of its own with room for that much."""
        self.run("mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=755", "tmpfs", folder)

    def run(self, *argv):
        return subprocess.run(self.command(argv), check=True, capture_output=True, text=True)


class Namespaces:
    """A switch (with the controller's place on it) and hosts, each with a bridge br0 whose uplink
    goes to the switch. Guests on br0 reach each other and the switch."""

    isolated = True
    wire = "br0"  # in the place of the switch: everything that goes from host to host passes it

    def __init__(self, test, hosts):
        self._test = test
        self.switch = self._make("switch", 1)
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self._give_address(self.switch, 1)
        self.hosts = {}
        for number, host in enumerate(hosts, start=2):
            self.hosts[host] = self._make(host, number)
            self._join(self.hosts[host], number)

    def cut(self, host):
        """Takes the host off the switch."""
        self.switch.run("ip", "link", "set", self.port(self.hosts[host]), "down")

    def mend(self, host):
        self.switch.run("ip", "link", "set", self.port(self.hosts[host]), "up")

    @staticmethod
    def slow_down(place, megabits):
        """Lets no more than this out of the place per second."""
        place.run("tc", "qdisc", "replace", "dev", UPLINK, "root", "tbf", "rate", f"{megabits}mbit",
                  "burst", "256kb", "latency", "50ms")

    @staticmethod
    def speed_up(place):
        place.run("tc", "qdisc", "delete", "dev", UPLINK, "root")

    def _make(self, name, number):
        holder = self._test.start(f"net-{name}", ["unshare", "--net", "--mount", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        harness.wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own, 10,
                         f"network namespace of {name}")
        place = Place(f"{_SUBNET}.{number}", holder.pid)
        place.pid = holder.pid
        place.run("ip", "link", "set", "lo", "up")
        return place

    def _join(self, place, number):
        port = self.port(place)
        self.switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", UPLINK,
                        "netns", str(place.pid))
        # Without an address of its own a bridge takes the lowest of its ports', and its neighbours' caches are wrong for
        # half a minute when a guest's port comes or goes.
        place.run("ip", "link", "add", "br0", "address", f"02:00:00:00:01:{number:02x}", "type", "bridge")
        place.run("ip", "link", "set", UPLINK, "master", "br0", "up")
        self._give_address(place, number)
        self.switch.run("ip", "link", "set", port, "master", "br0", "up")

    @staticmethod
    def port(place):
        """The port of the switch that leads there."""
        return "to-" + place.address.rsplit(".", 1)[1]

    @staticmethod
    def _give_address(place, number):
        place.run("ip", "addr", "add", f"{_SUBNET}.{number}/24", "dev", "br0")
        place.run("ip", "link", "set", "br0", "up")


class Loopback:
    """All hosts share the machine's network and differ by a loopback address."""

    isolated = False
    wire = "lo"

    def __init__(self, _test, hosts):
        self.switch = Place("127.0.0.1")
        self.hosts = {host: Place(f"127.0.0.{number}") for number, host in enumerate(hosts, start=2)}


def namespaces_allowed():
    """Whether this process may make network namespaces and links in them."""
    probe = ["unshare", "--net", "ip", "link", "add", "probe0", "type", "veth"]
    return (pathlib.Path("/proc/self/ns/net").exists() and
            subprocess.run(probe, capture_output=True, check=False).returncode == 0)


def make(test, hosts):
    return (Namespaces if namespaces_allowed() else Loopback)(test, hosts)
