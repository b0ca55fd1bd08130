"""A profile holds every number of a run, in one commented YAML file of `kit/profiles/`.

Each value there is marked `# paper` or `# our choice`. Unknown keys and numbers that YAML reads as
text are refused.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

FOLDER = Path(__file__).parent / "profiles"
# Each name is a file in kit/environments.
EnvironmentName = Literal["induction", "abduction", "deduction", "fuzzing"]
Bin = Literal["easy", "easy-medium", "medium", "hard"]


class ProfileError(ValueError):
    """A profile or an override is wrong; the message names the key and the fix."""


class Strict(BaseModel):
    """Base of all sections: unknown keys, numbers in quotes and later changes are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def together(rule: str, holds):
    """A check of several keys of one section; it runs when each of them is right by itself."""

    def check(self):
        if not holds(self):
            raise ValueError(rule)
        return self

    return model_validator(mode="after")(check)


_Share = Annotated[float, Field(ge=0, le=1)]


class Sampling(Strict):
    """How an answer is drawn, and how long it may be (tokens)."""

    # 0: always the most likely token.
    temperature: NonNegativeFloat
    # Draw only from the most likely tokens that together have this probability.
    top_p: float = Field(1.0, gt=0, le=1)
    # The longest answer, in tokens.
    max_tokens: PositiveInt


class Role(Strict):
    """A model and how it is asked."""

    # The name of a model, as kit/models.py or the endpoint knows it.
    model: str
    # vllm: a child process on this machine; openai: an endpoint; replay: the recording.
    engine: Literal["vllm", "openai", "replay"] = "vllm"
    # How its answers are drawn.
    sampling: Sampling
    # Tokens of prompt and answer together.
    context: PositiveInt = 2048
    # Requests in flight.
    concurrency: PositiveInt = 64
    # Without a GPU: GiB of KV cache. With one: share of the card's memory.
    memory: PositiveFloat = 2.0
    # Addresses, for the engine openai.
    endpoints: list[str] = []
    # Passed on to the endpoint, for example {reasoning_effort: high}.
    extra: dict[str, Any] = {}
    # A stage stops after so many minutes without an answer from any endpoint.
    patience: NonNegativeFloat = 10.0


class Needs(Strict):
    """What a machine must have for this profile; `kit doctor` compares."""

    # Number of cards.
    gpus: int
    # Memory of each card, in GB.
    gpu_gb: float = 0
    # Main memory and free disk, in GB.
    memory_gb: float
    disk_gb: float


class Seeds(Strict):
    """How many snippets of which kind, how long, and how many are held out (notebook 01)."""

    # Snippets at random places of installed code.
    wild: NonNegativeInt
    # CodeI/O functions of reasoning-gym.
    real: NonNegativeInt
    # Further real functions, taken as induction problems as they are.
    problems: NonNegativeInt
    # The longest of these functions, in lines.
    problem_lines: int = Field(50, ge=5)
    # The shortest and the longest wild snippet, in lines.
    lines: list[int] = Field(min_length=2, max_length=2)
    # Share of the seeds whose problems are for evaluation only.
    held_out: float = Field(ge=0, lt=1)
    _ordered = together(
        "lines: the first number must not be above the second",
        lambda section: section.lines[0] <= section.lines[1],
    )


class Rounds(Strict):
    """The loop of teacher and student: turns, attempts, what is asked for (notebook 02)."""

    # What kinds of problems the teacher writes.
    environments: list[EnvironmentName] = Field(min_length=1)
    # Turns of a chain, the first one included.
    turns: PositiveInt
    # The student's attempts at each problem (M in the paper).
    attempts: PositiveInt
    # Above this pass rate the teacher is asked for a harder problem.
    harder_above: _Share
    # At or below this pass rate the teacher is asked for an easier problem.
    easier_at: _Share
    # What the teacher is asked for between these two pass rates.
    between: Literal["harder", "easier", "vary"]
    # The lowest and the highest pass rate that a new version should have.
    target: list[float] = Field(min_length=2, max_length=2)
    # Whether the teacher writes a problem in one answer or in two.
    form: Literal["one_call", "two_calls"]
    # Input/output pairs of an induction problem (k in the paper).
    inputs: int = Field(ge=2)
    # How many of these pairs the student sees.
    visible: PositiveInt
    # Abduction. output: any input with the right output is right; input: the teacher's own only.
    equality: Literal["output", "input"]
    # At most so many solved answers, and as many failed ones, are shown to the teacher.
    samples: NonNegativeInt
    # How often the error of an invalid answer goes back to the teacher.
    retries: NonNegativeInt
    # Seeds worked on at once: this bounds the memory and keeps the engine busy.
    in_flight: PositiveInt
    # Whether single problems are sampled too, from the same seeds and at the cost of a chain.
    baseline: bool
    # From so many seeds also stepping stones: a hard problem, then its medium and easy variants.
    stones: NonNegativeInt
    _hidden = together(
        "visible: must leave at least two of the inputs hidden",
        lambda section: section.visible + 2 <= section.inputs,
    )
    _ordered = together(
        "easier_at: must be below harder_above",
        lambda section: section.easier_at < section.harder_above,
    )


