"""Kernel layers by raw system call: limits, namespaces, Landlock, seccomp; and the probe that proves what they refuse.

Each `seal_*` returns None, or the words why the layer is not there. Nothing here needs more than the standard library. Layers
that a platform lacks are left out and reported; nothing is silently assumed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

from . import words

LAYERS = ("unprivileged", "no_new_privs", "namespaces", "limits", "landlock", "seccomp")
"""The kernel layers, in the order they are put on."""

ATTEMPTS = (
    "open_read", "open_write", "list_folder", "socket", "fork", "kill", "limit", "priority", "io_priority", "affinity",
    "scheduler", "executable_memory",
)  # fmt: skip
"""What the probe tries by raw system call; from `kill` to `scheduler` on another process of the same user."""

NOBODY = 65534

_X86 = platform.machine() == "x86_64"
_ARM = platform.machine() == "aarch64"
LINUX = sys.platform == "linux" and (_X86 or _ARM)
_AUDIT_ARCH = 0xC000003E if _X86 else 0xC00000B7

# name: (x86_64, aarch64); -1 where the machine has no such call
_CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "poll": (7, -1), "ppoll": (271, 73), "lseek": (8, 62),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "madvise": (28, 233),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "pread64": (17, 67), "select": (23, -1), "pselect6": (270, 72), "sched_yield": (24, 124), "setitimer": (38, 103),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "clone": (56, 220),
    "fork": (57, -1), "vfork": (58, -1), "exit": (60, 93), "exit_group": (231, 94), "wait4": (61, 260), "kill": (62, 129),
    "fcntl": (72, 25), "dup": (32, 23), "fstat": (5, 80), "pipe2": (293, 59), "prctl": (157, 167), "futex": (202, 98),
    "set_robust_list": (273, 99), "rseq": (334, 293), "clock_gettime": (228, 113), "gettimeofday": (96, 169),
    "getrusage": (98, 165), "prlimit64": (302, 261), "getrandom": (318, 278), "seccomp": (317, 277),
    "close_range": (436, 436), "restart_syscall": (219, 128), "set_tid_address": (218, 96), "sched_getaffinity": (204, 123),
    "sched_setaffinity": (203, 122), "sched_getscheduler": (145, 120), "sched_setscheduler": (144, 119),
    "getpriority": (140, 141), "setpriority": (141, 140), "ioprio_get": (252, 31), "ioprio_set": (251, 30),
}  # fmt: skip
_CHILD = words(
    """
    brk munmap mremap madvise futex rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack clock_gettime
    gettimeofday getrusage getpid gettid exit exit_group getrandom sched_yield restart_syscall setitimer
    """
)
_WORKER = [
    *_CHILD,
    *words(
        """
    read write close poll ppoll lseek pread64 select pselect6 getppid getuid clone fork vfork wait4 kill fcntl
    dup fstat pipe2 prctl set_robust_list rseq prlimit64 seccomp close_range set_tid_address sched_getaffinity
    """
    ),
]

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _call(*arguments: object) -> int:
    """One raw system call: its result, or minus errno."""
    ctypes.set_errno(0)
    result = int(_syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]))
    return -(ctypes.get_errno() or 1) if result == -1 else result


def _number(name: str) -> int:
    return _CALLS[name][0 if _X86 else 1]


def _why(code: int) -> str:
    return os.strerror(-code)


def seal_unprivileged() -> str | None:
    """Become `nobody` when root."""
    if os.getuid() != 0:
        return None
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        return f"cannot leave root: {error.strerror}"
    return None


def seal_no_new_privs() -> str | None:
    """No program started from here gains rights; not readable by others of the same user; no core."""
    if not LINUX:
        return "this platform has none"
    _libc.prctl(4, 0, 0, 0, 0)
    return None if _libc.prctl(38, 1, 0, 0, 0) == 0 else "refused by the kernel"


def seal_namespaces() -> str | None:
    """A network, IPC, host name, mount and process namespace of our own (through a user namespace where we are not root).

    Processes forked from now on are in the process namespace, and have no number for any process outside of it.
    """
    if not LINUX:
        return "this platform has none"
    flags = 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000 | 0x00020000
    if os.getuid() != 0:
        flags |= 0x10000000
    code = _call(272 if _X86 else 97, flags)
    return None if code == 0 else f"unshare: {_why(code)}"


def seal_root() -> str | None:
    """An empty read-only file system as the root of our mount namespace, so that no path leads anywhere."""
    mount = 165 if _X86 else 40
    root, none, kind = (ctypes.c_char_p(word) for word in (b"/", b"none", b"tmpfs"))
    code = _call(mount, none, root, 0, 0x4000 | 0x40000, 0)
    folder = next((name for name in ("/tmp", "/var", "/mnt") if os.path.isdir(name)), "/")
    if code == 0:
        options = ctypes.c_char_p(b"size=4k,nr_inodes=2,mode=555")
        code = _call(mount, none, ctypes.c_char_p(folder.encode()), kind, 1 | 2 | 4 | 8, options)
    if code != 0:
        return f"no empty root: {_why(code)}"
    try:
        os.chroot(folder)
        os.chdir("/")
    except OSError as error:
        return f"no empty root: {error.strerror}"
    return None


def drop_capabilities() -> None:
    """Give up every capability (those of a fresh user namespace included)."""
    if LINUX:
        header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
        data = ctypes.create_string_buffer(24)
        _call(126 if _X86 else 91, ctypes.cast(header, ctypes.c_void_p), ctypes.cast(data, ctypes.c_void_p))


def seal_limits(memory: int, cpu_s: int) -> str | None:
    """No descriptor, no process, no file, no core; so much address space and CPU time.

    Args:
        memory: Address space in bytes, all in all; 0 for no bound.
        cpu_s: CPU seconds after which the kernel kills.
    """
    wanted = [
        ("RLIMIT_NOFILE", 0), ("RLIMIT_NPROC", 0), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_MEMLOCK", 0),
        ("RLIMIT_MSGQUEUE", 0), ("RLIMIT_CPU", cpu_s), ("RLIMIT_STACK", 8 << 20),
    ]  # fmt: skip
    if memory:
        wanted.append(("RLIMIT_AS", memory))
    failed = []
    for name, value in wanted:
        number = getattr(resource, name, None)
        if number is None:
            continue
        try:
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (value, value))
        except (OSError, ValueError):
            failed.append(name)
    return f"not set: {', '.join(failed)}" if failed else None


def seal_landlock() -> str | None:
    """No file, no TCP, no signal and no abstract socket beyond this process tree, as far as the kernel's ABI goes."""
    if not LINUX:
        return "this platform has none"
    abi = _call(444, 0, 0, 1)
    if abi <= 0:
        return f"no Landlock: {_why(abi)}"
    bits = 13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16
    attributes = struct.pack("QQQ", (1 << bits) - 1, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    buffer = ctypes.create_string_buffer(attributes, 24)
    descriptor = _call(444, ctypes.cast(buffer, ctypes.c_void_p), size, 0)
    if descriptor < 0:
        return f"no Landlock: {_why(descriptor)}"
    code = _call(446, descriptor, 0)
    os.close(descriptor)
    return None if code == 0 else f"no Landlock: {_why(code)}"


def seal_seccomp(status_fd: int | None) -> str | None:
    """Allow a short list of system calls and refuse every other with EPERM; no executable memory.

    Args:
        status_fd: In a child, the one descriptor it may write to; None in the worker, which reads, writes, forks and waits.
    """
    if not LINUX:
        return "this platform has none"
    program = _filter(status_fd)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)))
    code = _call(_number("seccomp"), 1, 0, ctypes.cast(header, ctypes.c_void_p))
    return None if code == 0 else f"no seccomp: {_why(code)}"


