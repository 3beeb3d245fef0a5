#!/usr/bin/python3
"""Lets the programs of an earlier revision and those of this checkout work together: each as the controller of the
other's agents, one on each host, and one after the other on the same state. docs/upgrades.md."""

import argparse
import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from scenarios import SCENARIOS  # noqa: E402  pylint: disable=wrong-import-position


def parse(argv):
    parser = argparse.ArgumentParser(prog="scripts/upgrade-test", description=__doc__)
    parser.add_argument("--old", metavar="FOLDER", type=pathlib.Path, required=True, help="programs of that revision")
    parser.add_argument("--only", metavar="REGEX", default="", help="only scenarios whose name matches")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the result there, too")
    return parser.parse_args(argv)


def attempt(name, old):
    began = time.monotonic()
    stage = harness.Stage()
    try:
        result, text = "works", SCENARIOS[name](stage, old, harness.BIN)
    except Exception as error:  # pylint: disable=broad-exception-caught
        result, text = "fails", f"{type(error).__name__}: {error}"
        stage.print_logs()
    finally:
        stage.close()
    seconds = round(time.monotonic() - began, 1)
    print(f"{result:<6} {seconds:6.1f} s  {name}: {text}", flush=True)
    return {"scenario": name, "result": result, "text": text, "seconds": seconds}


def main():
    options = parse(sys.argv[1:])
    harness.adopt_orphans()
    results = [attempt(name, options.old.resolve()) for name in SCENARIOS if re.search(options.only, name)]
    failed = [each for each in results if each["result"] != "works"]
    if options.json:
        options.json.write_text(json.dumps({"scenarios": results}, indent=2) + "\n", encoding="utf-8")
    print(f"{len(results)} scenarios, {len(results) - len(failed)} work, {len(failed)} fail")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