class Filters(Strict):
    """Which problems are kept (notebook 03)."""

    # The pass rates that are kept lie between these two.
    p_min: _Share
    p_max: _Share
    # Two programs are duplicates above this Jaccard similarity (estimated by MinHash).
    similarity: float = Field(gt=0, le=1)
    # Inputs on which the behaviour of programs is compared.
    probes: int = Field(ge=3)
    # A problem that shares so many words in a row with a benchmark is dropped.
    contamination_ngram: int = Field(ge=2)
    _ordered = together(
        "p_min: must not be above p_max", lambda section: section.p_min <= section.p_max
    )


class Difficulty(Strict):
    """Which of the paper's two sets of bins is used (notebook 04)."""

    # The edges are in kit/difficulty.py.
    bins: Literal["narrow", "broad"]


class Curriculum(Strict):
    """In which order, and from which mixture, problems are trained on (notebook 04)."""

    # A name in kit.curricula.SCHEDULES.
    schedule: str
    # Weights of the environments in the mixture.
    environments: dict[EnvironmentName, float]
    # Weights of the teacher's problems and of the real functions in the mixture.
    sources: dict[Literal["synthetic", "real"], float] = {"synthetic": 1.0}


class GRPO(Strict):
    """The training: policy, sizes, and what TRL is told (notebook 05)."""

    # The model that is trained, by name.
    policy: str
    # Seed of the training alone (a study has several). None: the run's own.
    seed: int | None = None
    # Train only so many of the policy's last layers. None: all of them.
    layers: PositiveInt | None = None
    # Updates of the policy.
    steps: PositiveInt
    # Problems that an update learns from, and the rollouts of each of them.
    prompts_per_step: PositiveInt
    group_size: int = Field(ge=2)
    # Whether the token embeddings are trained too.
    embeddings: bool = False
    # True: compute in bfloat16. False: in float32, whose rounding changes no rollout.
    bf16: bool = True
    # Compute activations again in the backward pass: a third more time, far less memory.
    recompute: bool = False
    # What draws the rollouts. colocate: vLLM on the trainer's cards; server: vLLM on its own.
    rollouts: Literal["transformers", "colocate", "server"] = "transformers"
    # colocate: share of a card's memory for vLLM's weights and KV cache.
    vllm_memory: float = Field(0.3, gt=0, lt=1)
    # colocate: whether vLLM gives that share up during updates.
    vllm_sleep: bool = False
    # server: its address. Empty: the one that KIT_ENDPOINTS names for the policy.
    server: str = ""
    # Devices of all nodes together, a process for each; above 1 start with `accelerate launch`.
    devices: PositiveInt = 1
    # Machines that the devices are spread over, equally many on each.
    nodes: PositiveInt = 1
    # Rollouts in one forward and backward pass of a device.
    batch: PositiveInt
    # The longest rollout, in tokens.
    max_tokens: PositiveInt
    # Of the optimizer.
    learning_rate: PositiveFloat
    # Of the rollouts.
    temperature: PositiveFloat
    # Weight of the KL term.
    beta: NonNegativeFloat
    # The ratio of new to old policy is clipped to 1 - epsilon and 1 + epsilon_high.
    epsilon: PositiveFloat
    epsilon_high: PositiveFloat
    # How the loss is averaged over tokens and rollouts, in TRL's words.
    loss_type: Literal["dr_grpo", "grpo", "dapo", "bnpo"]
    # Whether advantages are divided by a standard deviation, and by which.
    scale_rewards: Literal["none", "group", "batch"]
    # A checkpoint is written after so many steps.
    save_every: PositiveInt
    # Checkpoints left on the disk: more than the last one for a curve in notebook 06.
    keep: PositiveInt = 1
    _divides = together(
        "batch: batch x devices must divide prompts_per_step x group_size",
        lambda section: (
            section.prompts_per_step * section.group_size % (section.batch * section.devices) == 0
        ),
    )
    _nodes = together(
        "nodes: must divide devices", lambda section: section.devices % section.nodes == 0
    )


