"""`python -m kit plan`: what a profile costs before it is run: tokens, device hours, memory, disk. Orders of magnitude.

A model of P parameters (of a mixture: the active ones) needs 2 P operations to read or write a token, and 6 P to be trained on one. A device
does a part of its peak of them, another one in reading, writing and training. Those of the two CPU cores were fitted to a
measured `make run` (tests/test_plan.py); those of the GPUs are assumed until somebody measures them.
"""

import re
from dataclasses import dataclass

import pandas as pd

from kit.profile import Profile

READ = {"two_calls": 135, "one_call": 600, "student": 99, "policy": 212, "evaluation": 65}
"""Tokens of a prompt that the engine has to read; the rest it has read before (prefix cache). From the recording by
`tests/bench/rounds.py tokens`, as USED and VALID are; one_call is assumed."""
USED = {"teacher": 0.24, "student": 0.16, "policy": 0.31, "evaluation": 0.38}
"""Share of max_tokens that an answer takes."""
VALID = 0.83  # of a teacher's problems
ACTIVE = {"gpt-oss-120b": 5.1, "gpt-oss-20b": 3.6}  # billions, of mixtures of experts (model cards)
QUANTISED = {"gpt-oss-120b": 0.55, "gpt-oss-20b": 0.65}  # bytes per parameter; others 2
LAYERS = 24  # of a policy of which only the last ones are trained


@dataclass(frozen=True)
class Device:
    """`reading`, `writing`, `training`: 10^12 operations a second that arrive there. `start`: seconds until an engine answers."""

    about: str
    memory_gb: float
    reading: float
    writing: float
    training: float
    start: float


def _gpu(name: str, memory_gb: float, peak: float) -> Device:
    about = (
        f"{name}, assumed to reach 30% of {peak} TFLOP/s in reading and training, 10% in writing"
    )
    return Device(
        about, memory_gb, reading=0.3 * peak, writing=0.1 * peak, training=0.3 * peak, start=120
    )


DEVICES = {
    "cpu": Device("two CPU cores, fitted to a measured run", 16, 0.45, 0.15, 0.19, 35),
    "24gb": _gpu("RTX 4090", 24, 165),
    "80gb": _gpu("H100", 80, 990),
    "141gb": _gpu("H200", 141, 990),
}


class PlanError(ValueError):
    """A model whose size its name does not tell, or an unknown device."""


def billions(model: str) -> tuple[float, float]:
    """(all, active) parameters in billions, from the model's name. Raises PlanError."""
    short = model.rpartition("/")[2].lower()
    if not (found := re.search(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", short)):
        raise PlanError(f"the name {model!r} does not say how many parameters the model has")
    size = float(found[1]) / (1000 if found[2] == "m" else 1)
    return size, ACTIVE.get(short, size)


def device(profile: Profile, name: str = "") -> Device:
    """By name, else the smallest that has the memory per card that the profile asks for. Raises PlanError."""
    fits = [
        key
        for key, d in DEVICES.items()
        if d.memory_gb >= profile.needs.gpu_gb and (key == "cpu") == (profile.needs.gpus == 0)
    ]
    if (name or not fits) and name not in DEVICES:
        raise PlanError(f"no device {name!r} that fits; there are {', '.join(DEVICES)}")
    return DEVICES[name or fits[0]]


def stages(profile: Profile, device: Device, trainings: int = 1) -> pd.DataFrame:
    """One row per stage: requests, written (tokens), hours (of one device), memory_gb (its weights and states, over all devices).

    `trainings`: arms x seeds of a study; each is trained and evaluated, the untrained policy once."""
    r, g, e = profile.rounds, profile.grpo, profile.evaluation
    seeds = profile.seeds.wild + profile.seeds.real
    made = seeds * r.turns * (2 if r.baseline else 1) + 3 * r.stones
    calls = made * (1 if r.form == "one_call" else 2) * (1 + r.retries * (1 - VALID))
    tried = made * VALID + profile.seeds.problems
    items = (
        e.synthetic
        + e.real
        + e.humaneval
        + e.maths
        + e.livecodebench
        + e.livecodebench_v5
        + e.math500
        + e.aime24
    )
    size, active = billions(g.policy)
    trained = _trained(profile)
    rollouts = trainings * g.steps * g.prompts_per_step * g.group_size
    written = rollouts * USED["policy"] * g.max_tokens
    read = rollouts * READ["policy"]
    seconds = 2 * active * (written / device.writing + read / device.reading) / 1e3
    seconds += (2 + 4 * trained) * active * (
        written + read
    ) / device.training / 1e3 + trainings * device.start
    rows = [
        _inference(
            "teacher",
            profile.teacher.model,
            calls,
            calls,
            profile.teacher.sampling.max_tokens,
            READ[r.form],
            device,
        ),
        _inference(
            "student",
            profile.student.model,
            tried,
            tried * r.attempts,
            profile.student.sampling.max_tokens,
            READ["student"],
            device,
        ),
        ("GRPO", rollouts, written, seconds / 3600, size * (2 + 14 * trained) + 5),
        _inference(
            "evaluation",
            g.policy,
            2 * items * (1 + trainings),
            items * (e.n + 1) * (1 + trainings),
            e.max_tokens,
            READ["evaluation"],
            device,
            starts=1 + trainings,
        ),
    ]
    return pd.DataFrame(rows, columns=["stage", "requests", "written", "hours", "memory_gb"])


def _inference(
    stage: str,
    model: str,
    prompts: float,
    answers: float,
    longest: int,
    read: float,
    device: Device,
    starts: int = 1,
) -> tuple:
    size, active = billions(model)
    written = answers * USED[stage] * longest
    seconds = (
        2 * active * (written / device.writing + prompts * read / device.reading) / 1e3
        + starts * device.start
    )
    return stage, answers, written, seconds / 3600, size * _bytes(model) * 1.2 + 4


def _trained(profile: Profile) -> float:
    """Share of the policy that is trained."""
    return min(1.0, (profile.grpo.layers or LAYERS) / LAYERS)


def _bytes(model: str) -> float:
    return QUANTISED.get(model.rpartition("/")[2].lower(), 2)


def disk_gb(profile: Profile) -> float:
    """Weights of all models, checkpoints with their optimizer, the trained policy, logs."""
    models = {profile.teacher.model, profile.student.model, profile.grpo.policy}
    weights = sum(billions(m)[0] * _bytes(m) for m in models)
    return (
        weights
        + billions(profile.grpo.policy)[0] * (2 + 12 * _trained(profile)) * (profile.grpo.keep + 1)
        + 1
    )