def _filter(status_fd: int | None) -> bytes:
    """The BPF program, as an array of `struct sock_filter`."""
    allow, deny = 0x7FFF0000, 0x00050000 | 1
    out: list[tuple[int, int, int, int]] = []
    load, equal, at_least, bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    out += [(load, 0, 0, 4), (equal, 1, 0, _AUDIT_ARCH), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    if _X86:
        out += [(at_least, 0, 1, 0x40000000), (give, 0, 0, deny)]
    for name in _CHILD if status_fd is not None else _WORKER:
        if _number(name) >= 0:
            out += [(equal, 0, 1, _number(name)), (give, 0, 0, allow)]
    decide = [(give, 0, 0, allow), (give, 0, 0, deny)]
    for name in ("mmap", "mprotect"):  # the third argument is the protection: no PROT_EXEC
        out += [(equal, 0, 4, _number(name)), (load, 0, 0, 32), (bits, 1, 0, 4), *decide]
    if status_fd is not None:
        out += [(equal, 0, 4, _number("write")), (load, 0, 0, 16), (equal, 0, 1, status_fd), *decide]
    out.append((give, 0, 0, deny))
    return b"".join(struct.pack("HBBI", *line) for line in out)


def die_with_parent() -> None:
    """Be killed when the worker goes."""
    if LINUX:
        _libc.prctl(1, signal.SIGKILL, 0, 0, 0)


def standing() -> list[object]:
    """What another process of the same user can change of this one where seccomp is missing: limits, priorities, scheduling."""
    if not LINUX:
        return []
    mask = ctypes.create_string_buffer(128)
    limits: list[object] = [resource.getrlimit(number) for number in range(16)]
    kept = [
        _call(_number(name), *more)
        for name, more in (("getpriority", (0, 0)), ("ioprio_get", (1, 0)), ("sched_getscheduler", (0,)))
    ]
    return [limits, kept, _call(_number("sched_getaffinity"), 0, 128, mask), mask.raw]


def try_everything(victim: int) -> list[bool]:
    """Try, by raw system call, what no program may do.

    Args:
        victim: Another process of the same user.

    Returns:
        For each of `ATTEMPTS` whether it worked.
    """
    at_cwd, folder = -100, 0x10000
    root, secret, drop = (ctypes.c_char_p(name) for name in (b"/", b"/etc/passwd", b"/tmp/.label-factory-probe"))
    openat = 257 if _X86 else 56
    results = [
        _call(openat, at_cwd, secret, 0) >= 0,
        _call(openat, at_cwd, drop, 0o101, 0o600) >= 0,
        _call(openat, at_cwd, root, folder) >= 0,
        any(_call(41 if _X86 else 198, family, kind, 0) >= 0 for family in (1, 2, 10, 16) for kind in (1, 2, 3)),
    ]
    child = _call(_number("clone"), 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    results.append(child > 0)
    results.append(_call(_number("kill"), victim, 0) == 0)
    nothing, mask = ctypes.create_string_buffer(16), ctypes.create_string_buffer(128)
    _call(_number("sched_getaffinity"), 0, 128, mask)
    results += [  # each sets what is set already
        _call(_number("prlimit64"), victim, resource.RLIMIT_CORE, nothing, 0) == 0,
        _call(_number("setpriority"), 0, victim, 20 - _call(_number("getpriority"), 0, 0)) == 0,
        _call(_number("ioprio_set"), 1, victim, 0) == 0,
        _call(_number("sched_setaffinity"), victim, 128, mask) == 0,
        _call(_number("sched_setscheduler"), victim, 0, nothing) == 0,
    ]
    results.append(_call(_number("mmap"), 0, 4096, 7, 0x22, -1, 0) > 0)
    return results