class Evaluation(Strict):
    """How many problems of each set, and how they are sampled (notebook 06).

    0 leaves a set out.
    """

    # Problems of held-out seeds, over all environments.
    synthetic: NonNegativeInt
    # Held-out real functions as induction problems.
    real: NonNegativeInt
    # HumanEval, and maths questions of reasoning-gym: smoke benchmarks.
    humaneval: int = Field(ge=0, le=164)
    maths: NonNegativeInt
    # LiveCodeBench: release_v6 in the paper's window, and release_v5 (both need files of the hub).
    livecodebench: int = Field(0, ge=0, le=454)
    livecodebench_v5: int = Field(0, ge=0, le=880)
    # MATH-500 and AIME 2024.
    math500: int = Field(0, ge=0, le=500)
    aime24: int = Field(0, ge=0, le=30)
    # Instead of the hub: FOLDER/code_generation_lite/test.jsonl, ...
    folder: str = ""
    # Samples per problem, and the k of each pass@k.
    n: PositiveInt
    ks: list[int]
    # How an answer is drawn, as in Sampling.
    temperature: NonNegativeFloat
    top_p: float = Field(gt=0, le=1)
    max_tokens: PositiveInt
    _enough = together(
        "ks: none may be above n", lambda section: max(section.ks, default=1) <= section.n
    )


class SandboxLimits(Strict):
    """What one untrusted program may use."""

    # CPU seconds and memory of a program.
    timeout: PositiveFloat
    memory_mb: PositiveInt
    # Where no isolation works, run programs with these limits only.
    allow_unsafe: bool = False


class Profile(Strict):
    """All numbers of a run."""

    # How a run with this profile is called, and one line for whom it is.
    name: str
    about: str
    # How long it takes. Measured, or marked as an estimate in the file.
    minutes: float
    needs: Needs
    # Of the random numbers of everything that is drawn.
    seed: int = 0
    # The model that writes problems, and the one whose pass rate measures their difficulty.
    teacher: Role
    student: Role
    # One section for each stage; its class above says what it holds.
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
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """The profile `name` (or the path of a YAML file) with dotted overrides.

    An override is, for example, `{"rounds.turns": 2}`; None is skipped.
    Raises ProfileError with every wrong key in one message.
    """
    path, values = read(name)
    for key, value in (overrides or {}).items():
        if value is not None:
            _set(values, key.split("."), value)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        lines = [f"{path.name}:", *map(_explain, error.errors())]
        raise ProfileError("\n".join(lines)) from None


def read(name: str) -> tuple[Path, dict]:
    """Path and values of a file, not checked yet.

    With `base: NAME` the values are those of that profile, except where the file says otherwise.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(
            f"no profile {name!r}; there are {', '.join(names())}, or give the path of a .yaml file"
        ) from None
    except yaml.YAMLError as error:
        raise ProfileError(f"{path.name} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ProfileError(
            f"{path.name} should be a mapping of keys to values; "
            "copy kit/profiles/cpu.yaml and edit it"
        )
    if base := values.pop("base", ""):
        values = _merged(read(base)[1], values)
    return path, values


def _merged(old: dict, new: dict) -> dict:
    """Two nested mappings as one; `new` counts where both have a value."""
    merged = dict(old)
    for key, value in new.items():
        nested = isinstance(value, dict) and isinstance(old.get(key), dict)
        merged[key] = _merged(old[key], value) if nested else value
    return merged


def _set(values: dict, keys: list[str], value: Any) -> None:
    """Put an override into nested values, at the place that its keys name."""
    *front, last = keys
    for key in front:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ProfileError(f"{'.'.join(keys)}: {key} holds a single value, not a section")
    values[last] = value


def _explain(error: ErrorDetails) -> str:
    """One line for one wrong key: where it is, what is wrong, what to do."""
    *front, last = map(str, error["loc"])
    where = ".".join([*front, last])
    got = error["input"]
    match error["type"]:
        case "extra_forbidden":
            # Only sections refuse unknown keys: go down to the one that did.
            section: Any = Profile
            for key in front:
                section = section.model_fields[key].annotation
            known = list(section.model_fields)
            near = difflib.get_close_matches(last, known, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            return f"  {where}: unknown key{meant}; known here: {', '.join(known)}"
        case "value_error":
            # A rule over several keys begins with the key to change.
            return f"  {where}.{error['msg'].removeprefix('Value error, ')}"
        case "float_type" | "int_type" if isinstance(got, str):
            return (
                f"  {where}: {got!r} is text to YAML, a number is needed: "
                "write 1.0e-6 rather than 1e-6, and no quotes"
            )
        case _:
            return f"  {where}: {error['msg']} (got {got!r})"
