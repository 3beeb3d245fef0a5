"""What every end-to-end test needs: a folder, processes that never outlive the test, ports, waiting.

    class MyTest(harness.TestCase):
        def test_it(self):
            daemon = self.start("daemon", [harness.binary("sealift-agentd"), "--flag"])
            daemon.wait_for_output("ready", timeout=10)

    if __name__ == "__main__":
        harness.main()
"""

import atexit
import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

_HERE = pathlib.Path(__file__).resolve().parent
SOURCE = pathlib.Path(os.environ.get("SEALIFT_SOURCE") or _HERE.parent.parent)
BIN = pathlib.Path(os.environ.get("SEALIFT_BIN") or SOURCE / "build/bin")
GUEST = pathlib.Path(os.environ.get("SEALIFT_GUEST") or SOURCE / ".cache/guest")

_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def binary(name):
    """The path of one of our programs, e.g. "sealift-agentd"."""
    path = BIN / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not built (SEALIFT_BIN names another folder)")
    return path


def wait_for(condition, timeout, what):
    """Returns the first true result of condition(); fails naming `what` after `timeout` seconds.

    For things that can only be looked at. Where an event can be waited for (a QMP event, a line of
    output, the end of a process), wait for that instead.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(_POLL_SECONDS)
    return result


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago; it is in the range the kernel picks from."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def remaining(deadline):
    """Seconds until `deadline` of time.monotonic(), for a timeout argument; never below zero."""
    return max(0.0, deadline - time.monotonic())


class Process:
    """A child with its output (both kinds, unless told otherwise) in a file. It is killed when the test program ends."""

    def __init__(self, name, argv, log, **options):
        self.name = name
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, **options}
            self._child = subprocess.Popen([str(word) for word in argv], stderr=output,
                                           preexec_fn=_die_with_parent, process_group=0, **options)

    @property
    def pid(self):
        return self._child.pid

    def is_running(self):
        return self._child.poll() is None

    def output(self):
        return self.log.read_text(errors="replace")

    def wait(self, timeout):
        """Waits for the end of the process and returns its exit status (negative: by that signal)."""
        return self._child.wait(timeout)

    def signal(self, number):
        self._child.send_signal(number)

    def stop(self, timeout=10):
        """Ends it with SIGTERM, after `timeout` seconds with SIGKILL; returns the exit status."""
        self._child.terminate()
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self):
        self._child.kill()
        return self._child.wait()

    def wait_for_output(self, pattern, timeout):
        """Waits for text that matches `pattern`; fails at once when the process ends without it."""
        def found():
            running = self.is_running()
            match = re.search(pattern, self.output(), re.MULTILINE)
            if not match and not running:
                raise AssertionError(f"{self.name} ended without '{pattern}':\n{self.output()}")
            return match
        return wait_for(found, timeout, f"'{pattern}' in the output of {self.name}")


class Stage:
    """A folder, `dir`, with a path short enough for unix sockets (107 bytes), and what was started in
    it. close() ends and removes all of it."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sl-", dir="/tmp"))
        _folders.add(self.dir)
        self._processes = []
        self._cleanups = contextlib.ExitStack()

    def addCleanup(self, function, *args):  # named as unittest's
        self._cleanups.callback(function, *args)

    def start(self, name, argv, **options):
        """Starts a Process of that name that logs to self.dir/NAME.log."""
        process = Process(name, argv, self.dir / f"{name}.log", **options)
        self._processes.append(process)
        return process

    def start_piped(self, name, argv, connection):
        """The same, with a socket as its input and output; its messages go to the log."""
        return self.start(name, argv, stdin=connection, stdout=connection)

    def print_logs(self):
        for log in sorted(self.dir.glob("*.log")):
            print(f"--- {log.stem}\n{log.read_text(errors='replace')}", file=sys.stderr, flush=True)

    def close(self):
        self._cleanups.close()
        for process in self._processes:
            process.kill()
        kill_children()
        _remove_folder(self.dir)


class TestCase(unittest.TestCase):
    """Gives each test a Stage. When a test fails, the logs of its processes are printed."""

    def setUp(self):
        self.stage = Stage()
        self.dir = self.stage.dir
        self.start = self.stage.start
        self.start_piped = self.stage.start_piped
        self.addCleanup(self.stage.close)
        self.addCleanup(self._print_logs)

    def _print_logs(self):
        if failed(self):
            self.stage.print_logs()


def failed(test):
    """For a cleanup of a test: whether it has failed."""
    result = test._outcome.result  # unittest offers no public way to ask this in a cleanup
    return any(case is test for case, _ in result.failures + result.errors)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _children(pid):
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it is gone
        return []


def kill_children():
    """Ends every descendant. This process adopts orphans (see main), so that what a daemon left
    running on purpose, a QEMU for one, is among them."""
    while children := _children(os.getpid()):
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # another thread waited for it
                os.kill(child, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


_INTERRUPTS = (signal.SIGTERM, signal.SIGINT)

_folders = set()


def _remove_folder(folder):
    shutil.rmtree(folder, ignore_errors=True)
    _folders.discard(folder)


@atexit.register
def _clean_up():
    kill_children()
    for folder in list(_folders):
        _remove_folder(folder)


def _interrupt(_number, _frame):
    for number in _INTERRUPTS:  # a second one must not end the cleaning up
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def adopt_orphans():
    """Makes this process the parent of what its children leave behind, and SIGTERM end it as Ctrl-C
    does, with everything cleaned up."""
    for number in _INTERRUPTS:
        signal.signal(number, _interrupt)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def main():
    """Runs the tests of the calling file."""
    adopt_orphans()
    unittest.main(verbosity=2)
