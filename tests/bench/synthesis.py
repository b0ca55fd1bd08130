"""Is the engine what the rounds wait for, does memory stay flat, how long are prompts and answers?

python tests/bench/synthesis.py engine runs/large
    a finished run's rounds against its prompts alone, real models; about 15 minutes
python tests/bench/synthesis.py replay --seeds 10000
    recorded answers: problems per second and memory; about 20 minutes
python tests/bench/synthesis.py tokens
    recorded answers: what kit/commands/cost.py takes from them; a minute
"""

import argparse
import re
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from kit import environments, grpo, seeds
from kit.benchmarks.humaneval import humaneval_items
from kit.benchmarks.procedural import procedural_items
from kit.core import profile, records
from kit.core.manifest import RECORDED, read_manifest
from kit.core.records import Log
from kit.environments.verify import DeterminismCheck
from kit.held_out import held_out_items
from kit.sandbox import Sandbox
from kit.serving.engine import Replay, write_recording
from kit.serving.local import VLLM
from kit.synthesis import Synthesis

BLOCK = 32  # tokens: the unit of the prefix cache in kit/serving/vllm_child.py on a CPU


class Noting(Replay):
    """Answers from a run's completions, and remembers what it was asked."""

    def __init__(self, *args, **rest):
        super().__init__(*args, **rest)
        self.asked, self.answers = [], []

    def submit(self, messages, n=1, key="", sampling=None):
        self.asked.append((messages, n, key))
        self.answers.append(super().submit(messages, n, key, sampling))
        return self.answers[-1]


def engine(folder: Path, every: int) -> None:
    """A finished run's rounds against the engines' own time for the same tokens.

    The first: how long notebook 02 took, from its first line to its last figure. The second: the
    start of the same two engines, and the rate at which they answer the prompts of every
    `every`-th seed, given all at once.
    """
    manifest = read_manifest(folder)
    stage = manifest["stages"]["02_rounds"]
    settings = profile.load_profile(manifest["profile"]["name"], stage["overrides"])
    roles = {"teacher": settings.teacher, "student": settings.student}
    known = seeds.seeds_from_frame(pd.read_parquet(folder / "seeds.parquet"))
    some = {seed.id for seed in known[::every]}
    with tempfile.TemporaryDirectory() as part:
        recording = Path(part, "completions.parquet")
        write_recording(sorted((folder / "completions").glob("02_rounds-*.jsonl")), recording)
        noting = {name: Noting(role, recording=recording) for name, role in roles.items()}
        with Sandbox() as box, Sandbox(hash_seed=1) as other:
            log = Path(part, "problems.jsonl")
            check = DeterminismCheck(box, other)
            Synthesis(settings, noting["teacher"], noting["student"], check, log).generate(known)
        asked = {
            name: [ask for ask in e.asked if ask[2].split("/")[0].partition("-")[2] in some]
            for name, e in noting.items()
        }
        with (
            VLLM(roles["teacher"], stderr=Path(part, "t.log")) as teacher,
            VLLM(roles["student"], stderr=Path(part, "s.log")) as student,
        ):
            alone = {"teacher": teacher, "student": student}
            began = time.perf_counter()
            with ThreadPoolExecutor() as pool:  # side by side, as in the notebook
                list(pool.map(lambda engine: engine.child.start(), alone.values()))
            start = time.perf_counter() - began
            began = time.perf_counter()
            futures = [
                alone[name].submit(*each) for name, requests in asked.items() for each in requests
            ]
            for future in futures:
                future.result()
            seconds = time.perf_counter() - began
    whole = {
        name: sum(
            c[2]
            for row in Log(folder / f"completions/02_rounds-{name}.jsonl")
            for c in row["completions"]
        )
        for name in roles
    }
    own = {name: e.counts["tokens"] for name, e in alone.items()}
    table = Table("what", "teacher tokens", "student tokens", "seconds", "tokens/s")
    rate = sum(own.values()) / seconds
    need = start + sum(whole.values()) / rate
    for what, tokens, took in (
        ("their prompts alone, in part", own, seconds),
        ("that rate for all, and the start", whole, need),
        ("the rounds", whole, stage["seconds"]),
    ):
        table.add_row(
            what,
            *(f"{t:,}" for t in tokens.values()),
            f"{took:.0f}",
            f"{sum(tokens.values()) / took:.1f}",
        )
    Console().print(table)
    share = need / stage["seconds"]
    print(
        f"engines start in {start:.0f} s and write {rate:.1f} tokens/s; of the rounds' time they "
        f"alone need {share:.2f}, bar >= 0.90 ({len(known)} seeds; alone: {len(some)} of them)"
    )


class Copies(Replay):
    """Answers a copy of a recorded seed, `id~17`, as the recorded one."""

    def submit(self, messages, n=1, key="", sampling=None):
        return super().submit(messages, n, re.sub(r"~\d+", "", key), sampling)


