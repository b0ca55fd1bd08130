"""`python -m kit plan`: what a profile costs before it is run: tokens, device hours, memory, disk. Orders of magnitude.

A model of P parameters (of a mixture: the active ones) needs 2 P operations to read or write a token, and 6 P to be trained on one. A device
does not come near its peak: READING, WRITING and TRAINING say what share of it is assumed. For two CPU cores the figures agree with
what was measured (tests/test_plan.py); for GPUs they are assumptions until somebody measures them.
"""
import re
from dataclasses import dataclass

import pandas as pd

from kit.profile import Profile, Role

READING, WRITING, TRAINING = 0.3, 0.1, 0.3             # of the peak; assumed
PROMPT = {"teacher": 900, "student": 500, "policy": 300, "evaluation": 250}     # tokens of a prompt; assumed, measured for cpu
USED = 0.6                                             # of the tokens that an answer may have; assumed
VALID = 0.8                                            # of a teacher's problems; measured for cpu: 83%
ACTIVE = {"gpt-oss-120b": 5.1, "gpt-oss-20b": 3.6}     # billions, of mixtures of experts (model cards)
QUANTISED = {"gpt-oss-120b": 0.55, "gpt-oss-20b": 0.65}      # bytes per parameter; others 2


@dataclass(frozen=True)
class Device:
    """Peak speed and memory of one GPU, or of two cores."""
    name: str
    tflops: float                                      # dense, bfloat16
    memory_gb: float


DEVICES = {"cpu": Device("two CPU cores", 1.5, 16), "24gb": Device("RTX 4090", 165, 24), "80gb": Device("H100", 990, 80), "141gb": Device("H200", 990, 141)}


class PlanError(ValueError):
    """A model whose size its name does not tell."""


def billions(model: str) -> tuple[float, float]:
    """(all, active) parameters in billions, from the model's name. Raises PlanError."""
    short = model.rpartition("/")[2].lower()
    if not (found := re.search(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", short)):
        raise PlanError(f"the name {model!r} does not say how many parameters the model has")
    size = float(found[1]) / (1000 if found[2] == "m" else 1)
    return size, ACTIVE.get(short, size)


def stages(profile: Profile, device: Device) -> pd.DataFrame:
    """stage, requests, written (tokens), hours (of one device), memory_gb (of all devices of that stage together), devices."""
    r, g, e = profile.rounds, profile.grpo, profile.evaluation
    seeds = profile.seeds.wild + profile.seeds.real
    made = seeds * r.turns * (2 if r.baseline else 1) + 3 * r.stones
    calls = made * (1 if r.form == "one_call" else 2) * (1 + r.retries * (1 - VALID))
    tried = (made * VALID + profile.seeds.problems) * r.attempts
    rollouts = g.steps * g.prompts_per_step * g.group_size
    items = e.synthetic + e.real + e.humaneval + e.maths + e.livecodebench + e.livecodebench_v5 + e.math500 + e.aime24
    size, active = billions(g.policy)
    rows = [_inference("teacher", profile.teacher, calls, device), _inference("student", profile.student, tried, device, shared=r.attempts)]
    written = rollouts * USED * g.max_tokens
    tokens = written + rollouts * PROMPT["policy"]
    seconds = (2 * active * written / WRITING + (2 + 4 * _trained(profile)) * active * tokens / TRAINING) / (device.tflops * 1e3)
    rows.append(("GRPO", rollouts, written, seconds / 3600, size * (2 + 14 * _trained(profile)) + 4, g.devices))
    policy = profile.student.model_copy(update={"model": g.policy, "sampling": profile.student.sampling.model_copy(update={"max_tokens": e.max_tokens})})
    rows.append(_inference("evaluation", policy, 2 * items * (e.n + 1), device, shared=e.n))
    return pd.DataFrame(rows, columns=["stage", "requests", "written", "hours", "memory_gb", "devices"])


def _inference(name: str, role: Role, requests: float, device: Device, shared: int = 1) -> tuple:
    """`shared`: answers for which a prompt is read once."""
    size, active = billions(role.model)
    written = requests * USED * role.sampling.max_tokens
    seconds = 2 * active * (written / WRITING + requests / shared * PROMPT[name] / READING) / (device.tflops * 1e3)
    memory = size * QUANTISED.get(role.model.rpartition("/")[2].lower(), 2) * 1.2 + 2
    return name, requests, written, seconds / 3600, memory, max(1, len(role.endpoints))


def _trained(profile: Profile) -> float:
    """Share of the policy that is trained, where only its last layers are (24 assumed)."""
    return min(1.0, (profile.grpo.layers or 24) / 24)


def disk_gb(profile: Profile) -> float:
    """Weights of all models, checkpoints with their optimizer, the trained policy, logs."""
    models = {profile.teacher.model, profile.student.model, profile.grpo.policy}
    weights = sum(billions(m)[0] * QUANTISED.get(m.rpartition("/")[2].lower(), 2) for m in models)
    size = billions(profile.grpo.policy)[0]
    return weights + size * (2 + 12 * _trained(profile)) * (profile.grpo.keep + 1) + 4
