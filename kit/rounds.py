"""Multi-turn generation: the teacher writes a problem, the student tries it M times, the teacher makes the next version.

`Rounds.chain` is the paper's loop (sec. 4) to be read top to bottom; beside it stand the single-turn baseline it is compared
with and the stepping stones. All seeds are worked on side by side and meet in the two engines, so these always have work. A
problem is written down as soon as it is complete; a run that is started again skips what it finds written and takes
unfinished turns' completions from the engines' logs. Memory does not grow with the problems: they stay on the disk.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pandas as pd

from kit import environments
from kit.difficulty import NARROW
from kit.engine import Completion, Engine, EngineDown, EngineError, NotRecorded
from kit.environments.base import (
    Dialogue,
    Environment,
    InfrastructureError,
    Reason,
    Rejected,
    Verdict,
    prompt,
    prompt_hash,
)
from kit.profile import Profile
from kit.profile import Rounds as Numbers
from kit.records import Log, Problem, Sample, digest
from kit.run import progress
from kit.sandbox import Sandbox
from kit.seeds import Seed


def adapt(p: float, numbers: Numbers) -> str:
    """What the teacher is asked for next: harder above 0.65, easier at 0 (paper); in between our choice."""
    if p > numbers.harder_above:
        return "harder"
    return "easier" if p <= numbers.easier_at else numbers.between


def target(ask: str, numbers: Numbers) -> list[float]:
    """The pass rates that the teacher is asked to aim at: the narrow bin of a stepping stone (paper), else the paper's band."""
    return next(([b.low, b.high] for b in NARROW if b.name == ask), numbers.target)


