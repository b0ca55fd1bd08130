"""A profile holds every number of a run, in one commented YAML file of `kit/profiles/`.

Each value there is marked `# paper` or `# our choice`. Unknown keys and numbers that YAML reads as text are refused.
"""

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FOLDER = Path(__file__).parent / "profiles"
EnvironmentName = Literal[
    "induction", "abduction", "deduction", "fuzzing"
]  # files in kit/environments
Bin = Literal["easy", "easy-medium", "medium", "hard"]


class ProfileError(ValueError):
    """A profile or an override is wrong; the message names the key and the fix."""


class Strict(BaseModel):
    """Base of all sections: unknown keys, numbers in quotes and later changes are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def together(rule: str, holds):
    """A check of several keys of one section; pydantic calls it when each of them is right by itself."""

    def check(self):
        if not holds(self):
            raise ValueError(rule)
        return self

    return model_validator(mode="after")(check)


class Sampling(Strict):
    """How an answer is drawn, and how long it may be (tokens)."""

    temperature: float = Field(ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(gt=0)


class Role(Strict):
    """A model and how it is asked. `engine` is `vllm` (a child process here), `openai` (an endpoint) or `replay`."""

    model: str
    engine: Literal["vllm", "openai", "replay"] = "vllm"
    sampling: Sampling
    context: int = Field(2048, gt=0)  # tokens, prompt and answer together
    concurrency: int = Field(64, gt=0)  # requests in flight
    memory: float = Field(2.0, gt=0)  # CPU: GiB of KV cache; GPU: share of the card's memory
    endpoints: list[str] = []  # engine: openai
    extra: dict[str, Any] = {}  # passed on to the endpoint, e.g. {reasoning_effort: high}
    patience: float = Field(
        10.0, ge=0
    )  # minutes without an answer of any endpoint after which a stage stops


class Needs(Strict):
    """What a machine must have for this profile; `kit doctor` compares."""

    gpus: int
    gpu_gb: float = 0  # memory of each card
    memory_gb: float
    disk_gb: float


class Seeds(Strict):
    """How many snippets of which kind, how long, and how many are held out (notebook 01)."""

    wild: int = Field(ge=0)
    real: int = Field(ge=0)
    problems: int = Field(ge=0)  # further real functions, taken as induction problems as they are
    problem_lines: int = Field(50, ge=5)  # the longest of these
    lines: list[int] = Field(min_length=2, max_length=2)
    held_out: float = Field(ge=0, lt=1)  # share of the seeds whose problems are for evaluation only
    _ordered = together(
        "lines: the first number must not be above the second", lambda s: s.lines[0] <= s.lines[1]
    )


class Rounds(Strict):
    """The loop of teacher and student: turns, attempts, what is asked for when (notebook 02)."""

    environments: list[EnvironmentName] = Field(min_length=1)
    turns: int = Field(ge=1)
    attempts: int = Field(ge=1)  # M
    harder_above: float = Field(ge=0, le=1)
    easier_at: float = Field(ge=0, le=1)
    between: Literal["harder", "easier", "vary"]
    target: list[float] = Field(
        min_length=2, max_length=2
    )  # pass rate that a new version should have
    form: Literal["one_call", "two_calls"]
    inputs: int = Field(ge=2)  # k, input/output pairs of induction
    visible: int = Field(ge=1)  # of these, how many the student sees
    equality: Literal[
        "output", "input"
    ]  # abduction: any input with the right output, or the teacher's own only
    samples: int = Field(ge=0)  # solved and failed answers shown to the teacher, each
    retries: int = Field(ge=0)  # times an invalid answer's error goes back to the teacher
    in_flight: int = Field(ge=1)  # seeds worked on at once: bounds memory, keeps the engine busy
    baseline: bool  # also sample single problems per seed, for what the chain's cost
    stones: int = Field(
        ge=0
    )  # of so many seeds also stepping stones: hard, then its medium and easy variants
    _hidden = together(
        "visible: must leave at least two of the inputs hidden", lambda s: s.visible + 2 <= s.inputs
    )
    _ordered = together(
        "easier_at: must be below harder_above", lambda s: s.easier_at < s.harder_above
    )


class Filters(Strict):
    """Which problems are kept (notebook 03)."""

    p_min: float = Field(ge=0, le=1)
    p_max: float = Field(ge=0, le=1)
    similarity: float = Field(gt=0, le=1)  # MinHash Jaccard above which two programs are duplicates
    probes: int = Field(ge=3)  # inputs on which programs are compared by behaviour
    contamination_ngram: int = Field(ge=2)
    _ordered = together("p_min: must not be above p_max", lambda s: s.p_min <= s.p_max)


class Difficulty(Strict):
    """Which of the paper's two sets of bins is used (notebook 04)."""

    bins: Literal["narrow", "broad"]


class Curriculum(Strict):
    """In which order, and from which mixture, problems are trained on (notebook 04)."""

    schedule: str
    environments: dict[EnvironmentName, float]  # weights of the mixture
    sources: dict[Literal["synthetic", "real"], float] = {"synthetic": 1.0}


