"""`python -m kit plan`: what a profile costs before it is run: tokens, device hours, memory, disk.

All of it in orders of magnitude. A model of P parameters (of a mixture: the active ones) needs 2 P
operations to read or write a token, and 6 P to be trained on one. A device does a part of its peak
of them, another part in reading, writing and training. The parts of the two CPU cores were fitted
to a measured `make run` (tests/test_cost.py); those of the GPUs are assumed until somebody measures
them.
"""

import re
from dataclasses import dataclass, replace

import pandas as pd

from kit.core.config import Profile

# Tokens of a prompt that the engine has to read; the rest it has read before (prefix cache). From
# the recording by `tests/bench/synthesis.py tokens`, as USED and VALID are; one_call is assumed.
READ = {"two_calls": 135, "one_call": 600, "student": 99, "policy": 212, "evaluation": 65}

# Share of max_tokens that an answer takes.
USED = {"teacher": 0.24, "student": 0.16, "policy": 0.31, "own": 0.11, "benchmark": 0.35}

# Share of a teacher's problems.
VALID = 0.83

# Billions of active parameters of mixtures of experts (model cards).
ACTIVE = {"gpt-oss-120b": 5.1, "gpt-oss-20b": 3.6}

# Bytes per parameter; other models have 2.
QUANTISED = {"gpt-oss-120b": 0.55, "gpt-oss-20b": 0.65}

# Billions of parameters of those in the miniature: a script has none.
SMALL = {"script": 0.0, "mini": 0.0008}

# Of a policy of which only the last ones are trained.
LAYERS = 24


@dataclass(frozen=True)
class Device:
    """A kind of device, and how much of a model's work it does."""

    about: str
    memory_gb: float
    # 10^12 operations a second that arrive in reading, writing and training.
    reading: float
    writing: float
    training: float
    # Seconds until an engine answers.
    start: float


def _gpu(name, memory_gb, peak):
    """A card with assumed shares of its peak (TFLOP/s)."""
    about = (
        f"{name}, assumed to reach 30% of {peak} TFLOP/s in reading and training, 10% in writing"
    )
    return Device(about, memory_gb, 0.3 * peak, 0.1 * peak, 0.3 * peak, start=120)


DEVICES = {
    "cpu": Device("two CPU cores, fitted to a measured run", 16, 0.45, 0.15, 0.16, 35),
    "24gb": _gpu("RTX 4090", 24, 165),
    "80gb": _gpu("H100", 80, 990),
    "141gb": _gpu("H200", 141, 990),
}


class PlanError(ValueError):
    """A model whose size its name does not tell, or an unknown device."""


