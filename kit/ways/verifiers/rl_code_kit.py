"""verifiers (Prime Intellect): the problems as the taskset `rl-code-kit`, answered in one turn without tools.

    pip install . ./kit/ways/verifiers
    vf-eval rl-code-kit -n 20 -r 4 --model NAME --client.base-url http://localhost:8000/v1 --no-push

Where our sandbox fails, the reward raises: verifiers marks the rollout as failed (`trace.ok` is False, its reward is None) and runs it again if
`--env.agent.retries.max-retries` says so. Beware that `trace.reward` of a failed rollout reads 0.0: ask `trace.ok` first.
"""

import asyncio

import verifiers.v1 as vf
from verifiers.v1.harnesses.null.harness import (
    NullHarness,
)  # the model alone: found by its being exported, it becomes our default

from kit import export
from kit.ways import reward

__all__ = ["CodeEnv", "CodeTaskset", "NullHarness"]


class CodeData(vf.TaskData):
    """A row of `kit.export`; the model sees its prompt only."""

    row: dict


class CodeTask(vf.Task[CodeData]):
    @property
    def key(self) -> str:
        return self.data.id

    @vf.reward
    async def solved(self, trace: vf.Trace) -> float:
        return await asyncio.to_thread(reward, self.data.row, trace.last_reply)


class CodeConfig(vf.TasksetConfig):
    data: str = ""
    """Folder or hub name of an export (`python -m kit export`); by default the problems recorded in the kit."""
    split: str = "train"


class CodeTaskset(vf.Taskset[CodeTask, CodeConfig]):
    def load(self) -> list[CodeTask]:
        return [
            CodeTask(
                CodeData(
                    id=row["id"],
                    name=f"{row['environment']} {row['id']}",
                    prompt=row["prompt"],
                    row=row,
                ),
                self.config.task,
            )
            for row in export.load(self.config.data)[self.config.split]
        ]


class CodeEnvConfig(vf.SingleAgentEnvConfig):
    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig(), max_turns=1)


class CodeEnv(vf.SingleAgentEnv, vf.Env[CodeEnvConfig]):
    """One agent, one turn, on this machine: it only talks, what it writes runs in `kit.sandbox`."""
