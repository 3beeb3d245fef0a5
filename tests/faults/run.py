#!/usr/bin/python3
"""Breaks each part of sealift at each moment of a migration of a real guest, and checks that afterwards exactly one
guest runs, that none ran twice, that no write is lost and that nothing is left behind. docs/reliability.md."""

import argparse
import json
import pathlib
import queue
import random
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import cases  # noqa: E402  pylint: disable=wrong-import-position
import harness  # noqa: E402
from faults import NothingToHit  # noqa: E402
from trial import Field  # noqa: E402

_WORKERS = 2


def parse(argv):
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only kill -9, at the moments that decide: about 4 minutes")
    parser.add_argument("--random", metavar="MINUTES", type=float,
                        help="random faults at random times, for that long, instead of the list")
    parser.add_argument("--seed", metavar="N", help="of the order, and of the random faults (default: drawn, and printed)")
    parser.add_argument("--only", metavar="REGEX", help="only cases whose name matches, e.g. direct/.*/kill/")
    parser.add_argument("--case", metavar="NAME", nargs="+", help="exactly these, random ones too: random/SEED/NUMBER")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the result there, too")
    parser.add_argument("--logs", metavar="FOLDER", type=pathlib.Path, help="keep the logs of failed cases there")
    parser.add_argument("--workers", metavar="N", type=int, default=_WORKERS,
                        help=f"pairs of hosts at a time (default: {_WORKERS})")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)  # a worker: cases in, results out
    return parser.parse_args(argv)


# -- A worker: one field, cases on standard input, results on standard output

def work(options):
    harness.adopt_orphans()
    stage = field = None
    try:
        for line in sys.stdin:
            if field is None:
                stage = harness.Stage()
                field = Field(stage)
            result = _try(field, cases.by_name(line.strip()))
            if result["result"] != "passed":  # also where there was nothing to hit: a migration is still under way
                if result["result"] == "failed":
                    _keep_logs(options.logs, field, result["case"])
                stage.close()
                field = None
            print(json.dumps(result), flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        if stage:
            stage.close()
    return 0


def _try(field, case):
    began = time.monotonic()
    result, reason = "passed", ""
    try:
        field.try_case(case)
    except NothingToHit:
        result = "not applicable"
    except Exception as error:  # pylint: disable=broad-exception-caught
        result, reason = "failed", f"{type(error).__name__}: {error}"
    return {"case": case.name, "result": result, "reason": reason, "seconds": round(time.monotonic() - began, 1),
            "what": f"{case.engine}, {case.kind} {case.target} at {case.moment}"}


def _keep_logs(folder, field, name):
    if folder is not None:
        field.cluster.keep_logs(folder / name.replace("/", "_"))


# -- The coordinator

class Run:
    """Gives cases to workers, one at a time, and collects the results."""

    def __init__(self, options, supply):
        self._options = options
        self._supply = supply
        self._lock = threading.Lock()
        self._interrupted = False
        self.results = queue.Queue()

    def all(self):
        """The results of all cases; after Ctrl-C of those that were tried."""
        threads = [threading.Thread(target=self._feed) for _ in range(self._options.workers)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            try:
                for thread in threads:
                    thread.join()
            except KeyboardInterrupt:  # the workers had it, too
                self._interrupted = True
        return list(self.results.queue)

    def _next(self):
        with self._lock:
            return None if self._interrupted else next(self._supply, None)

    def _feed(self):
        argv = [sys.executable, "-B", __file__, "--work"]
        if self._options.logs:
            argv += ["--logs", str(self._options.logs.resolve())]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            while case := self._next():
                worker.stdin.write(case.name + "\n")
                worker.stdin.flush()
                line = worker.stdout.readline()
                if not line and self._interrupted:
                    break
                result = json.loads(line) if line else {"case": case.name, "result": "failed", "seconds": 0.0,
                                                        "reason": "the worker died", "what": ""}
                self.results.put(result)
                _say(result)
                if not line:
                    break
            worker.stdin.close()


def _say(result):
    print(f"{result['result']:<14} {result['seconds']:6.1f} s  {result['case']}  {result['what']}", flush=True)
    if result["reason"]:
        print(f"    {result['reason']}", flush=True)


def supply(options, seed):
    """The cases to try, one after the other."""
    if options.case:
        return iter([cases.by_name(name) for name in options.case])
    if options.random:
        return _random_until(seed, time.monotonic() + options.random * 60)
    chosen = cases.quick() if options.quick else cases.every()
    if options.only:
        chosen = [case for case in chosen if re.search(options.only, case.name)]
    random.Random(seed).shuffle(chosen)
    return iter(chosen)


def _random_until(seed, deadline):
    number = 0
    while time.monotonic() < deadline:
        number += 1
        yield cases.drawn(seed, str(number))


def main():
    options = parse(sys.argv[1:])
    if options.work:
        return work(options)
    seed = options.seed or str(random.SystemRandom().randrange(1 << 32))
    chosen = supply(options, seed)
    if options.list:
        for case in chosen:
            print(case.name)
        return 0
    print(f"seed {seed}", flush=True)
    results = Run(options, chosen).all()
    tried = [each for each in results if each["result"] != "not applicable"]
    failed = [each for each in tried if each["result"] == "failed"]
    summary = {"cases": len(tried), "passed": len(tried) - len(failed),
               "failed": [{"case": each["case"], "reason": each["reason"]} for each in failed], "seed": seed}
    if options.json:
        options.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"{len(tried)} cases, {summary['passed']} passed, {len(failed)} failed"
          f" ({len(results) - len(tried)} not applicable)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
