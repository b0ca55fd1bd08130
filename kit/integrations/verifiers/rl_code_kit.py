"""verifiers (Prime Intellect): the taskset `rl-code-kit`, answered in one turn without tools.

    pip install . ./kit/integrations/verifiers
    vf-eval rl-code-kit -n 20 -r 4 --model NAME --client.base-url http://localhost:8000/v1 --no-push

Where our sandbox fails, the reward raises: verifiers marks the rollout as failed (`trace.ok` is
False, its reward is None) and runs it again if `--env.agent.retries.max-retries` says so. Beware
that `trace.reward` of a failed rollout reads 0.0: ask `trace.ok` first.
"""

import asyncio

import verifiers.v1 as vf

# The model alone. verifiers finds it in __all__ and makes it the default.
from verifiers.v1.harnesses.null.harness import NullHarness

from kit.dataset import load_rows, rows_of_split
from kit.grading import reward

__all__ = ["CodeEnv", "CodeTaskset", "NullHarness"]


class CodeData(vf.TaskData):
    """A row of `kit.commands.export`; the model sees its prompt only."""

    row: dict


class CodeTask(vf.Task[CodeData]):
    """One problem, with the kit's grading as its only reward."""

    @property
    def key(self) -> str:
        """The problem's id."""
        return self.data.id

    @vf.reward
    async def solved(self, trace: vf.Trace) -> float:
        """1.0 or 0.0. Raises InfrastructureError where our sandbox failed."""
        return await asyncio.to_thread(reward, self.data.row, trace.last_reply)


class CodeConfig(vf.TasksetConfig):
    """Which problems."""

    data: str = ""
    """Folder of an export, or its name on Hugging Face. Default: the recorded problems."""
    split: str = "train"


class CodeTaskset(vf.Taskset[CodeTask, CodeConfig]):
    """The problems of one split of an export."""

    def load(self) -> list[CodeTask]:
        """One task per row.

        Raises ValueError if the split is empty or there is none of that name.
        """
        tasks = []
        for row in rows_of_split(load_rows(self.config.data), self.config.split):
            name = f"{row['environment']} {row['id']}"
            data = CodeData(id=row["id"], name=name, prompt=row["prompt"], row=row)
            tasks.append(CodeTask(data, self.config.task))
        return tasks


class CodeEnvConfig(vf.SingleAgentEnvConfig):
    """One turn, and no container for a model that only talks."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig(), max_turns=1)


class CodeEnv(vf.SingleAgentEnv, vf.Env[CodeEnvConfig]):
    """One agent, one turn, on this machine. What it writes runs in `kit.sandbox`."""
