#!/usr/bin/python3
"""The model of the commit protocol, checked with spin, and that the check would find a mistake."""

import pathlib
import re
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MODEL = "tests/model/migration.pml"
TRANSITIONS = "src/migration/transitions.inc"
CLAIMS = ("at_most_one", "one_finally")

# What each mistake that the model can be built with breaks.
MUTANTS = {
    1: ("at_most_one", "commits before QEMU is `completed`: it may still resume by itself"),
    2: ("one_finally", "commits before the destination is ready"),
    3: ("at_most_one", "goes on after a commit that may be on disk, without an abort in its place"),
    4: ("at_most_one", "a restart rolls back what was committed"),
    5: ("at_most_one", "the destination takes the guest when it loses the source"),
    6: ("at_most_one", "the controller tells of a commit that it has not seen written"),
    7: ("one_finally", "`owned` is written before the guest runs, and a restart leaves it as it is"),
    8: ("one_finally", "a restart leaves a guest stopped that was rolled back"),
    9: ("one_finally", "a restart drops a guest that runs, as `owned` is not on disk yet"),
    10: ("at_most_one", "says `resumed` before `owned` is on disk: the source lets go of what is in no books"),
    11: ("one_finally", "`resumed` is written before the guest goes on, and a restart leaves it as it is"),
}


class Checker:
    """Builds the verifier of one form of the model."""

    def __init__(self, folder, mutant=0, transitions=None):
        self.folder = pathlib.Path(folder)
        for name in (MODEL, TRANSITIONS):
            copy = self.folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text((SOURCE / name).read_text(encoding="utf-8"), encoding="utf-8")
        if transitions is not None:
            (self.folder / TRANSITIONS).write_text(transitions, encoding="utf-8")
        here = (self.folder / MODEL).parent
        self._run(["spin", "-a", f"-DMUTANT={mutant}", "migration.pml"], here)
        self._run(["gcc", "-w", "-o", "pan", "pan.c"], here)
        self.here = here

    @staticmethod
    def _run(argv, folder):
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{argv[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def errors(self, claim):
        """How many violations of the claim a full search finds (it ends at the first), and what it printed."""
        said = self._run(["./pan", "-a", "-m100000", "-N", claim], self.here)
        if "max search depth too small" in said or "Search not completed" in said and "errors: 0" in said:
            raise AssertionError(said)
        return int(re.search(r"errors: (\d+)", said)[1]), said


class ModelTest(unittest.TestCase):

    def checker(self, **options):
        folder = tempfile.TemporaryDirectory(prefix="sl-model-")
        self.addCleanup(folder.cleanup)
        return Checker(folder.name, **options)

    def unreached(self, said):
        """The steps of the model that no run takes, but for the ends of endless loops and for mistakes not built in."""
        model = (SOURCE / MODEL).read_text(encoding="utf-8").splitlines()
        steps = re.findall(r"migration\.pml:(\d+), state \d+, \"(.*)\"", said)
        return [step for line, step in steps if step != "-end-" and "MUTANT" not in model[int(line) - 1]]

    def test_at_most_one_guest_runs_and_finally_one_does(self):
        checker = self.checker()
        for claim in CLAIMS:
            with self.subTest(claim):
                errors, said = checker.errors(claim)
                self.assertEqual(errors, 0, said)
                self.assertEqual(self.unreached(said), [], said)

    def test_each_mistake_is_found(self):
        for mutant, (claim, what) in MUTANTS.items():
            with self.subTest(what):
                errors, said = self.checker(mutant=mutant).errors(claim)
                self.assertGreater(errors, 0, said)

    def test_the_model_takes_each_transition_of_the_code_and_no_other(self):
        lines = (SOURCE / TRANSITIONS).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("TRANSITION("):
                continue
            with self.subTest(line):
                without = "\n".join(lines[:number] + lines[number + 1:]) + "\n"
                errors, said = self.checker(transitions=without).errors("at_most_one")
                self.assertGreater(errors, 0, said)
                self.assertIn("assertion violated", said)


if __name__ == "__main__":
    unittest.main()