class Rounds:
    """One run of the loop. `generate` is the only method that a notebook needs."""

    def __init__(
        self,
        profile: Profile,
        teacher: Engine,
        student: Engine,
        box: Sandbox,
        other: Sandbox,
        log: Path,
    ):
        self.numbers, self.teacher, self.student, self.box, self.other = (
            profile.rounds,
            teacher,
            student,
            box,
            other,
        )
        self.environments = environments.make(profile.rounds)
        self.log = Log(log)
        self.done: dict[tuple[str, int], int] = {}  # (chain_id, turn) -> place in the log
        for place, row in self.log.places():
            if row["status"] != "error":
                self.done.setdefault((row["chain_id"], row["turn"]), place)
        self.counts: Counter[str] = Counter()
        self.bar = None

    def generate(self, seeds: Iterable[Seed], rank: int = 0, shards: int = 1) -> Iterator[Problem]:
        """Every problem of every chain, of the single-turn baseline, of the stepping stones and of the real data, sorted; resumable.
        One of several shards does every `shards`-th seed only, in the way in which it is done among all of them.

        Raises EngineDown when an engine is gone, NotRecorded when a replay lacks a prompt, RecordError when the disk is full.
        Single failures of engine or sandbox become problems of status `error`, which the next run tries again."""
        work = list(self._work(list(seeds)))[rank::shards]
        self.bar = progress(total=len(work), desc="seeds", smoothing=0.05)
        try:
            wait(self._all(work))
        finally:
            self.bar.close()
            self.log.close()
        return map(self._at, sorted(self.done))

    def _at(self, place: tuple[str, int]) -> Problem:
        return Problem.model_validate(self.log.at(self.done[place]))

    def _work(self, seeds: list[Seed]):
        """Which environment each seed serves (in turn, within its split: our choice), and whether it has stepping stones."""
        nth: Counter[str] = Counter()
        for k, seed in enumerate(seeds):
            if seed.as_is:  # real data are induction problems, as in the paper
                yield seed, self.environments["induction"], False
                continue
            name = self.numbers.environments[nth[seed.split] % len(self.numbers.environments)]
            nth[seed.split] += 1
            yield seed, self.environments[name], k < self.numbers.stones

    async def _all(self, work) -> None:
        room = asyncio.Semaphore(self.numbers.in_flight)

        def parts(seed, env, stones):
            if seed.as_is:
                return [self.turn(env, seed, "real", 1, "new")]
            turns: asyncio.Queue[Problem | None] = (
                asyncio.Queue()
            )  # from the chain to the baseline that costs as much
            return [
                self.chain(seed, env, turns),
                *([self.single(seed, env, turns)] if self.numbers.baseline else []),
                *([self.stones(seed, env)] if stones else []),
            ]

        async def one(seed, env, stones):
            try:
                async with asyncio.TaskGroup() as tasks:
                    for part in parts(seed, env, stones):
                        tasks.create_task(part)
                self.bar.update(1)
            finally:
                room.release()

        async with asyncio.TaskGroup() as tasks:
            for seed, env, stones in work:
                await room.acquire()
                tasks.create_task(one(seed, env, stones))

    async def chain(self, seed: Seed, env: Environment, turns: asyncio.Queue) -> None:
        """Turn by turn: each turn sees the previous problem and how its attempts went, nothing older."""
        problem, asked = None, "new"
        for turn in range(1, self.numbers.turns + 1):
            problem = await self.turn(env, seed, "multi", turn, asked, parent=problem)
            turns.put_nowait(problem)
            if problem.p is None:  # invalid after a retry, or an error: the chain ends here
                break
            asked = adapt(problem.p, self.numbers)
        turns.put_nowait(None)

    async def single(self, seed: Seed, env: Environment, turns: asyncio.Queue) -> None:
        """The baseline: problems drawn independently from the same seed until they have cost the teacher as many tokens as
        the chain did, at most twice as many problems as a chain can have. `filters.equal_budget` cuts both to the same cost.

        The chain's own first turn is such a draw, and is shared (our choice: it saves a draw per seed). As many draws as a chain has turns
        begin at once: they need not wait for the chain, and the engine is the faster the more it has to do."""
        draws = self.numbers.turns
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(self.turn(env, seed, "single", k, "new"))
                for k in range(2, draws + 1)
            ]
            first = await turns.get()
            self._keep(first.with_(method="single", chain_id=f"single-{seed.id}"))
        granted, spent = (
            first.teacher_tokens,
            first.teacher_tokens + sum(t.result().teacher_tokens for t in others),
        )
        while problem := await turns.get():
            granted += problem.teacher_tokens
            while draws < 2 * self.numbers.turns and spent < granted:
                draws += 1
                spent += (await self.turn(env, seed, "single", draws, "new")).teacher_tokens

    async def stones(self, seed: Seed, env: Environment) -> None:
        """Stepping stones, top-down (paper): a hard problem, then a medium and an easy variant of it."""
        hard = await self.turn(env, seed, "stones", 1, "hard")
        if hard.p is not None:
            await asyncio.gather(
                *(
                    self.turn(env, seed, "stones", turn, ask, parent=hard)
                    for turn, ask in ((2, "medium"), (3, "easy"))
                )
            )

    async def turn(
        self,
        env: Environment,
        seed: Seed,
        method: str,
        turn: int,
        asked: str,
        parent: Problem | None = None,
    ) -> Problem:
        """One problem: written, verified, tried M times, recorded."""
        facts = {
            "method": method,
            "turn": turn,
            "asked": asked,
            "parent_id": parent.id if parent else "",
            "chain_id": f"{method}-{seed.id}",
            "seed_id": seed.id,
            "source": seed.source,
            "split": seed.split,
            "environment": env.name,
            "teacher": "" if seed.as_is else self.teacher.name,
            "student": self.student.name,
        }
        place, aim = (facts["chain_id"], turn), target(asked, self.numbers)
        if place in self.done:
            return self._at(place)
        self.student.prepare()
        talk = Talk(self.teacher, f"{place[0]}/{place[1]}", self.numbers.retries)
        try:
            if seed.as_is:
                problem = await asyncio.to_thread(self.as_is, env, seed)
            else:
                problem = await talk.problem(
                    lambda: (
                        env.revise(parent, asked, aim)
                        if parent
                        else env.propose(seed.text, asked, aim)
                    ),
                    lambda draft: env.verify(draft, self.box, self.other),
                )
            problem = await self.attempt(env, problem.with_(**facts))
        except Rejected as e:
            problem = Problem(status="invalid", reason=e.reason, **facts)
        except (NotRecorded, EngineDown):
            raise
        except (EngineError, InfrastructureError) as e:
            problem = Problem(status="error", reason=str(e)[:300], **facts)
        problem = problem.with_(prompt=talk.prompt, raw=talk.raw, teacher_tokens=talk.tokens)
        self._keep(problem)
        return problem

    def as_is(self, env: Environment, seed: Seed) -> Problem:
        """Real data: a solved function with its own task, no teacher."""
        return env.verify(
            env.real(seed.text, seed.generator, seed.task, self.box), self.box, self.other
        )

    async def attempt(self, env: Environment, problem: Problem) -> Problem:
        """M attempts of the student: pass rate over the graded ones, and a few answers to show."""
        key = f"{problem.chain_id}/{problem.turn}"
        answers = await asyncio.wrap_future(
            self.student.submit(env.solve_prompt(problem), self.numbers.attempts, key)
        )
        verdicts = await asyncio.to_thread(env.grade, problem, [a.text for a in answers], self.box)
        return tally(env, problem, answers, verdicts, self.numbers.samples)

    def _keep(self, problem: Problem) -> None:
        if (place := (problem.chain_id, problem.turn)) not in self.done:
            self.done[place] = self.log.append(problem.model_dump())
            self.counts[problem.status] += 1
        self.bar.set_postfix(self.counts, refresh=False)


