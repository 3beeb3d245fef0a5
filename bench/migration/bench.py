#!/usr/bin/python3
"""Moves guests with QEMU alone, through tunnels, and with sealift, and measures speed, processor time, downtime and
whether the guest is intact. docs/performance.md says what each figure means."""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "e2e"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
import cancel  # noqa: E402
import cases  # noqa: E402
import curves  # noqa: E402
import page  # noqa: E402
import profiler  # noqa: E402
import results  # noqa: E402
import transport  # noqa: E402
from guests import knows_engines  # noqa: E402
from lab import Lab, huge_shared_memory  # noqa: E402
from meter import TOUCHED_MIB  # noqa: E402
from suite import Suite, say  # noqa: E402

_USUAL = {"rounds": 5, "guest_mib": [1024], "dirty": [0, 100]}
_QUICK = {"rounds": 3, "guest_mib": [512], "dirty": [0]}


def parse(argv):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true",
                        help="within 5 minutes: 3 rounds, an idle guest of 512 MiB, at most 2 channels")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the result there, too")
    parser.add_argument("--logs", metavar="FOLDER", type=pathlib.Path,
                        help="keep the logs and guests' consoles of measurements that failed there")
    parser.add_argument("--rounds", metavar="N", type=_positive, help="rounds of all cases (default: 5, --curves 3)")
    parser.add_argument("--case", metavar="NAME", nargs="+", choices=cases.NAMES,
                        help=f"only these: {', '.join(cases.NAMES)}")
    parser.add_argument("--channels", metavar="N", nargs="+", type=_positive,
                        help="connections that carry RAM (default: 1 and 2, for qemu-tls also 4)")
    parser.add_argument("--guest-mib", metavar="MIB", nargs="+", type=_positive,
                        help="memory that the guest fills (default: 1024)")
    parser.add_argument("--dirty", metavar="MB/S", nargs="+", type=int,
                        help="megabytes the guest rewrites each second (default: 0 and 100)")
    parser.add_argument("--curves", metavar="NAME", nargs="*", choices=curves.NAMES,
                        help="instead: over guest size, write rate, connections, migrations at once (together), speed "
                             f"of the link; all, or some of: {', '.join(curves.NAMES)}")
    parser.add_argument("--profile", action="store_true",
                        help="have perf look what the processor time is spent for, too")
    parser.add_argument("--cancel", action="store_true",
                        help="instead: how soon a guest is back at full speed after a cancellation")
    parser.add_argument("--transport", action="store_true",
                        help="instead: records, transport and page scans without a guest, beside iperf3")
    parser.add_argument("--page", metavar="FILE", nargs="+", type=pathlib.Path,
                        help="instead: bring docs/performance.md and its plots up to date with these JSON files")
    arguments = parser.parse_args(argv)
    usual = _QUICK if arguments.quick else _USUAL
    if arguments.curves is not None:
        usual = {**usual, "rounds": 3}
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def _positive(text):
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def possible(chosen, cluster):
    """The cases this build can run; says which it leaves out."""
    if knows_engines(cluster):
        return chosen
    left_out = sorted({case.name for case in chosen if case.is_direct})
    if left_out:
        say(f"left out: {', '.join(left_out)}: `sealift vm migrate` of this build knows no --engine")
    return [case for case in chosen if not case.is_direct]


def compare(lab, arguments):
    """The comparison of all cases, as {"results": [...], "errors": [...]}."""
    chosen = possible(cases.chosen(arguments.case, arguments.channels, arguments.quick), lab.cluster)
    shapes = [cases.Shape(mib, dirty) for mib in arguments.guest_mib for dirty in arguments.dirty]
    suite = Suite(lab, chosen, shapes, undisturbed_seconds=1.0 if arguments.quick else 5.0)
    profile = profiler.Profile(lab) if arguments.profile else None
    suite.run(arguments.rounds)
    entries = results.results(suite)
    print(results.table(entries) if entries else "nothing was measured")
    report = {"results": entries, "errors": suite.errors}
    if profile:
        profile.stop()
        report["profile"] = profile.entries(suite)
        print(results.text_table([profiler.HEADS, *map(profiler.row, report["profile"])]))
    return report


def measure(arguments):
    with huge_shared_memory(say) as shmem:
        stage = harness.Stage()
        try:
            lab = Lab(stage, arguments.logs)
            report = _measurement(arguments)(lab, arguments)
            lab.memory.leave(0)  # so that what is let go next was touched before
            lab.memory.leave(TOUCHED_MIB)
            report["machine"] = results.machine(lab, shmem)
            return report
        finally:
            stage.close()


def _measurement(arguments):
    if arguments.cancel:
        return cancel.measure
    return compare if arguments.curves is None else curves.draw


def run(arguments):
    if arguments.page:
        page.update(arguments.page)
        return 0
    report = transport.measure() if arguments.transport else measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for error in report.get("errors", []):
        say(f"bench: {error['case']}, {error['channels']} channels: {error['error']}")
    return 1 if report.get("errors") else 0


def main():
    arguments = parse(sys.argv[1:])
    harness.adopt_orphans()
    try:
        sys.exit(run(arguments))
    except KeyboardInterrupt:
        say("bench: interrupted, everything is cleaned up")
        sys.exit(130)


if __name__ == "__main__":
    main()
