"""OpenEnv: the problems as a server. `reset(split=..., index=...)` gives a problem's messages, `step` with an answer its reward and the end.

    uvicorn --factory kit.ways.openenv:app --port 8000         # KIT_DATA names an export; by default the recorded problems

A failure of our own is an error message to the client, never an observation: clients such as verifiers' add up `reward or 0.0`, which would make
a None a wrong answer. The episode stays open after it, so the same step may be taken again.
"""

import os
import random
from typing import Any

from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field

from kit import export
from kit.ways import reward

SESSIONS = 256  # clients at once (our choice); they share one sandbox
PUBLIC = (
    "id",
    "prompt",
    "environment",
    "source",
    "method",
    "bin",
    "p",
)  # of a row; the rest would give answers away


class Answer(Action):
    text: str = Field(description="the whole answer, as the model wrote it")


class Task(Observation):
    messages: list[dict[str, str]] = Field(
        default=[], description="the chat prompt; empty after the answer"
    )
    problem_id: str = ""
    environment: str = Field(default="", description="induction, abduction, deduction or fuzzing")
    p: float | None = Field(default=None, description="the student's pass rate")


class Problems(Environment):
    """One session: each episode is one problem, one answer. Raises ValueError for a step before a reset or after the answer."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, rows: dict[str, list[dict]]):
        super().__init__()
        self._rows, self._row, self._state = rows, None, State()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str = "train",
        index: int | None = None,
        **_: Any,
    ) -> Task:
        """Problem `index` of a split, else one drawn by `seed`."""
        rows = self._split(split)
        self._row = rows[random.Random(seed).randrange(len(rows)) if index is None else index]
        self._state = State(episode_id=episode_id, step_count=0)
        return Task(
            messages=self._row["prompt"],
            problem_id=self._row["id"],
            environment=self._row["environment"],
            p=self._row["p"],
        )

    def step(self, action: Answer, timeout_s: float | None = None, **_: Any) -> Task:
        if not self._row:
            raise ValueError("there is no open problem: an answer ends an episode, so reset first")
        row = self._row
        value = reward(
            row, action.text
        )  # raises where our sandbox failed, and the problem stays open
        self._row, self._state.step_count = None, 1
        return Task(
            problem_id=row["id"],
            environment=row["environment"],
            p=row["p"],
            done=True,
            reward=value,
        )

    @property
    def state(self) -> State:
        return self._state

    def _split(self, name: str) -> list[dict]:
        if not self._rows.get(name):
            raise ValueError(
                f"there is no problem in a split {name!r}: there are {', '.join(name for name, some in self._rows.items() if some)}"
            )
        return self._rows[name]

    # ---- OpenEnv's task API: what there is, without the answers
    def list_splits(self) -> list[str]:
        return list(self._rows)

    def num_tasks(self, split: str) -> int:
        return len(self._split(split))

    def get_task(self, split: str, index: int) -> dict:
        return {name: self._split(split)[index][name] for name in PUBLIC}


def app():
    """The server, for `uvicorn --factory`. Raises kit.export.ExportError where there is no such data."""
    rows = export.load(os.environ.get("KIT_DATA", ""))
    return create_fastapi_app(
        lambda: Problems(rows), Answer, Task, max_concurrent_envs=SESSIONS, env_name="rl-code-kit"
    )