class GRPO(Strict):
    """The training: policy, sizes, and what TRL is told (notebook 05)."""

    policy: str
    seed: int | None = None  # of the training alone (a study's seeds); None: the run's
    layers: int | None = Field(
        None, ge=1
    )  # only so many of the policy's last layers are trained; None: all
    steps: int = Field(ge=1)
    prompts_per_step: int = Field(ge=1)
    group_size: int = Field(ge=2)
    embeddings: bool = False  # the token embeddings are trained too
    bf16: bool = (
        True  # computed with in bfloat16; False: in float32, whose rounding changes no rollout
    )
    recompute: bool = (
        False  # activations computed anew in the backward pass: a third more time, far less memory
    )
    rollouts: Literal["transformers", "colocate", "server"] = (
        "transformers"  # colocate: vLLM on the trainer's cards; server: on its own
    )
    vllm_memory: float = Field(
        0.3, gt=0, lt=1
    )  # colocate: share of a card for vLLM's weights and KV cache
    vllm_sleep: bool = False  # colocate: vLLM gives that share up during updates
    server: str = ""  # server: its address; empty: the one that KIT_ENDPOINTS names for the policy
    devices: int = Field(
        1, ge=1
    )  # of all nodes together; a process for each, above 1 under `accelerate launch`
    nodes: int = Field(1, ge=1)
    batch: int = Field(
        ge=1
    )  # rollouts per forward and backward pass of a device; batch x devices divides prompts x group
    max_tokens: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    temperature: float = Field(gt=0)
    beta: float = Field(ge=0)
    epsilon: float = Field(gt=0)
    epsilon_high: float = Field(gt=0)
    loss_type: Literal["dr_grpo", "grpo", "dapo", "bnpo"]
    scale_rewards: Literal["none", "group", "batch"]
    save_every: int = Field(ge=1)
    keep: int = Field(
        1, ge=1
    )  # checkpoints on the disk: more than the last one for a curve in notebook 06
    _divides = together(
        "batch: batch x devices must divide prompts_per_step x group_size",
        lambda s: s.prompts_per_step * s.group_size % (s.batch * s.devices) == 0,
    )
    _nodes = together("nodes: must divide devices", lambda s: s.devices % s.nodes == 0)


class Evaluation(Strict):
    """How many problems of each set, and how they are sampled (notebook 06); 0: the set is left out."""

    synthetic: int = Field(ge=0)  # problems, over all environments, of held-out seeds
    real: int = Field(ge=0)  # held-out real functions as induction problems
    humaneval: int = Field(ge=0, le=164)
    maths: int = Field(ge=0)
    livecodebench: int = Field(0, ge=0, le=454)  # of the paper's window; asks the hub for its files
    livecodebench_v5: int = Field(0, ge=0, le=880)
    math500: int = Field(0, ge=0, le=500)
    aime24: int = Field(0, ge=0, le=30)
    folder: str = ""  # in the place of the hub: FOLDER/code_generation_lite/test.jsonl, ...
    n: int = Field(ge=1)  # samples per problem
    ks: list[int]
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(gt=0)
    _enough = together("ks: none may be above n", lambda s: max(s.ks, default=1) <= s.n)


class SandboxLimits(Strict):
    """What one untrusted program may use."""

    timeout: float = Field(gt=0)  # CPU seconds per program
    memory_mb: int = Field(gt=0)
    allow_unsafe: bool = False


class Profile(Strict):
    """All numbers of a run."""

    name: str
    about: str
    minutes: float  # measured, or marked as an estimate in the file
    needs: Needs
    seed: int = 0
    teacher: Role
    student: Role
    seeds: Seeds
    rounds: Rounds
    filters: Filters
    difficulty: Difficulty
    curriculum: Curriculum
    grpo: GRPO
    evaluation: Evaluation
    sandbox: SandboxLimits


def names() -> list[str]:
    """The profiles of the kit, by name."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def load(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """The profile `name` (or the path of a YAML file) with dotted overrides, e.g. `{"rounds.turns": 2}`; None is skipped.

    Raises ProfileError with every wrong key in one message."""
    path, values = read(name)
    for key, value in (overrides or {}).items():
        if value is not None:
            _set(values, key.split("."), value)
    try:
        return Profile.model_validate(values)
    except ValidationError as e:
        raise ProfileError(f"{path.name}:\n" + "\n".join(_explain(x) for x in e.errors())) from None


def read(name: str) -> tuple[Path, dict]:
    """The values of a file; with `base: NAME` those of that profile, except where the file says otherwise."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.exists():
        raise ProfileError(
            f"no profile {name!r}; there are {', '.join(names())}, or give the path of a .yaml file"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise ProfileError(f"{path.name} is not YAML: {e}") from None
    if not isinstance(values, dict):
        raise ProfileError(
            f"{path.name} should be a mapping of keys to values; copy kit/profiles/cpu.yaml and edit it"
        )
    base = values.pop("base", "")
    return path, _merged(read(base)[1], values) if base else values


def _merged(old: dict, new: dict) -> dict:
    return old | {
        k: _merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v
        for k, v in new.items()
    }


def _set(values: dict, keys: list[str], value: Any) -> None:
    *front, last = keys
    for key in front:
        if not isinstance(values := values.setdefault(key, {}), dict):
            raise ProfileError(
                f"{'.'.join(keys)}: {key} holds a single value, nothing stands below it"
            )
    values[last] = value


def _explain(error: dict) -> str:
    where, got = ".".join(map(str, error["loc"])), error.get("input")
    if error["type"] == "extra_forbidden":
        parent = Profile
        for key in error["loc"][:-1]:
            parent = (
                parent.model_fields[key].annotation
                if key in getattr(parent, "model_fields", {})
                else None
            )
        known = list(getattr(parent, "model_fields", {}))
        near = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return (
            f"  {where}: unknown key{meant}; known here: {', '.join(known) or 'see kit/profile.py'}"
        )
    if error["type"] == "value_error":
        return f"  {where}.{error['msg'].removeprefix('Value error, ')}"
    if isinstance(got, str) and error["type"] in ("float_type", "int_type"):
        return f"  {where}: {got!r} is text to YAML, a number is needed: write 1.0e-6 rather than 1e-6, and no quotes"
    return f"  {where}: {error['msg']} (got {got!r})"
