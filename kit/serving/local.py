"""A local vLLM in a child process."""

import contextlib
import json
import os
import signal
import sys
from concurrent.futures import Future
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Lock, Thread

from kit.core.config import Role
from kit.serving.engine import Completion, Engine, EngineDown, EngineError

# vLLM's process gets these, unless the user has set them otherwise.
_CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


class Child:
    """The process of one or several VLLM engines (`kit.serving.vllm_child`).

    Args:
        config: for `kit.serving.vllm_child.main`, with the name of the model instead of its folder.
        stderr: file for what vLLM says; None: that is dropped.
    """

    # All children, by their config as JSON.
    running: dict[str, "Child"] = {}

    def __init__(self, config: dict, stderr: Path | None):
        self.config = config
        self.stderr = stderr or Path(os.devnull)
        # Where this process begins in that file.
        self.log_from = 0
        # How many engines use it.
        self.users = 0
        self.process: Popen[str] | None = None
        # Requests that are sent and not answered, by number.
        self.waiting: dict[int, Future] = {}
        # The number of the last request.
        self.last = 0
        # Nothing more will be read from it.
        self.gone = False
        self._lock = Lock()

    @classmethod
    def shared(cls, role: Role, seed: int, stderr: Path | None) -> "Child":
        """The running child of such a role, else a new one."""
        config = role.model_dump(include={"model", "context", "concurrency", "memory"})
        config["seed"] = seed
        alike = json.dumps(config)
        child = cls.running.get(alike)
        if not (child and child.alive()):
            child = cls.running[alike] = cls(config, stderr)
        child.users += 1
        return child

    def start(self) -> None:
        """Start the process, unless it runs, and wait until the model is loaded.

        Raises EngineDown with the end of its log.
        """
        with self._lock:
            if self.process:
                return
            from kit.serving import models

            name = self.config["model"]
            config = {**self.config, "model": str(models.model_path(name))}
            # To fetch a model takes long.
            if not self.users:
                raise EngineDown(f"{name} was closed before it was there")
            # The trainer's settings of malloc (see runner) would cost GB of memory here.
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
            print(f"starting vLLM with {name} ...", flush=True)
            self.stderr.parent.mkdir(parents=True, exist_ok=True)
            with self.stderr.open("ab") as log:
                self.log_from = log.tell()
                self.process = Popen(
                    [sys.executable, "-m", "kit.serving.vllm_child", json.dumps(config)],
                    env=_CHILD_ENVIRONMENT | inherited,
                    stderr=log,
                    stdin=PIPE,
                    stdout=PIPE,
                    text=True,
                    start_new_session=True,
                )
            # The first line says that the model is loaded.
            assert self.process.stdout
            try:
                ready = self.process.stdout.readline()
            except BaseException:
                # Ctrl-C: the next call starts anew.
                self._kill()
                self.process = None
                raise
            if not ready:
                self.gone = True
                raise EngineDown(self._died())
            Thread(target=self._read, daemon=True).start()

    def ask(self, request: dict) -> Future:
        """The completions of one request, as the child process writes them."""
        self.start()
        assert self.process
        sent: Future = Future()
        with self._lock:
            number = self.last = self.last + 1
            if not self.gone:
                self.waiting[number] = sent
                line = json.dumps({"id": number, **request})
                # Who does not listen any more is ended; `_read` then answers all that wait.
                try:
                    print(line, file=self.process.stdin, flush=True)
                except OSError:
                    self._kill()
                return sent
        sent.set_exception(EngineDown(self._died()))
        return sent

    def _read(self):
        """Hand each answer to the future that waits for it, until the process ends."""
        assert self.process and self.process.stdout
        # Half a line, or something else than an answer, ends the process like its own end.
        with contextlib.suppress(Exception):
            for line in self.process.stdout:
                row = json.loads(line)
                # An answer of another shape fails here: its request still waits then.
                answers = [Completion(*answer) for answer in row.get("completions", ())]
                sent = self.waiting.pop(row["id"])
                if "error" in row:
                    sent.set_exception(EngineError(row["error"]))
                else:
                    sent.set_result(answers)
        # Nobody waits for ever.
        self._kill()
        with self._lock:
            self.gone = True
            left = [*self.waiting.values()]
            self.waiting.clear()
        for sent in left:
            sent.set_exception(EngineDown(self._died()))

    def alive(self) -> bool:
        """Whether it can be asked: in use, and not started yet or running."""
        return self.users > 0 and (self.process is None or self.process.poll() is None)

    def _died(self):
        assert self.process
        said = self.stderr.read_bytes()[self.log_from :].decode(errors="replace")
        return (
            f"the vLLM process for {self.config['model']} ended (exit {self.process.wait(5)}). "
            "If it ran out of memory, lower `memory` or `concurrency` of this role in the profile. "
            f"Run the same command again to go on; nothing computed is lost.\n{said[-1500:]}"
        )

    def release(self) -> None:
        """One engine needs it no more; the last one ends the process."""
        self.users -= 1
        if not self.users:
            self._kill()

    def _kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class VLLM(Engine):
    """vLLM in a child process, which starts at the first request that the log cannot answer.

    Roles that differ only in how they ask (sampling, effort) share one process, so the weights are
    loaded once.

    Args:
        role, log, name: as for Engine.
        seed: of everything that is drawn.
        stderr: file for what vLLM says; None: that is dropped.
    """

    def __init__(
        self,
        role: Role,
        log: Path | None = None,
        name: str = "",
        seed: int = 0,
        stderr: Path | None = None,
    ):
        super().__init__(role, log, name)
        # Whether `prepare` was called.
        self.begun = False
        self.child = Child.shared(role, seed, stderr)

    def prepare(self) -> None:
        """Begin to load the model, without waiting."""

        def begin():
            # The first request will raise it again.
            with contextlib.suppress(Exception):
                self.child.start()

        if not self.begun:
            self.begun = True
            Thread(target=begin, daemon=True).start()

    def _send(self, key, messages, n, sampling):
        return self.child.ask(
            {
                "messages": messages,
                "n": n,
                "template": self.role.extra.get("chat_template_kwargs", {}),
                "sampling": sampling.model_dump(),
            }
        )

    def alive(self) -> bool:
        """Whether the child can be asked."""
        return self.child.alive()

    def close(self) -> None:
        """Leave the child; the last engine that uses it ends it."""
        self.child.release()
        super().close()
