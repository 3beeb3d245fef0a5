#!/usr/bin/python3
"""Moves emulated guests between two plain QEMUs, while the processors are busy, and counts the pages that arrived
without what the guest had written last. docs/decisions/0004-cpu-model-without-kvm.md has what came out."""

import argparse
import collections
import contextlib
import pathlib
import subprocess
import sys
import tempfile

import numpy

import guest
import harness

_BOOT_SECONDS = 120
_MOVE_SECONDS = 120
_PAGE_WORDS = 4096 // 8
_BUSY = ["/bin/sh", "-c", "while :; do :; done"]
_OPTIONS = "guest.fill=64 guest.quiet=1 guest.ip=10.0.2.15/24 guest.beacon=10.0.2.2:9"

Move = collections.namedtuple("Move", "looks stale")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", metavar="N", type=int, default=20, help="default: 20")
    parser.add_argument("--downtime-limit", metavar="MS", type=int, default=300, help="default: 300, as QEMU's")
    parser.add_argument("--bandwidth", metavar="MB/S", type=int, default=200, help="default: 200")
    parser.add_argument("--busy", metavar="N", type=int, default=6, help="processes that compute (default: 6)")
    parser.add_argument("--cpu", metavar="MODEL", default=guest.CPU, help=f"default: {guest.CPU}")
    return parser.parse_args(argv)


@contextlib.contextmanager
def busy_processors(number):
    processes = [subprocess.Popen(_BUSY) for _ in range(number)]  # pylint: disable=consider-using-with
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def move(options):
    """Boots a guest, moves it, and compares the memory of both QEMUs while it stands still."""
    stage = harness.Stage()
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            files = {name: pathlib.Path(folder) / name for name in ("source", "target")}
            source, target = (guest.start(stage, name, _OPTIONS, cpu=options.cpu, memory_file=file, forwards={},
                                          incoming=name == "target") for name, file in files.items())
            source.console.wait_line("READY", _BOOT_SECONDS)
            looks = _migrate(source, target, f"unix:{stage.dir}/channel", options)
            return Move(looks, _differing_pages(*files.values()))
    finally:
        stage.close()


def _migrate(source, target, channel, options):
    for machine in (source, target):
        machine.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    source.qmp.command("migrate-set-parameters", **{"downtime-limit": options.downtime_limit,
                                                    "max-bandwidth": options.bandwidth * 1_000_000})
    target.qmp.command("migrate-incoming", uri=channel)
    source.qmp.command("migrate", uri=channel)
    source.qmp.wait_event("MIGRATION", _MOVE_SECONDS, status="completed")
    target.qmp.wait_event("MIGRATION", _MOVE_SECONDS, status="completed")
    return source.qmp.command("query-migrate")["ram"]["dirty-sync-count"]


def _differing_pages(one, other):
    pages = [numpy.memmap(file, dtype=numpy.uint64, mode="r").reshape(-1, _PAGE_WORDS) for file in (one, other)]
    return int((pages[0] != pages[1]).any(axis=1).sum())


def main():
    options = parse(sys.argv[1:])
    harness.adopt_orphans()
    try:
        with busy_processors(options.busy):
            moves = []
            for number in range(options.moves):
                moves.append(move(options))
                print(f"move {number + 1}: QEMU looked {moves[-1].looks} times, {moves[-1].stale} stale pages", flush=True)
    except KeyboardInterrupt:
        return 130
    print(f"{sum(bool(each.stale) for each in moves)} of {len(moves)} guests arrived with stale pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
