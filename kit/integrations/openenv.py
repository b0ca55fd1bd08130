"""OpenEnv: the problems as a server.

    uvicorn --factory kit.integrations.openenv:create_app --port 8000

KIT_DATA names an export; by default it serves the recorded problems. `reset(split=..., index=...)`
gives a problem's messages, `step` with an answer gives its reward and ends the episode.

A failure of our own is an error message to the client, never an observation: clients such as
verifiers' add up `reward or 0.0`, which would make a None a wrong answer. The episode stays open
after it, so the same step may be taken again.
"""

import os
import random
from typing import Any

from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field

from kit.dataset import load_rows, rows_of_split
from kit.grading import reward

# Clients at once (our choice); they share one sandbox.
SESSIONS = 256


class Answer(Action):
    """What a client sends."""

    text: str = Field(description="the whole answer, as the model wrote it")


class Task(Observation):
    """What a client gets: a problem, or the end of its episode."""

    messages: list[dict[str, str]] = Field(
        default=[], description="the chat prompt; empty after the answer"
    )
    problem_id: str = ""
    environment: str = Field(default="", description="induction, abduction, deduction or fuzzing")
    p: float | None = Field(default=None, description="the student's pass rate")


def _task(row, **more):
    return Task(problem_id=row["id"], environment=row["environment"], p=row["p"], **more)


class Problems(Environment):
    """One session: each episode is one problem and one answer.

    rows: of each split.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, rows: dict[str, list[dict]]):
        super().__init__()
        self._rows = rows
        self._row: dict | None = None
        self._state = State()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str = "train",
        index: int | None = None,
        **_: Any,
    ) -> Task:
        """Problem `index` of a split, else one drawn by `seed`.

        Raises ValueError if the split is empty or there is none of that name.
        """
        rows = rows_of_split(self._rows, split)
        if index is None:
            index = random.Random(seed).randrange(len(rows))
        row = rows[index]
        self._row = row
        self._state = State(episode_id=episode_id, step_count=0)
        return _task(row, messages=row["prompt"])

    def step(self, action: Answer, timeout_s: float | None = None, **_: Any) -> Task:
        """Grade the answer and end the episode.

        Raises ValueError before a reset or after the answer, InfrastructureError where our sandbox
        failed: then the problem stays open.
        """
        row = self._row
        if not row:
            raise ValueError("there is no open problem: an answer ends an episode, so reset first")
        value = reward(row, action.text)
        self._row = None
        self._state.step_count = 1
        return _task(row, done=True, reward=value)

    @property
    def state(self) -> State:
        """Of the episode."""
        return self._state

    # ---- OpenEnv's task API: what there is, without the answers
    def list_splits(self) -> list[str]:
        """Their names."""
        return list(self._rows)

    def num_tasks(self, split: str) -> int:
        """How many problems a split has."""
        return len(rows_of_split(self._rows, split))


def create_app():
    """The server, for `uvicorn --factory`.

    Raises kit.grading.ExportError where there is no such data.
    """
    rows = load_rows(os.environ.get("KIT_DATA", ""))
    return create_fastapi_app(
        lambda: Problems(rows), Answer, Task, max_concurrent_envs=SESSIONS, env_name="rl-code-kit"
    )
