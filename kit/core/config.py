"""The sections of a profile: every number that can be chosen, with its type and its limits."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

# Seconds after which Hugging Face, if it says nothing, is taken for unreachable.
HUB_SECONDS = 5
# Each name is a file in kit/environments.
EnvironmentName = Literal["induction", "abduction", "deduction", "fuzzing"]


class StrictModel(BaseModel):
    """Base of all sections: unknown keys, numbers in quotes, nan and later changes are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def cross_field_rule(rule: str, holds):
    """A check of several keys of one section; it runs when each of them is right by itself."""

    def check(self):
        if not holds(self):
            raise ValueError(rule)
        return self

    return model_validator(mode="after")(check)


_Share = Annotated[float, Field(ge=0, le=1)]


class Sampling(StrictModel):
    """How an answer is drawn, and how long it may be (tokens).

    A comment above a field explains it.

    Source: our choice.
    """

    # 0: always the most likely token.
    temperature: NonNegativeFloat
    # Draw only from the most likely tokens that together have this probability.
    top_p: float = Field(1.0, gt=0, le=1)
    # The longest answer, in tokens.
    max_tokens: PositiveInt


class Role(StrictModel):
    """A model and how it is asked."""

    # The name of a model, as kit/serving/models.py or the endpoint knows it.
    model: str
    # vllm: a child process on this machine; openai: an endpoint; replay: the recording;
    # script: a program that teaches (kit/mini/teacher.py); transformers: here, for small models.
    engine: Literal["vllm", "openai", "replay", "script", "transformers"] = "vllm"
    # How its answers are drawn.
    sampling: Sampling
    # Tokens of prompt and answer together.
    context: PositiveInt = 2048
    # Requests in flight.
    concurrency: PositiveInt = 64
    # GiB of KV cache. Below 1, with a GPU: share of the card's memory.
    memory: PositiveFloat = 2.0
    # Addresses, for the engine openai.
    endpoints: list[str] = []
    # Passed on to the endpoint, for example {reasoning_effort: high}.
    extra: dict[str, JsonValue] = {}
    # A stage stops after so many minutes without an answer from any endpoint.
    patience: PositiveFloat = 10.0
    _no_model = cross_field_rule(
        "engine: script asks no language model: it goes with model: script, see mini.yaml",
        lambda role: role.engine != "script" or role.model == "script",
    )


class Needs(StrictModel):
    """What a machine must have for this profile; `kit doctor` compares."""

    # Number of cards.
    gpus: int
    # Memory of each card, in GB.
    gpu_gb: float = 0
    # Main memory and free disk, in GB.
    memory_gb: float
    disk_gb: float


class SeedsConfig(StrictModel):
    """How many snippets of which kind, how long, and how many are held out (notebook 01)."""

    # Snippets at random places of installed code.
    wild: NonNegativeInt
    # CodeI/O functions of reasoning-gym.
    real: NonNegativeInt
    # Further real functions, taken as induction problems as they are.
    problems: NonNegativeInt
    # Where these come from: CodeI/O, or the language of the miniature (kit/mini).
    corpus: Literal["codeio", "mini"] = "codeio"
    # The longest of these functions, in lines.
    problem_lines: int = Field(50, ge=5)
    # The shortest and the longest wild snippet, in lines.
    lines: list[PositiveInt] = Field(min_length=2, max_length=2)
    # Share of the seeds whose problems are for evaluation only.
    held_out: float = Field(ge=0, lt=1)
    _ordered = cross_field_rule(
        "lines: the first number must not be above the second",
        lambda section: section.lines[0] <= section.lines[1],
    )


class RoundsConfig(StrictModel):
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
    target: list[_Share] = Field(min_length=2, max_length=2)
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
    # From so many train seeds also stepping stones: a hard problem, its medium and easy variants.
    stones: NonNegativeInt
    _hidden = cross_field_rule(
        "visible: must leave at least two of the inputs hidden",
        lambda section: section.visible + 2 <= section.inputs,
    )
    _ordered = cross_field_rule(
        "easier_at: must be below harder_above",
        lambda section: section.easier_at < section.harder_above,
    )
    _aimed = cross_field_rule("target: lower share first", lambda x: x.target == sorted(x.target))


class FiltersConfig(StrictModel):
    """Which problems are kept (notebook 03)."""

    # The pass rates that are kept lie between these two.
    p_min: _Share
    p_max: _Share
    # Two programs are duplicates from this Jaccard similarity on.
    similarity: float = Field(gt=0, le=1)
    # Inputs on which the behaviour of programs is compared.
    probes: int = Field(ge=3)
    # A problem that shares so many words in a row with a benchmark is dropped.
    contamination_ngram: int = Field(ge=2)
    _ordered = cross_field_rule(
        "p_min: must not be above p_max", lambda section: section.p_min <= section.p_max
    )


