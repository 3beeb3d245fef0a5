#!/usr/bin/python3
"""Moves a small guest back and forth between two hosts, hundreds of times, and checks that memory, threads and
descriptors of all daemons stay flat, that nothing is left behind after any migration, and that the guest keeps every
page and every record it wrote. docs/reliability.md."""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
import verdict  # noqa: E402  pylint: disable=wrong-import-position
from soak import Soak  # noqa: E402  pylint: disable=wrong-import-position

_CHECKS = 10  # of the guest, spread over the run
_ENGINES = {"direct": ("direct",), "stream": ("stream",), "both": ("direct", "direct", "stream", "stream")}


def parse(argv):
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--migrations", metavar="N", type=int, default=500,
                        help="how many (default: 500)")
    parser.add_argument("--engine", choices=_ENGINES, default="both", help="both, in turns, unless given")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the result there, with every sample")
    options = parser.parse_args(argv)
    if options.migrations < verdict.SHORTEST:
        parser.error(f"--migrations: a verdict needs {verdict.SHORTEST} or more")
    return options


class Run:
    """The migrations of one run and what came of them."""

    def __init__(self, options):
        self._options = options
        self._began = time.monotonic()
        self.samples = []  # {daemon: Sample} after each migration
        self.failure = ""

    def go(self, stage):
        """Until all are done, one fails, or Ctrl-C."""
        try:
            soak = Soak(stage)
            for number in range(self._options.migrations):
                self._step(soak, number)
        except KeyboardInterrupt:
            self.failure = "stopped by hand"
        except Exception as error:  # pylint: disable=broad-exception-caught
            self.failure = f"{type(error).__name__}: {error}"
            stage.print_logs()

    def _step(self, soak, number):
        engines = _ENGINES[self._options.engine]
        engine = engines[number % len(engines)]
        began = time.monotonic()
        soak.move(number, engine)
        seconds = time.monotonic() - began
        self.samples.append(soak.samples())
        done = number + 1
        if done * _CHECKS // self._options.migrations > number * _CHECKS // self._options.migrations:
            soak.check_guest()
        _say(f"{done}/{self._options.migrations} {engine} {seconds:.1f} s; " + "; ".join(
            f"{name} {sample.anonymous_kib} KiB, {sample.threads} threads, {sample.descriptors} descriptors"
            for name, sample in self.samples[-1].items()))

    def trends(self):
        """{daemon: {measure: Trend}}; empty when too few migrations were done."""
        if len(self.samples) < verdict.SHORTEST:
            return {}
        return {name: verdict.trends([each[name] for each in self.samples]) for name in self.samples[0]}

    def result(self, trends):
        """What --json writes."""
        return {"migrations": len(self.samples), "asked": self._options.migrations, "engine": self._options.engine,
                "seconds": round(time.monotonic() - self._began, 1), "failure": self.failure,
                "flat": bool(trends) and all(trend.flat for each in trends.values() for trend in each.values()),
                "daemons": {name: {measure: {**dataclasses.asdict(trend), "growth": trend.growth, "flat": trend.flat}
                                   for measure, trend in each.items()} for name, each in trends.items()},
                "samples": [{name: dataclasses.asdict(sample) for name, sample in each.items()}
                            for each in self.samples]}


def _say(text):
    print(text, flush=True)


def _say_trends(trends):
    for name, each in trends.items():
        for measure, trend in each.items():
            mark = "" if trend.flat else "  GROWS"
            _say(f"{name:<12} {measure:<14} {trend.earlier:>9.0f} -> {trend.later:>9.0f}  "
                 f"({trend.growth:+.0f}, allowed {trend.allowed:+.0f}){mark}")


def main():
    options = parse(sys.argv[1:])
    harness.adopt_orphans()
    run = Run(options)
    stage = harness.Stage()
    try:
        run.go(stage)
    finally:
        stage.close()
    trends = run.trends()
    result = run.result(trends)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _say_trends(trends)
    if run.failure:
        _say(run.failure)
    _say(f"{result['migrations']} of {result['asked']} migrations in {result['seconds']:.0f} s, "
         f"{'flat' if result['flat'] else 'NOT flat' if trends else 'too few to judge'}")
    return 0 if result["flat"] and not run.failure else 1


if __name__ == "__main__":
    sys.exit(main())