def replay(count: int) -> None:
    """The chains of the recorded seeds over and over, in the real sandbox.

    Each copy has an id of its own.
    """
    settings = profile.load_profile("cpu", {"rounds.stones": 0, "rounds.baseline": False})
    recorded = seeds.seeds_from_frame(pd.read_parquet(RECORDED / "seeds.parquet"))
    each = len(settings.rounds.environments)
    splits = [
        [s for s in recorded if s.split == split and not s.as_is] for split in ("train", "held_out")
    ]
    # Of each split a multiple of the environments: every copy serves the environment that the
    # recorded one served.
    recorded = [s for mine in splits for s in mine[: len(mine) // each * each]]
    copies = [
        s.model_copy(update={"id": f"{s.id}~{k}"})
        for k in range(-(-count // len(recorded)))
        for s in recorded
    ]
    table = Table("seeds", "problems", "seconds", "problems/s", "peak memory of this process, MB")
    for part in (count // 10, count):
        with (
            tempfile.TemporaryDirectory() as folder,
            Sandbox() as box,
            Sandbox(hash_seed=1) as other,
        ):
            teacher, student = (
                Copies(role, name=role.model, recording=RECORDED / "completions.parquet")
                for role in (settings.teacher, settings.student)
            )
            began = time.perf_counter()
            check = DeterminismCheck(box, other)
            rounds = Synthesis(settings, teacher, student, check, Path(folder, "p.jsonl"))
            problems = sum(1 for _ in rounds.generate(copies[:part]))
            seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        table.add_row(
            f"{part:,}",
            f"{problems:,}",
            f"{seconds:.0f}",
            f"{problems / seconds:.1f}",
            f"{peak:.0f}",
        )
    Console().print(table)


def tokens() -> None:
    """READ, USED and VALID of kit/commands/cost.py, from the recording.

    A prompt is read but for its longest beginning, in whole blocks, that one before it had. The
    policy's are read whole (transformers keeps no cache from step to step).
    """
    problems, plan, evaluated, trained = (
        pd.read_parquet(RECORDED / f"{name}.parquet")
        for name in ("problems", "plan", "evaluation", "train")
    )
    settings = profile.load_profile(
        "cpu", {"rounds.stones": problems.chain_id[problems.method == "stones"].nunique()}
    )
    filtered = {p.id: p for p in records.load_problems(RECORDED / "filtered.parquet")}
    envs = environments.make(settings.rounds)
    noting = {
        name: Noting(role, name=role.model, recording=RECORDED / "completions.parquet")
        for name, role in (("teacher", settings.teacher), ("student", settings.student))
    }
    with tempfile.TemporaryDirectory() as folder, Sandbox() as box, Sandbox(hash_seed=1) as other:
        known = seeds.seeds_from_frame(pd.read_parquet(RECORDED / "seeds.parquet"))
        log = Path(folder, "problems.jsonl")
        check = DeterminismCheck(box, other)
        Synthesis(settings, noting["teacher"], noting["student"], check, log).generate(known)
    g, e = settings.grpo, settings.evaluation
    items = [
        *held_out_items("synthetic", filtered.values(), envs, e.synthetic),
        *held_out_items("real", filtered.values(), envs, e.real),
        *humaneval_items(e.humaneval),
        *procedural_items(e.maths),
    ]
    table = Table(
        "who", "prompts", "tokens of a prompt", "read", "share of max_tokens in an answer"
    )
    rows = []
    for who, noted in noting.items():
        written = pd.Series(
            [
                c.tokens
                for answer in noted.answers
                if not answer.exception()
                for c in answer.result()
            ]
        )
        rows.append(
            (
                who,
                noted.role.model,
                [messages for messages, *_ in noted.asked],
                written.mean(),
                noted.role.sampling.max_tokens,
            )
        )
    prompts = [
        envs[row.environment].solve_prompt(filtered[row.problem_id]) for row in plan.itertuples()
    ]
    rows.append(("policy", g.policy, prompts, trained.completion_length.mean(), g.max_tokens))
    prompts = [item.messages for item in items for _ in ("sampled", "greedy")]
    rows.append(
        (
            "evaluation",
            g.policy,
            prompts,
            evaluated.tokens.sum() / (len(evaluated) * (e.n + 1)),
            e.max_tokens,
        )
    )
    for who, model, prompts, answer, longest in rows:
        words = grpo.tokenizer(model)
        texts = [
            words.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
            for messages in prompts
        ]
        whole, seen, cached = sum(map(len, texts)), set(), 0
        for text in texts if who != "policy" else ():
            beginnings = [tuple(text[:k]) for k in range(BLOCK, len(text), BLOCK)]
            cached += BLOCK * sum(b in seen for b in beginnings)
            seen.update(beginnings)
        table.add_row(
            who,
            str(len(prompts)),
            f"{whole / len(prompts):.0f}",
            f"{(whole - cached) / len(prompts):.0f}",
            f"{answer / longest:.2f}",
        )
    Console().print(table)
    written = problems.status[problems.method != "real"]
    print(f"valid: {(written == 'valid').mean():.2f} of the teacher's problems")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_subparsers(required=True)
    one = what.add_parser("engine")
    one.add_argument("run", type=Path)
    one.add_argument(
        "--every",
        type=int,
        default=5,
        help="only every Nth seed's prompts go to the engine alone (default 5)",
    )
    one.set_defaults(call=lambda given: engine(given.run, given.every))
    two = what.add_parser("replay")
    two.add_argument("--seeds", type=int, default=10_000)
    two.set_defaults(call=lambda given: replay(given.seeds))
    what.add_parser("tokens").set_defaults(call=lambda given: tokens())
    given = parser.parse_args()
    given.call(given)
