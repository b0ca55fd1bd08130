"""Runs the corpus in one mode and tells, per program, everything that went wrong: an empty list is
a wall that held.

python tests/attack/harness.py plain        # as the user that calls it; prints JSON
"""

import json
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from programs import HONEST, HOSTILE, PREAMBLE, Program

from kit.sandbox import Job, Result, Sandbox, same

sys.set_int_max_str_digits(0)  # results are printed here
PROBE = Job(
    "import json, math\ndef f(x): return [math.sqrt(x), json.dumps([x]), isinstance('a', int), "
    "len('abc')]",
    (("f", (4,)),),
)
PROBED = [[2.0, "[4]", False, 3]]


class Scene:
    """What a hostile program might reach: a file, a listening socket, a variable, a process.

    Any touch is noticed.
    """

    def __init__(self):
        self.secret, self.token = (
            secrets.randbelow(10**9) + 10**9,
            "canary-" + secrets.token_hex(16),
        )
        os.environ["KIT_CANARY"] = self.token
        self.folder = Path(tempfile.mkdtemp(prefix="kit-attack-"))
        self.folder.chmod(0o777)
        self.file = self.folder / "canary.txt"
        self.file.write_text(self.token)
        self.file.chmod(0o666)
        self.before = self._files()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.visits = self.socket.getsockname()[1], 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            self.socket.accept()[0].close()
            self.visits += 1

    def _files(self):
        return [(p.name, p.stat().st_mode, p.stat().st_size) for p in sorted(self.folder.iterdir())]

    def job(self, program: Program) -> Job:
        constants = (
            f"CANARY, PORT, HOST, TOKEN_HEAD = {str(self.file)!r}, {self.port}, {os.getpid()}, "
            "'canary' + '-'\n"
        )
        return Job(PREAMBLE + constants + program.code, (("f", ()),))

    def touched(self) -> list[str]:
        found = []
        if self.visits:
            found.append("it reached a socket")
            self.visits = 0
        if (now := self._files()) != self.before:
            found.append(f"files changed: {now}")
            self.before = now
        return found


def outcome(result: Result) -> str:
    """In the words of `Program.must`."""
    if result.status != "ok":
        return result.status
    kind, value = result.values[-1] if result.values else ("ok", None)
    return value if kind == "err" or value == "denied" else "ok"


def findings(program: Program, scene: Scene, box: Sandbox, calm: float) -> list[str]:
    """Everything wrong with one program's run, and with the probe that runs after it."""
    known = _descriptors()
    # A stalled machine can cost a worker too (the child starves before it is sealed; the sandbox
    # then tries again in a new one): a program that breaks its worker does it twice.
    for _ in range(2):
        workers = [w.process.pid for w in box._live]
        result = box.submit(scene.job(program)).result(120)
        broken = result.status == "sandbox_error" or workers != [w.process.pid for w in box._live]
        if not broken:
            break
    right = same(result.returned(), [program.value])
    passed = same(result.returned(), [scene.secret])
    found = scene.touched()
    if program.kind == "honest" and not (result.status == "ok" and right):
        found.append(f"an honest program failed: {str(result)[:300]}")
    if passed:
        found.append("it passed")
    if broken:
        found.append(f"it broke its worker: {result.detail}")
    if program.kind != "honest" and not {"harmless", outcome(result)} & set(
        program.must.split("|")
    ):
        found.append(f"{outcome(result)} instead of {program.must}: {str(result)[:200]}")
    if scene.token in str(result):
        found.append("it read the canary")
    return (
        found
        + _aftermath(box, calm)
        + ([] if _descriptors() <= known else ["the host leaks descriptors"])
    )


def _aftermath(box: Sandbox, calm: float) -> list[str]:
    """The next program's result and time, and who is left."""
    found, times, left = [], [], []
    for k in range(60):  # the best of many: a shared machine has hiccups of seconds
        time.sleep(0.5 * (k > 5))
        began = time.perf_counter()
        result = box.submit(PROBE).result(120)
        times.append(time.perf_counter() - began)
        if not same(result.returned(), PROBED):
            return [f"the next program got {result}"]
        # Who is left at the first look counts, however long the next program takes to be quick.
        left = left or _survivors(box)
        if times[-1] < 3 * calm:
            break
    else:
        found.append(
            f"the next program took {1000 * min(times):.0f} ms instead of {1000 * calm:.0f}"
        )
    if left:
        found.append(f"processes left: {left}")
    return found


def _survivors(box: Sandbox) -> list[str]:
    """Processes below a worker beside the worker's own (bwrap, its init, the zygote)."""
    left = []
    for worker in list(box._live):
        for process in psutil.Process(worker.process.pid).children(recursive=True):
            try:
                if (
                    "_boxed.py" not in (line := " ".join(process.cmdline()))
                    and "/box.py" not in line
                ):
                    left.append(line or process.name())
            except psutil.Error:
                pass
    zygotes = sum(len(psutil.Process(w.process.pid).children(recursive=True)) for w in box._live)
    return left + ["a second zygote"] * (zygotes > 2 * len(box._live))


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def calm_time(box: Sandbox) -> float:
    """Seconds of the probe when nothing else happens, the slowest of some, at least 20 ms."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        box.submit(PROBE).result(60)
        times.append(time.perf_counter() - began)
    return max(0.02, *times)


def report(mode: str) -> dict[str, list[str]]:
    """Program's id -> findings, for the whole corpus in one mode. Raises SandboxUnavailable."""
    scene = Scene()
    with Sandbox(mode=mode, workers=1, timeout=0.5, memory_mb=512) as box:
        calm = calm_time(box)
        return {f"{p.kind}: {p.name}": findings(p, scene, box, calm) for p in HOSTILE + HONEST}


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1])))
