"""Models that answer: weights by digest, a local vLLM, endpoints, a recording."""

from pathlib import Path

from kit.core.config import Role
from kit.serving.endpoint import Endpoint
from kit.serving.engine import Engine, Replay
from kit.serving.local import VLLM


def open_engine(
    role: Role,
    *,
    log: Path | None = None,
    name: str = "",
    seed: int = 0,
    stderr: Path | None = None,
    recording: Path | None = None,
) -> Engine:
    """The engine that `role.engine` names: vLLM here, an endpoint, or a replay.

    Args:
        role: the model, and how it is asked.
        log: JSON lines file of completions; a replay writes none.
        name: the model's name in the keys of requests; empty: `role.model`.
        seed: of everything that vLLM draws.
        stderr: file for what vLLM says.
        recording: parquet file that a replay answers from.
    Returns:
        An engine to use in a `with` block; nothing is loaded before the first request.
    Raises:
        EngineError: a replay has no recording, or the role names no endpoint.
    Source: our choice.
    """
    if role.engine == "replay":
        return Replay(role, name, recording)
    if role.engine == "openai":
        return Endpoint(role, log, name)
    return VLLM(role, log, name, seed, stderr)
