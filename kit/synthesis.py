"""Multi-turn generation: the teacher writes a problem, the student tries it M times, and so on.

`Synthesis.chain` is the paper's loop (sec. 4). Beside it stand the single-turn baseline that it is
compared with, and the stepping stones. All seeds meet in the two engines, which always have work.

A problem is written down when it is complete, and stays on the disk. A run that is started again
skips what it finds written, and takes completions of unfinished turns from the engines' logs.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from kit import environments
from kit.core.bins import NARROW
from kit.core.config import Profile, RoundsConfig
from kit.core.records import Log, RecordError
from kit.core.tells import Watch, progress
from kit.core.types import Problem, Rejected, Sample, SeedSnippet, Verdict
from kit.environments.base import Dialogue, Environment
from kit.environments.verify import DeterminismCheck
from kit.serving.aio import run_coroutine
from kit.serving.engine import Completion, Engine, EngineDown, NotRecorded
from kit.serving.weights import ModelError
from kit.teacher import TeacherDialogue


def adapt(p: float, numbers: RoundsConfig) -> str:
    """What the teacher is asked for next.

    Args:
        p: pass rate of the student on this version, 0 to 1.
        numbers: the profile's section `rounds`.
    Returns:
        "harder", "easier" or "vary".
    Source: paper (harder above 0.65, easier at 0); in between our choice.
    """
    if p > numbers.harder_above:
        return "harder"
    return "easier" if p <= numbers.easier_at else numbers.between


def target_pass_rates(ask: str, numbers: RoundsConfig) -> list[float]:
    """The pass rates that the teacher is asked to aim at.

    Args:
        ask: what it is asked for: new, harder, easier, vary; hard, medium, easy (stepping stones).
        numbers: the profile's section `rounds`.
    Returns:
        Lowest and highest pass rate: the narrow bin of a stepping stone, else the profile's band.
    Source: paper (the bins and the band).
    """
    bands = {part.name: [part.low, part.high] for part in NARROW}
    return bands.get(ask, numbers.target)


class Synthesis:
    """One run of the loop. `generate` is the only method that a notebook needs.

    Args:
        profile: its section `rounds` holds the numbers of the loop.
        teacher: writes problems.
        student: tries them.
        check: two sandboxes; its primary one also runs the attempts.
        log: file of the finished problems (JSON lines); it may hold some already.
    Source: paper, sec. 4 (the chain, the baseline, the stones); the way they are run is our choice.
    """

    def __init__(
        self, profile: Profile, teacher: Engine, student: Engine, check: DeterminismCheck, log: Path
    ):
        self.numbers = profile.rounds
        self.teacher = teacher
        self.student = student
        self.check = check
        self.environments = environments.make(profile.rounds)
        self.log = Log(log, Problem)
        # (chain_id, turn) -> place in the log. Problems lost by our own errors are tried again.
        self.done: dict[tuple[str, int], int] = {}
        for place, row in self.log.places():
            if row["status"] != "error":
                self.done.setdefault((row["chain_id"], row["turn"]), place)
        self.counts: Counter[str] = Counter()
        self.watch = Watch()
        # The progress bar, while `generate` runs, and the problems so far of each seed at work.
        self.bar: Any = None
        self.made: Counter[str] = Counter()

    def generate(
        self, seeds: Iterable[SeedSnippet], rank: int = 0, shards: int = 1
    ) -> Iterator[Problem]:
        """Make every problem: chains, single-turn baseline, stepping stones and real data.

        Resumable. What engine or sandbox lost has the status `error`: the next run tries it again.

        Args:
            seeds: all seeds of the run.
            rank: of this shard, from 0.
            shards: only every `shards`-th seed is done, in the way in which it is done among all.
        Returns:
            The problems, sorted by chain and turn, read from the log one by one.
        Raises:
            EngineDown: an engine is gone; run the same again.
            NotRecorded: a replay does not have a prompt.
            RecordError: the disk is full.
        Source: paper, sec. 4.
        """
        work = list(self._work(seeds))[rank::shards]
        most = sum(self._most(seed, stones) for seed, _, stones in work)
        bar = progress(total=most, desc="problems", smoothing=0.05)
        with bar as self.bar, closing(self.log):
            run_coroutine(self._all(work))
        return map(self._at, sorted(self.done))

    def _most(self, seed, stones):
        """How many problems a seed gives, if its chain goes on to the end."""
        full = self.numbers.turns * (1 + self.numbers.baseline) + 3 * stones
        return 1 if seed.as_is else full

    def _at(self, place):
        """A recorded problem."""
        return Problem.model_validate(self.log.at(self.done[place]))

    def _work(self, seeds):
        """(seed, the environment that it serves, whether it has stepping stones)."""
        names = self.numbers.environments
        in_turn: defaultdict[str, Iterator] = defaultdict(lambda: cycle(names))
        # The first seeds that can have stones: no held-out ones, no real data (our choice).
        able = (seed.id for seed in seeds if seed.split == "train" and not seed.as_is)
        chosen = set(islice(able, self.numbers.stones))
        for seed in seeds:
            if seed.as_is:
                # Real data are induction problems, as in the paper.
                yield seed, self.environments["induction"], False
            else:
                # The others serve the environments in turn, within their split (our choice).
                env = self.environments[next(in_turn[seed.split])]
                yield seed, env, seed.id in chosen

    async def _all(self, work):
        """All seeds side by side, at most `in_flight` of them at once."""
        room = asyncio.Semaphore(self.numbers.in_flight)
        async with asyncio.TaskGroup() as tasks:
            for seed, env, stones in work:
                await room.acquire()
                task = tasks.create_task(self._one(seed, env, stones))
                task.add_done_callback(lambda _: room.release())

    async def _one(self, seed, env, stones):
        """Everything that is made of one seed, side by side."""
        async with asyncio.TaskGroup() as tasks:
            if seed.as_is:
                tasks.create_task(self.turn(env, seed, "real", 1, "new"))
            else:
                # The chain tells the baseline what its turns have cost.
                turns: asyncio.Queue[Problem | None] = asyncio.Queue()
                tasks.create_task(self.chain(seed, env, turns))
                if self.numbers.baseline:
                    tasks.create_task(self.single(seed, env, turns))
                if stones:
                    tasks.create_task(self.stones(seed, env))
        # A chain that ended early, or a baseline that drew more: now it is known.
        self.bar.total += self.made.pop(seed.id, 0) - self._most(seed, stones)

    async def chain(self, seed: SeedSnippet, env: Environment, turns: asyncio.Queue) -> None:
        """The paper's loop: each turn sees the previous problem and how its attempts went.

        Nothing older is shown. Every problem goes into `turns`, and None at the end.
        """
        problem: Problem | None = None
        asked = "new"
        for turn in range(1, self.numbers.turns + 1):
            # The teacher writes a version (turn 1: from the seed), the student tries it M times.
            problem = await self.turn(env, seed, "multi", turn, asked, parent=problem)
            turns.put_nowait(problem)
            # No pass rate: invalid even after a retry, or lost by our error. The chain ends here.
            if problem.p is None:
                break
            # Solved often: ask for a harder version. Never solved: ask for an easier one.
            asked = adapt(problem.p, self.numbers)
        turns.put_nowait(None)

    async def single(self, seed: SeedSnippet, env: Environment, turns: asyncio.Queue) -> None:
        """The single-turn baseline: problems drawn independently from the same seed.

        It draws until it has cost the teacher as many tokens as the chain, at most twice as many
        problems as a chain can have. `yields.equal_budget` cuts both to the same cost.
        """
        # As many draws as a chain has turns begin at once: an engine is faster with more to do.
        draws = self.numbers.turns
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(self.turn(env, seed, "single", draw, "new"))
                for draw in range(2, draws + 1)
            ]
            # The chain's own first turn is such a draw: shared, it saves one a seed (our choice).
            first = await turns.get()
            self._keep(first.with_(method="single", chain_id=f"single-{seed.id}"))
        granted = first.teacher_tokens
        spent = granted + sum(task.result().teacher_tokens for task in others)
        # Each further turn of the chain grants the baseline as many tokens as it has cost.
        while problem := await turns.get():
            granted += problem.teacher_tokens
            while draws < 2 * self.numbers.turns and spent < granted:
                draws += 1
                extra = await self.turn(env, seed, "single", draws, "new")
                spent += extra.teacher_tokens

    async def stones(self, seed: SeedSnippet, env: Environment) -> None:
        """Stepping stones, top-down (paper): a hard problem, then a medium and an easy variant."""
        hard = await self.turn(env, seed, "stones", 1, "hard")
        if hard.p is not None:
            await asyncio.gather(
                self.turn(env, seed, "stones", 2, "medium", parent=hard),
                self.turn(env, seed, "stones", 3, "easy", parent=hard),
            )

    async def turn(
        self,
        env: Environment,
        seed: SeedSnippet,
        method: str,
        turn: int,
        asked: str,
        parent: Problem | None = None,
    ) -> Problem:
        """One problem: written, verified, tried M times, recorded."""
        chain_id = f"{method}-{seed.id}"
        if (chain_id, turn) in self.done:
            self._count(seed.id)
            return self._at((chain_id, turn))
        facts: dict[str, Any] = {
            "method": method,
            "turn": turn,
            "asked": asked,
            "parent_id": parent.id if parent else "",
            "chain_id": chain_id,
            "seed_id": seed.id,
            "source": seed.source,
            "split": seed.split,
            "environment": env.name,
            "teacher": "" if seed.as_is else self.teacher.name,
            "student": self.student.name,
        }
        aim = target_pass_rates(asked, self.numbers)

        # The first turn starts from the seed, every other one from the problem before it alone.
        def begin() -> Dialogue:
            return env.revise(parent, asked, aim) if parent else env.propose(seed.text, asked, aim)

        talk = TeacherDialogue(self.teacher, f"{chain_id}/{turn}", self.numbers.retries)
        # The student's engine may start while the teacher writes.
        self.student.prepare()
        try:
            if seed.as_is:
                problem = await asyncio.to_thread(self._as_is, env, seed)
            else:
                problem = await talk.problem(begin, lambda draft: env.verify(draft, self.check))
            problem = await self.attempt(env, problem.with_(**facts))
        # Invalid after all retries: the teacher's fault, counted against it.
        except Rejected as error:
            problem = Problem(status="invalid", reason=error.reason, **facts)
        # There is no engine (any more), or the disk is full: the whole run stops.
        except (NotRecorded, EngineDown, ModelError, RecordError):
            raise
        # Lost by us, whatever a model wrote: counted against nobody, and it ends no other chain.
        except Exception as error:
            problem = Problem(status="error", reason=Verdict.of_fault(error).reason, **facts)
        problem = problem.with_(prompt=talk.prompt, raw=talk.raw, teacher_tokens=talk.tokens)
        self._keep(problem)
        return problem

    def _as_is(self, env, seed):
        """Real data: a solved function with its own task, no teacher."""
        draft = env.real(seed.text, seed.generator, seed.task, self.check.primary)
        return env.verify(draft, self.check)

    async def attempt(self, env: Environment, problem: Problem) -> Problem:
        """M attempts of the student: pass rate over the graded ones, and a few answers to show."""
        # The bar says so long before the attempts are done.
        self.counts["written"] += 1
        self.bar.set_postfix(self.counts)
        key = f"{problem.chain_id}/{problem.turn}"
        asked = self.student.submit(env.solve_prompt(problem), self.numbers.attempts, key)
        answers = await asyncio.wrap_future(asked)
        texts = [answer.text for answer in answers]
        verdicts = await asyncio.to_thread(env.grade, problem, texts, self.check.primary)
        return tally(env, problem, answers, verdicts, self.numbers.samples)

    def _keep(self, problem):
        """Write a problem down, once."""
        place = (problem.chain_id, problem.turn)
        if place not in self.done:
            self.done[place] = self.log.append(problem.model_dump())
            self.counts[problem.status] += 1
            # A lost problem counts as one lost answer; attempts count as they are.
            lost = problem.errors + (problem.status == "error")
            self.watch.count(lost, lost + problem.n + (problem.status != "error"))
        self.bar.set_postfix(self.counts, refresh=False)
        self._count(problem.seed_id)

    def _count(self, seed_id):
        self.made[seed_id] += 1
        self.bar.update(1)


def tally(
    env: Environment,
    problem: Problem,
    answers: list[Completion],
    verdicts: list[Verdict],
    shown: int,
) -> Problem:
    """The problem with its counts of verdicts (errors apart) and some answers to show.

    Args:
        env, problem: what the student was asked.
        answers, verdicts: of each attempt, in the same order.
        shown: the first so many different solved answers are kept, and as many failed ones.
    Returns:
        A copy of the problem; an error, which is tried again, if all attempts were lost.
    Source: paper (p = solved / M); which answers are shown is our choice.
    """
    # Different answers by outcome, as they came. Whatever reading one raises, it ends no problem.
    samples: defaultdict[str, dict[str, Sample]] = defaultdict(dict)
    for answer, verdict in zip(answers, verdicts, strict=True):
        text = answer.text[:400]
        with suppress(Exception):
            text = env.read_answer(problem, answer.text)
        samples[verdict.outcome].setdefault(text, Sample(answer=text, **vars(verdict)))
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    n = outcomes["passed"] + outcomes["failed"]
    return problem.with_(
        status=problem.status if n else "error",
        n=n,
        solved=outcomes["passed"],
        errors=outcomes["error"],
        samples=[*samples["passed"].values()][:shown] + [*samples["failed"].values()][:shown],
        student_tokens=sum(answer.tokens for answer in answers),
    )