class DifficultyConfig(StrictModel):
    """Which of the paper's two sets of bins is used (notebook 04)."""

    # The edges are in kit/core/bins.py.
    bins: Literal["narrow", "broad"]


class CurriculumConfig(StrictModel):
    """In which order, and from which mixture, problems are trained on (notebook 04)."""

    # A name in kit.schedules.SCHEDULES, or phases as JSON, see kit.schedules.phases.
    schedule: str
    # Weights of the environments in the mixture.
    environments: dict[EnvironmentName, NonNegativeFloat]
    # Weights of the teacher's problems and of the real functions in the mixture.
    sources: dict[Literal["synthetic", "real"], NonNegativeFloat] = {"synthetic": 1.0}
    # How often one problem may be drawn in one training. None: no limit.
    repeats: PositiveInt | None = None


class TrainingConfig(StrictModel):
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
    # verified: the sandbox's verdict; random: a coin, a control that shows nothing of the answer.
    reward: Literal["verified", "random"] = "verified"
    # group: reward minus the group's mean; rejection: the reward, so only right rollouts push.
    advantage: Literal["group", "rejection"] = "group"
    # Whether advantages are divided by a standard deviation, and by which.
    scale_rewards: Literal["none", "group", "batch"]
    # A checkpoint is written after so many steps.
    save_every: PositiveInt
    # Checkpoints left on the disk: more than the last one for a curve in notebook 06.
    keep: PositiveInt = 1
    _divides = cross_field_rule(
        "batch: batch x devices must divide prompts_per_step x group_size",
        lambda section: (
            section.prompts_per_step * section.group_size % (section.batch * section.devices) == 0
        ),
    )
    _nodes = cross_field_rule(
        "nodes: must divide devices", lambda section: section.devices % section.nodes == 0
    )


class EvaluationConfig(StrictModel):
    """How many problems of each set (0: none), and how they are sampled (notebook 06)."""

    # Problems that the training drew: did it take hold at all?
    training: NonNegativeInt = 0
    # Problems of held-out seeds, over all environments; and those that no attempt solved.
    synthetic: NonNegativeInt
    unsolved: NonNegativeInt = 0
    # Held-out real functions as induction problems.
    real: NonNegativeInt
    humaneval: int = Field(ge=0, le=164)
    maths: NonNegativeInt
    # In miniature: of maths nothing but sums of digits; and steps on strings of digits.
    sums: bool = False
    strings: NonNegativeInt = 0
    # LiveCodeBench: release_v6 in the paper's window, and release_v5 (both need files).
    livecodebench: int = Field(0, ge=0, le=454)
    livecodebench_v5: int = Field(0, ge=0, le=880)
    math500: int = Field(0, ge=0, le=500)
    aime24: int = Field(0, ge=0, le=30)
    # Instead of a download: FOLDER/code_generation_lite/test.jsonl, ...
    folder: str = ""
    # Also the checkpoints in between that were kept (grpo.keep).
    checkpoints: bool = False
    # Samples per problem, and the k of each pass@k.
    n: PositiveInt
    # The same of the untrained policy: a study asks it once, for all its arms. None: n.
    n_before: PositiveInt | None = None
    ks: list[PositiveInt]
    # How an answer is drawn, as in Sampling.
    temperature: NonNegativeFloat
    top_p: float = Field(gt=0, le=1)
    max_tokens: PositiveInt
    _enough = cross_field_rule(
        "ks: none may be above n", lambda section: max(section.ks, default=1) <= section.n
    )
    _as_many = cross_field_rule(
        "n_before: must not be below n",
        lambda section: (section.n_before or section.n) >= section.n,
    )

    def samples(self, checkpoint: str) -> int:
        """Samples per problem of a checkpoint: `before` may have more than the others."""
        return self.n_before or self.n if checkpoint == "before" else self.n


class SandboxLimits(StrictModel):
    """What one untrusted program may use."""

    # CPU seconds and memory of a program.
    timeout: PositiveFloat
    memory_mb: PositiveInt
    # Where no isolation works, run programs with these limits only.
    allow_unsafe: bool = False


class Profile(StrictModel):
    """All numbers of a run."""

    # How a run with this profile, and its folder, is called, and one line for whom it is.
    name: str = Field(pattern=r"^\w[\w .+-]*$", max_length=100)
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
    seeds: SeedsConfig
    rounds: RoundsConfig
    filters: FiltersConfig
    difficulty: DifficultyConfig
    curriculum: CurriculumConfig
    grpo: TrainingConfig
    evaluation: EvaluationConfig
    sandbox: SandboxLimits
