"""Confine the calling process to reading one submitted file.

A process that parses hostile bytes may be taken over by them. Three mechanisms limit what it can do
then, none of which it can undo: resource limits (CPU time, address space, no files to write, no
further processes); Landlock, which lets it open nothing but that file and Python's own modules; and
a seccomp filter, which allows the system calls of a reader and refuses the others with EPERM:
network, programs, other processes, files opened for writing. Linux without one of the last two runs
with the others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import stat
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from subprocesses import lower_limit

#: Files that a reader has open at once: its paper, the parts of a TeX project, Python's modules.
MAX_OPEN_FILES = 64
#: Folders beside Python's own from which a reader may load: shared libraries and fonts, which the
#: PDF library looks up for fonts that a paper does not embed.
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/fonts")

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class ConfinementUnavailable(OSError):
    """This system lacks a mechanism of confinement."""


def limit_resources(*, cpu_seconds: float, memory_mib: int) -> None:
    """Limit CPU time and memory; allow neither core dumps, nor file output, nor processes."""
    cpu, memory = int(cpu_seconds) + 1, memory_mib * 2**20
    for limit, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        lower_limit(limit, value)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of that process id, ends."""
    if sys.platform != "linux":
        return
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def confine(readable: Sequence[Path]) -> None:
    """Allow this process to read the named files and folders, and Python's own, and no more.

    A mechanism that the system lacks is left out; `missing_mechanisms` names it.
    """
    with suppress(ConfinementUnavailable):
        _landlock(readable)
    with suppress(ConfinementUnavailable):
        _seccomp()


@lru_cache(maxsize=1)
def missing_mechanisms() -> tuple[str, ...]:
    """Why this system confines readers less than it could: a sentence for each mechanism."""
    missing = []
    try:
        _landlock_version()
    except ConfinementUnavailable as error:
        missing.append(f"Landlock: {error}")
    try:
        _seccomp_program()
    except ConfinementUnavailable as error:
        missing.append(f"seccomp: {error}")
    return tuple(missing)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _no_new_privileges() -> None:
    """Both mechanisms ask for this of a process that is not root."""
    _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


# --- Landlock, by the kernel's documentation (userspace-api/landlock) ---

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
#: Rights over files, of the network and of scope that a version knows. What a ruleset names is
#: forbidden unless a rule allows it.
_RIGHTS = {1: (0x1FFF, 0, 0), 2: (0x3FFF, 0, 0), 3: (0x7FFF, 0, 0), 4: (0x7FFF, 3, 0)}
_RIGHTS |= {5: (0xFFFF, 3, 0), 6: (0xFFFF, 3, 3)}
#: Bytes of the ruleset that a version takes.
_RULESET_BYTES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16, 6: 24}


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def _landlock(readable: Sequence[Path]) -> None:
    version = _landlock_version()
    rights = (ctypes.c_uint64 * 3)(*_RIGHTS[version])
    ruleset = _call(_CREATE_RULESET, ctypes.byref(rights), _RULESET_BYTES[version], 0)
    try:
        for path in (*readable, *python_folders()):
            _allow_reading(ruleset, path)
        _no_new_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _landlock_version() -> int:
    if sys.platform != "linux":
        raise ConfinementUnavailable("only Linux has it")
    return min(_call(_CREATE_RULESET, None, 0, 1), max(_RIGHTS))


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # there is nothing to read
    try:
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = _PathRule(_READ_FILE | (_READ_FOLDER if is_folder else 0), place)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise ConfinementUnavailable(code, os.strerror(code))
    return result


@lru_cache(maxsize=1)
def python_folders() -> tuple[Path, ...]:
    """Where modules and shared libraries of this Python lie."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    libraries = f"{sys.base_prefix}/lib"
    found: Iterable[str] = (*map(sysconfig.get_path, names), libraries, *_SYSTEM_FOLDERS)
    return (*map(Path, dict.fromkeys(found)), Path(__file__).parent)


# --- seccomp, through the system's libseccomp, which knows the numbers of each architecture ---

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_MASKED_EQUAL = 7
_NO_SUCH_CALL = -1
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_INSTRUCTION_BYTES = 8

#: System calls of a reader: memory, its clock, open descriptors, the names and states of files.
_ALLOWED_CALLS = (
    *("brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "membarrier", "mlock"),
    *("read", "readv", "pread64", "preadv", "write", "writev", "lseek", "close", "fcntl", "dup"),
    *("recvfrom", "recvmsg", "sendto", "sendmsg", "poll", "ppoll", "select", "pselect6"),
    *("fstat", "stat", "lstat", "newfstatat", "statx", "fstatfs", "getdents64", "getcwd"),
    *("access", "faccessat", "faccessat2", "readlink", "readlinkat", "fadvise64", "ioctl"),
    *("clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "setitimer"),
    *("getrandom", "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid"),
    *("getrlimit", "getrusage", "uname", "sysinfo", "sched_yield", "sched_getaffinity"),
    *("futex", "set_robust_list", "rseq", "restart_syscall", "exit", "exit_group"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
)
#: Flags that an opening for reading does not have.
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Calls that are allowed if the argument at a position has none of these bits: a file is opened for
#: reading, a limit is asked for and not set.
_ALLOWED_WITHOUT: dict[str, tuple[int, int]] = {
    "open": (1, _WRITING),
    "openat": (2, _WRITING),
    "prlimit64": (2, 2**64 - 1),
}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


class _Filter:
    """A filter that refuses every system call but those that are allowed."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise ConfinementUnavailable("only Linux has it")
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise ConfinementUnavailable(f"{_LIBRARY} is not installed") from error
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(_REFUSE)))
        if not self._context:
            raise ConfinementUnavailable("the filter cannot be made")

    def allow(self, call: str, comparison: _Comparison | None = None) -> None:
        """Allow a call, if this architecture has it."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number == _NO_SUCH_CALL:
            return
        comparisons = [] if comparison is None else [comparison]
        array = (_Comparison * len(comparisons))(*comparisons)
        self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(_ALLOW), number, len(comparisons), array
        )

    def program(self) -> bytes:
        """The filter in the kernel's form."""
        with os.fdopen(os.memfd_create("seccomp"), "r+b") as file:
            if self._library.seccomp_export_bpf(self._context, file.fileno()) < 0:
                raise ConfinementUnavailable("the filter cannot be exported")
            file.seek(0)
            return file.read()

    def close(self) -> None:
        """Free the filter's memory."""
        self._library.seccomp_release(self._context)


class _Program(ctypes.Structure):
    _fields_ = (("n_instructions", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@lru_cache(maxsize=1)
def _seccomp_program() -> bytes:
    """The filter of every reader, made once for all of them."""
    allowed = _Filter()
    try:
        for call in _ALLOWED_CALLS:
            allowed.allow(call)
        for call, (position, bits) in _ALLOWED_WITHOUT.items():
            allowed.allow(call, _Comparison(position, _MASKED_EQUAL, bits, 0))
        return allowed.program()
    finally:
        allowed.close()


def _seccomp() -> None:
    program = _seccomp_program()
    _no_new_privileges()
    loaded = _Program(len(program) // _INSTRUCTION_BYTES, program)
    if _libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(loaded)) < 0:
        code = ctypes.get_errno()
        raise ConfinementUnavailable(code, os.strerror(code))
