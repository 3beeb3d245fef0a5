"""System calls made inside another process, as somebody would who has taken it over (ptrace(2), x86-64)."""

import ctypes
import os
import pathlib
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_ATTACH, _DETACH, _GETREGS, _SETREGS, _SINGLESTEP = 16, 17, 12, 13, 9
_WALL = 0x40000000
_SYSCALL = b"\x0f\x05"
_RED_ZONE = 128

READ, CLOSE, SOCKET, CONNECT, EXECVE, OPENAT = 0, 3, 41, 42, 59, 257


class Registers(ctypes.Structure):
    """struct user_regs_struct."""
    _fields_ = [(name, ctypes.c_ulonglong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
        "ds es fs gs").split()]


class Killed(Exception):
    """The process died of the call; `signal` says how."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.signal = number


def _ptrace(request, pid, data=None):
    if _libc.ptrace(request, pid, None, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace {request} of {pid}: {os.strerror(error)}")


class Stopped:
    """A process whose main thread is stopped from the first to the last line of a `with` block."""

    def __init__(self, pid):
        self._pid = pid
        self._dead = False

    def __enter__(self):
        _ptrace(_ATTACH, self._pid)
        self._wait()
        return self

    def __exit__(self, *_):
        if not self._dead:
            try:
                _ptrace(_DETACH, self._pid)
            except ProcessLookupError:  # it was killed meanwhile: to be waited for here before its parent can
                os.waitpid(self._pid, _WALL)

    def _wait(self):
        _, status = os.waitpid(self._pid, _WALL)
        if os.WIFSIGNALED(status):
            self._dead = True
            raise Killed(os.WTERMSIG(status))
        return status


class Tracee(Stopped):
    """A Stopped process that can be made to make system calls."""

    def __enter__(self):
        super().__enter__()
        self._saved = Registers()
        _ptrace(_GETREGS, self._pid, ctypes.byref(self._saved))
        self._instruction = self._find_instruction()
        return self

    def __exit__(self, *exception):
        if not self._dead:
            _ptrace(_SETREGS, self._pid, ctypes.byref(self._saved))
        super().__exit__(*exception)

    def _find_instruction(self):
        """The address of a `syscall` instruction that the process has in its own program text."""
        with open(f"/proc/{self._pid}/mem", "rb") as memory:
            for line in pathlib.Path(f"/proc/{self._pid}/maps").read_text().splitlines():
                span, rights = line.split()[:2]
                start, end = (int(part, 16) for part in span.split("-"))
                if "x" not in rights or line.endswith("[vsyscall]"):
                    continue
                memory.seek(start)
                at = memory.read(end - start).find(_SYSCALL)
                if at >= 0:
                    return start + at
        raise AssertionError("no syscall instruction")

    def write(self, data):
        """Puts bytes on the stack of the process, where nothing lives, and returns their address."""
        address = (self._saved.rsp - _RED_ZONE - len(data)) & ~15
        with open(f"/proc/{self._pid}/mem", "wb", buffering=0) as memory:
            memory.seek(address)
            memory.write(data)
        return address

    def call(self, number, *arguments):
        """What the kernel answers: a negative errno for a failure. Killed when it ends the process."""
        registers = Registers.from_buffer_copy(self._saved)
        registers.rip = self._instruction
        registers.rax = number
        registers.orig_rax = ctypes.c_ulonglong(-1).value  # no call of its own is to be restarted meanwhile
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments):
            setattr(registers, name, ctypes.c_ulonglong(value).value)
        _ptrace(_SETREGS, self._pid, ctypes.byref(registers))
        _ptrace(_SINGLESTEP, self._pid)
        self._wait()
        _ptrace(_GETREGS, self._pid, ctypes.byref(registers))
        return ctypes.c_longlong(registers.rax).value