class Talk:
    """A dialogue with the teacher that ends in a verified problem; an invalid answer's error goes back to it `retries` times."""

    def __init__(self, teacher: Engine, key: str, retries: int):
        self.teacher, self.key, self.retries = teacher, key, retries
        self.answers: list[str] = []  # accepted so far, one per step of the dialogue
        self.prompt = self.raw = ""
        self.tokens = 0

    async def problem(
        self, begin: Callable[[], Dialogue], verify: Callable[[Problem], Problem]
    ) -> Problem:
        """Raises Rejected with the last reason."""
        repair: list[dict] = []
        for attempt in range(self.retries + 1):
            try:
                return await self._once(begin(), verify, repair, attempt)
            except Rejected as e:
                if attempt == self.retries:
                    raise
                repair = [
                    {"role": "assistant", "content": self.raw},
                    *prompt("repair", error=str(e)),
                ]
                # The last step is asked again, with what was wrong; a copy begins anew, with another idea.
                del self.answers[0 if e.reason == Reason.COPY else -1 :]

    async def _once(self, dialogue: Dialogue, verify, repair: list[dict], attempt: int) -> Problem:
        messages, known, cut = next(dialogue), list(self.answers), False
        self.prompt = self.prompt or prompt_hash(messages)
        try:
            while True:
                if known:
                    answer = known.pop(0)
                else:
                    answer, cut = await self._ask(messages, repair, attempt)
                    repair = []
                messages = dialogue.send(answer)
        except StopIteration as done:
            return await asyncio.to_thread(verify, done.value)
        except Rejected as e:
            if cut:
                raise Rejected(Reason.CUT_OFF, "the answer was longer than allowed") from e
            raise

    async def _ask(
        self, messages: list[dict], repair: list[dict], attempt: int
    ) -> tuple[str, bool]:
        begun = messages[-1] if messages[-1]["role"] == "assistant" else None
        if repair:
            messages = [
                *(messages[:-1] if begun else messages),
                *repair,
                *([begun] if begun else []),
            ]
        key = f"{self.key}/{len(self.answers)}/{attempt}"
        (completion,) = await asyncio.wrap_future(self.teacher.submit(messages, 1, key))
        self.raw = (begun["content"] if begun else "") + completion.text
        self.answers.append(self.raw)
        self.tokens += completion.tokens
        return self.raw, completion.finish == "length"