def billions(model: str) -> tuple[float, float]:
    """(all, active) parameters in billions, from the model's name. Raises PlanError."""
    short = model.rpartition("/")[2].lower()
    if short in SMALL:
        return SMALL[short], SMALL[short]
    found = re.search(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", short)
    if not found:
        raise PlanError(f"the name {model!r} does not say how many parameters the model has")
    size = float(found[1]) / (1000 if found[2] == "m" else 1)
    return size, ACTIVE.get(short, size)


def device(profile: Profile, name: str = "") -> Device:
    """By name, else the smallest with the memory per card that the profile asks for.

    Raises PlanError.
    """
    needs = profile.needs
    fits = [
        key
        for key, known in DEVICES.items()
        if known.memory_gb >= needs.gpu_gb and (key == "cpu") == (needs.gpus == 0)
    ]
    chosen = name or next(iter(fits), "")
    if chosen not in DEVICES:
        raise PlanError(f"no device {name!r} that fits; there are {', '.join(DEVICES)}")
    return DEVICES[chosen]


def cost_by_stage(profile: Profile, device: Device, trainings: int = 1) -> pd.DataFrame:
    """One row per stage: stage, requests, written, hours, memory_gb.

    `written` is in tokens, `hours` of one device, `memory_gb` of weights and states over all
    devices. `trainings`: arms x seeds of a study; each is trained and evaluated, the untrained
    policy once.
    """
    rounds = profile.rounds
    training = profile.grpo
    sets = profile.evaluation
    # The teacher: a chain and its baseline per seed, invalid answers repaired; stepping stones.
    seeds = profile.seeds.wild + profile.seeds.real
    made = seeds * rounds.turns * (1 + rounds.baseline) + 3 * rounds.stones
    calls = made * (1 + rounds.retries * (1 - VALID)) * (2 if rounds.form == "two_calls" else 1)
    rows = [_answers_of(profile.teacher, "teacher", device, calls, calls * READ[rounds.form])]
    # The student: attempts at the valid problems and at the real ones.
    tried = made * VALID + profile.seeds.problems
    answers = tried * rounds.attempts
    rows.append(_answers_of(profile.student, "student", device, answers, tried * READ["student"]))
    # The training: rollouts, then a forward pass of all layers and a backward pass of some.
    rollouts = trainings * training.steps * training.prompts_per_step * training.group_size
    # A prompt is read once per group, but for each rollout where activations are computed again.
    read = rollouts * READ["policy"] / (1 if training.recompute else training.group_size)
    tokens = USED["policy"] * training.max_tokens
    # transformers writes a batch until its longest answer ends.
    wait = USED["policy"] if training.rollouts == "transformers" else 1
    slower = replace(device, writing=device.writing * wait)
    row = _inference("policy", training.policy, slower, rollouts, tokens, read, trainings)
    size, active = billions(training.policy)
    share = _trained(profile)
    operations = (2 + 4 * share) * active * (row["written"] + read)
    row["hours"] += operations / device.training / 1e3 / 3600
    rows.append(row | {"stage": "GRPO", "memory_gb": size * (2 + 14 * share) + 5})
    # The evaluation: samples and one greedy answer, of each policy and of the untrained one.
    own = sets.training + sets.synthetic + sets.unsolved + sets.real + sets.strings
    others = sets.humaneval + sets.maths + sets.math500 + sets.aime24
    others += sets.livecodebench + sets.livecodebench_v5
    items = max(1, own + others)
    policies = 1 + trainings
    answers = items * (trainings * (sets.n + 1) + sets.samples("before") + 1)
    used = (own * USED["own"] + others * USED["benchmark"]) / items
    read = 2 * items * policies * READ["evaluation"]
    tokens = used * sets.max_tokens
    row = _inference("evaluation", training.policy, device, answers, tokens, read, policies)
    return pd.DataFrame([*rows, row])


def _answers_of(role, stage, device, answers, read):
    """The row of a teacher or a student."""
    tokens = USED[stage] * role.sampling.max_tokens
    return _inference(stage, role.model, device, answers, tokens, read)


def _inference(stage, model, device, answers, tokens, read, starts=1):
    """The row of a stage in which a model answers, `tokens` each; `read`: those of all prompts."""
    size, active = billions(model)
    written = answers * tokens
    operations = 2 * active * (written / device.writing + read / device.reading)
    return {
        "stage": stage,
        "requests": answers,
        "written": written,
        "hours": (operations / 1e3 + starts * device.start) / 3600,
        "memory_gb": size * _bytes(model) * 1.2 + 4,
    }


def _trained(profile):
    """Share of the policy that is trained."""
    return min(1.0, (profile.grpo.layers or LAYERS) / LAYERS)


def _bytes(model):
    """Of a parameter."""
    return QUANTISED.get(model.rpartition("/")[2].lower(), 2)


def disk_gb(profile: Profile) -> float:
    """Weights of all models, checkpoints with their optimizer, the trained policy, logs."""
    training = profile.grpo
    models = {profile.teacher.model, profile.student.model, training.policy}
    weights = sum(billions(model)[0] * _bytes(model) for model in models)
    size, _ = billions(training.policy)
    return weights + size * (2 + 12 * _trained(profile)) * (training.keep + 1) + 1


def cost_caption(profile: Profile, on: Device, rows: pd.DataFrame) -> str:
    """What stands below the table of `cost_by_stage`."""
    hours = rows.hours.sum()
    cards = max(1, profile.needs.gpus)
    return (
        f"All: {rows.written.sum():,.0f} tokens, {hours:,.2f} hours of a device, "
        f"{hours / cards:,.2f} hours if {cards} are busy all the time, "
        f"disk {disk_gb(profile):,.0f} GB. On {on.about}. "
        "Orders of magnitude: see kit/commands/cost.py for what is assumed."
    )
