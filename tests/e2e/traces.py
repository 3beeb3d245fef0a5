"""What is on a host because of a VM or a migration: it must be as before once a migration is over."""

import pathlib

import harness


def of_host(cluster, host):
    """Processes, files, devices, registered memory, as a set of words."""
    place = cluster.network.hosts[host]
    found = set()
    for program in ("sealift-mover", "qemu-system-x86_64"):
        pids = [pid for pid in cluster.processes(program) if place.holds(pid)]
        found |= {f"{number}. {program}" for number, _ in enumerate(pids, 1)}
        found |= {"memory registered for write protection" for pid in pids if " uw" in _read(f"/proc/{pid}/smaps")}
    found |= {f"zombie {name}" for name in _zombies(cluster.agents[host].pid)}
    state, run = place.path(cluster.dir / host / "state"), cluster.dir / host / "run"
    for folder in (state / "migrations", state / "vms", run):
        found |= {str(path.relative_to(folder.parent)) for path in folder.rglob("*")}
    links = [line.split(": ")[1] for line in place.run("ip", "-o", "link", "show").stdout.splitlines()]
    found |= {"tap" for link in links if link.split("@")[0] not in ("lo", "br0", "uplink")}
    return found


def expect(cluster, wanted, seconds):
    """Waits until each host has exactly its wanted traces ({host: words}); AssertionError if that does not come."""
    found = {}

    def as_wanted():
        found.update({host: of_host(cluster, host) for host in wanted})
        return found == wanted
    try:
        harness.wait_for(as_wanted, seconds, "nothing to be left")
    except TimeoutError:
        differences = [f"{host}: {sorted(found[host] ^ wanted[host])}" for host in wanted]
        raise AssertionError("left behind or missing: " + "; ".join(differences)) from None


def _zombies(parent):
    """Names of children that have ended and that nobody has waited for."""
    for children in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
        for child in _read(children).split():
            name, _, rest = _read(f"/proc/{child}/stat").partition("(")[2].rpartition(")")
            if rest.startswith(" Z"):
                yield name


def _read(path):
    try:
        return pathlib.Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:  # it has just ended
        return ""