def tally(
    env: Environment,
    problem: Problem,
    answers: list[Completion],
    verdicts: list[Verdict],
    shown: int,
) -> Problem:
    """Counts of the verdicts, errors apart, with the first `shown` different solved and failed answers."""
    outcomes = Counter(v.outcome for v in verdicts)
    samples: dict[tuple[str, str], Sample] = {}
    for answer, verdict in zip(answers, verdicts, strict=True):
        try:
            text = env.read_answer(problem, answer.text)
        except Rejected:
            text = answer.text[:400]
        samples.setdefault(
            (verdict.outcome, digest(text)),
            Sample(answer=text, outcome=verdict.outcome, reason=verdict.reason),
        )
    some = [
        s
        for kind in ("passed", "failed")
        for s in [s for (o, _), s in samples.items() if o == kind][:shown]
    ]
    return problem.with_(
        n=outcomes["passed"] + outcomes["failed"],
        solved=outcomes["passed"],
        errors=outcomes["error"],
        samples=some,
        student_tokens=sum(a.tokens for a in answers),
    )


def steps(problems: Iterable[Problem]) -> pd.DataFrame:
    """One row per turn of a chain that follows another, both graded: environment, asked, before, after, change (pass rates)."""
    known = {(p.chain_id, p.turn): p for p in problems if p.method == "multi" and p.p is not None}
    rows = [
        {
            "chain_id": c,
            "environment": p.environment,
            "asked": p.asked,
            "before": known[c, t - 1].p,
            "after": p.p,
            "change": p.p - known[c, t - 1].p,
        }
        for (c, t), p in known.items()
        if (c, t - 1) in known
    ]
    return pd.DataFrame(
        rows, columns=["chain_id", "environment", "asked", "before", "after", "change"]
    )


QUALITY = {
    "valid": "problems written",
    "copies": "problems written",
    "distinct": "valid problems",
    "harder lowers p": "turns asked harder",
    "easier raises p": "turns asked easier",
}


def quality(problems: Iterable[Problem]) -> pd.DataFrame:
    """How good the teacher is, per environment and for `all`: one row per (environment, measure) with count, of, share, low, high
    (Wilson, 95%). QUALITY says of what each share is; `distinct` programs differ in more than names, comments and layout.

    A turn that follows a graded one and comes out invalid is in no share of the last two."""
    from kit.difficulty import interval as wilson
    from kit.filters import tokens

    problems = [p for p in problems if p.status != "error" and p.method != "real"]
    problems = [
        p for p in problems if (p.method, p.turn) != ("single", 1)
    ]  # that draw is the chain's own
    moves, rows = steps(problems), []
    for name in [*dict.fromkeys(p.environment for p in problems), "all"]:
        mine = [p for p in problems if name in (p.environment, "all")]
        valid = [p for p in mine if p.status == "valid"]
        turns = moves[(moves.environment == name) | (name == "all")]
        harder, easier = (turns[turns.asked == ask].change for ask in ("harder", "easier"))
        counts = {
            "valid": (len(valid), len(mine)),
            "copies": (sum(p.reason == Reason.COPY for p in mine), len(mine)),
            "distinct": (
                len(
                    {
                        (p.environment, *tokens(f"{p.program}\n{p.pre_test}\n{p.test}"))
                        for p in valid
                    }
                ),
                len(valid),
            ),
            "harder lowers p": (int((harder < 0).sum()), len(harder)),
            "easier raises p": (int((easier > 0).sum()), len(easier)),
        }
        rows += [
            (name, measure, k, n, k / n if n else float("nan"), *wilson(k, n))
            for measure, (k, n) in counts.items()
        ]
    return pd.DataFrame(
        rows, columns=["environment", "measure", "count", "of", "share", "low", "high"]
    )


def wait(coroutine):
    """Run a coroutine to its end, also from a notebook cell, whose own loop is running; Ctrl-C cancels it cleanly."""
    done: Future = Future()
    task: list[asyncio.Task] = []

    async def main():
        task.append(asyncio.current_task())
        return await coroutine

    def work():
        try:
            done.set_result(asyncio.run(main()))
        except BaseException as e:
            while isinstance(
                e, BaseExceptionGroup
            ):  # a TaskGroup's wrapping says nothing to the reader
                e = e.exceptions[0]
            done.set_exception(e)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        return done.result()
    except KeyboardInterrupt:
        if task:
            task[0].get_loop().call_soon_threadsafe(task[0].cancel)
        thread.join(10)
        raise
