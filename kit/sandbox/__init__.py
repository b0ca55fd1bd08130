"""Run model-written Python: many small programs, fast, each shut off from the machine.

    with Sandbox() as box:
        result, = box.map([Job("def f(x): return x + 1", calls=(("f", (1,)),))])
        result.returned()                # [2]

    this process --frames--> worker (a warm interpreter) --fork--> a child per program

A worker runs in bubblewrap where the host allows it. The child gets resource limits and a seccomp
allowlist with no open, stat, socket, fork, exec or kill, then runs the program. It reports values,
never verdicts: expected answers stay in this process, where `same` compares plain builtins.

Promised to whoever scores answers: a program cannot pass without returning the right plain values.
It never sees the expected ones, and `__eq__`, subclasses, patched builtins or forged reports are no
values.

Promised to the machine's owner: a program reads and writes no file, no environment variable, no
memory of another process, and opens no socket.

Promised to the next program and to those beside it: the same result and the same time as if a
program had not been. Endless loops, sleepers, floods of memory, threads (256 at a time) or output,
crashes and fork bombs end with it. What is killed or stopped from outside is tried again, then
without a verdict. tests/attack/ holds each promise in every mode; tests/bench/ measures the price.

Not promised:
- A kernel bug behind the ~50 allowed system calls: put gVisor or a virtual machine below.
- Mode "plain" has only seccomp, and no file system and process ids of its own as a second wall.
- Where the kernel does not ask before a thread begins (before 5.5, gVisor), the programs of a user
  share one limit of processes, so a bomb of threads takes from its neighbours.
- Programs that open files or import what is not in `preload` fail: say so in the prompt, and
  preload more where it is wanted.
- Side channels (timing, caches) are open.
- Mode "monty", for systems without these walls, is another interpreter with a part of the library.
  What it lacks, or was not compared with Python, becomes `unsupported`. Known to be wrong: a dict
  given equal keys of two types (1, True, 1.0) keeps the last one.
- Code that earns its reward in an unwanted but legal way: see the environments.
"""

# What the kit uses; nothing here is used in this file.
# ruff: noqa: F401
from kit.sandbox.pool import Sandbox, modes
from kit.sandbox.values import arguments, call_text, canonical, literal, parse, same, text
from kit.sandbox.walls import FIX, MODES, PRELOAD, SandboxUnavailable, cores
from kit.sandbox.worker import Job, Result
