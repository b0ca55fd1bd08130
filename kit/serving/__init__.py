"""Models that answer: weights by digest, a local vLLM, endpoints, a recording."""

from kit.core.config import Role
from kit.core.manifest import RECORDED
from kit.core.run import Run, registered_endpoints
from kit.mini.teacher import ScriptedTeacher
from kit.serving.endpoint import Endpoint
from kit.serving.engine import Engine, Replay
from kit.serving.local import VLLM


def open_engine(run: Run, role: Role, purpose: str, name: str = "") -> Engine:
    """The engine that `role.engine` names.

    Args:
        run: its completions and its log lie in this run's folder; its seed is the run's.
        role: the model, and how it is asked.
        purpose: what it is used for; its files are named after the stage and this word.
        name: of the model in the log of completions; empty: the role's.
    Returns:
        An engine to use in a `with` block; nothing is loaded before the first request.
    Raises:
        EngineError: a replay has no recording, or the role names no endpoint.
    Source: our choice.
    """
    if role.engine == "replay":
        return Replay(role, RECORDED / "completions.parquet", name)
    log = run.path(f"completions/{run.stage}-{purpose}.jsonl")
    if role.engine == "script":
        return ScriptedTeacher(role, log, name, seed=run.seed)
    if role.engine == "openai":
        # Addresses that a scheduler chose go before those of the profile.
        addresses = registered_endpoints(role.model) or role.endpoints
        return Endpoint(role.model_copy(update={"endpoints": addresses}), log, name)
    if role.engine == "transformers":
        # It loads torch, which takes seconds.
        from kit.serving.in_process import InProcess

        return InProcess(role, log, name)
    said = run.path(f"logs/{run.stage}-{purpose}.log")
    return VLLM(role, log, name, run.seed, said)
