"""Multi-turn generation: the teacher writes a problem, the student tries it M times, the teacher makes the next version.

`Rounds.chain` is the paper's loop (sec. 4) to be read top to bottom. All chains run side by side and meet in the two
engines, so these always have work; a problem is written down as soon as it is complete, and a run that is started again
skips what it finds written and takes unfinished turns' completions from the engines' logs.
"""
import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from kit import environments
from kit.engine import Completion, Engine, EngineDown, EngineError, NotRecorded
from kit.environments.base import Dialogue, Environment, InfrastructureError, Reason, Rejected, Verdict, prompt, prompt_hash
from kit.evaluation import interval
from kit.profile import Profile
from kit.profile import Rounds as Numbers
from kit.records import Log, Problem, Sample, digest
from kit.sandbox import Sandbox
from kit.seeds import Seed


def adapt(p: float, numbers: Numbers) -> str:
    """What the teacher is asked for next: harder above 0.65, easier at 0 (paper); in between our choice."""
    if p > numbers.harder_above:
        return "harder"
    return "easier" if p <= numbers.easier_at else numbers.between


class Rounds:
    """One run of the loop. `generate` is the only method that a notebook needs."""

    def __init__(self, profile: Profile, teacher: Engine, student: Engine, box: Sandbox, other: Sandbox, log: Path):
        self.numbers, self.teacher, self.student, self.box, self.other = profile.rounds, teacher, student, box, other
        self.environments = environments.make(profile.rounds)
        self.log = Log(log)
        self.done = {(p.chain_id, p.turn): p for p in map(Problem.model_validate, self.log) if p.status != "error"}
        self.counts: Counter[str] = Counter()
        self.bar: tqdm | None = None

    def generate(self, seeds: Iterable[Seed]) -> list[Problem]:
        """Every problem of every chain, and of the single-turn baseline where the profile asks for it; resumable.

        Raises EngineDown when an engine is gone, NotRecorded when a replay lacks a prompt, RecordError when the disk is full.
        Single failures of engine or sandbox become problems of status `error`, which the next run tries again."""
        work = list(self._work(list(seeds)))
        each = 2 * self.numbers.turns - 1 if self.numbers.baseline else self.numbers.turns
        self.bar = tqdm(total=len(work) * each, desc="problems", smoothing=0.05)
        try:
            wait(self._all(work))
        finally:
            self.bar.close()
            self.log.close()
        return sorted(self.done.values(), key=lambda p: (p.method, p.chain_id, p.turn))

    def _work(self, seeds: list[Seed]):
        """Which environment each seed serves (in turn, within its split: our choice)."""
        nth: Counter[str] = Counter()
        for seed in seeds:
            name = self.numbers.environments[nth[seed.split] % len(self.numbers.environments)]
            nth[seed.split] += 1
            yield seed, self.environments[name]

    async def _all(self, work) -> None:
        room = asyncio.Semaphore(self.numbers.chains)

        async def one(seed, env):
            try:
                await asyncio.gather(self.chain(seed, env), *([self.single(seed, env)] if self.numbers.baseline else []))
            finally:
                room.release()
        async with asyncio.TaskGroup() as tasks:
            for seed, env in work:
                await room.acquire()
                tasks.create_task(one(seed, env))

    async def chain(self, seed: Seed, env: Environment) -> None:
        """Turn by turn: each turn sees the previous problem and how its attempts went, nothing older."""
        problem, asked = None, "new"
        for turn in range(1, self.numbers.turns + 1):
            def begin(parent=problem, ask=asked):
                return env.revise(parent, ask) if parent else env.propose(seed.text)
            problem = await self.turn(env, seed, begin, method="multi", turn=turn, asked=asked,
                                      parent_id=problem.id if problem else "")
            if turn == 1 and self.numbers.baseline:
                self._keep(problem.with_(method="single", chain_id=f"single-{seed.id}"))
            if problem.p is None:                    # invalid after a retry, or an error: the chain ends here
                break
            asked = adapt(problem.p, self.numbers)
        self.bar.update(self.numbers.turns - turn)

    async def single(self, seed: Seed, env: Environment) -> None:
        """The baseline: as many problems as the chain has turns, drawn independently from the same seed.

        The chain's own first turn is such a draw, and is shared (our choice: it saves a draw per seed)."""
        await asyncio.gather(*(self.turn(env, seed, lambda: env.propose(seed.text), method="single", turn=k)
                               for k in range(2, self.numbers.turns + 1)))

    async def turn(self, env: Environment, seed: Seed, begin: Callable[[], Dialogue], **facts) -> Problem:
        """One problem: written, verified, tried M times, recorded."""
        facts |= {"chain_id": f"{facts['method']}-{seed.id}", "seed_id": seed.id, "source": seed.source, "split": seed.split,
                  "environment": env.name, "teacher": self.teacher.name, "student": self.student.name}
        place = (facts["chain_id"], facts["turn"])
        if place not in self.done:
            self.student.prepare()
            talk = Talk(self.teacher, f"{place[0]}/{place[1]}", self.numbers.retries)
            try:
                problem = await talk.problem(begin, lambda draft: env.verify(draft, self.box, self.other))
                problem = await self.attempt(env, problem.with_(**facts))
            except Rejected as e:
                problem = Problem(status="invalid", reason=e.reason, **facts)
            except (NotRecorded, EngineDown):
                raise
            except (EngineError, InfrastructureError) as e:
                problem = Problem(status="error", reason=str(e)[:300], **facts)
            self._keep(problem.with_(prompt=talk.prompt, raw=talk.raw, teacher_tokens=talk.tokens))
        self.bar.update(1)
        return self.done[place]

    async def attempt(self, env: Environment, problem: Problem) -> Problem:
        """M attempts of the student: pass rate over the graded ones, and a few answers to show."""
        key = f"{problem.chain_id}/{problem.turn}"
        answers = await asyncio.wrap_future(self.student.submit(env.solve_prompt(problem), self.numbers.attempts, key))
        verdicts = await asyncio.to_thread(env.grade, problem, [a.text for a in answers], self.box)
        return tally(env, problem, answers, verdicts, self.numbers.samples)

    def _keep(self, problem: Problem) -> None:
        if (place := (problem.chain_id, problem.turn)) not in self.done:
            self.log.append(problem.model_dump())
            self.done[place] = problem
            self.counts[problem.status] += 1
        self.bar.set_postfix(self.counts, refresh=False)


class Talk:
    """A dialogue with the teacher that ends in a verified problem; an invalid answer's error goes back to it `retries` times."""

    def __init__(self, teacher: Engine, key: str, retries: int):
        self.teacher, self.key, self.retries = teacher, key, retries
        self.answers: list[str] = []                 # accepted so far, one per step of the dialogue
        self.prompt = self.raw = ""
        self.tokens = 0

    async def problem(self, begin: Callable[[], Dialogue], verify: Callable[[Problem], Problem]) -> Problem:
        """Raises Rejected with the last reason."""
        repair: list[dict] = []
        for attempt in range(self.retries + 1):
            try:
                return await self._once(begin(), verify, repair, attempt)
            except Rejected as e:
                if attempt == self.retries:
                    raise
                repair = [{"role": "assistant", "content": self.raw}, *prompt("repair", error=str(e))]
                self.answers.pop()                   # the last step is asked again, with what was wrong

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

    async def _ask(self, messages: list[dict], repair: list[dict], attempt: int) -> tuple[str, bool]:
        begun = messages[-1] if messages[-1]["role"] == "assistant" else None
        if repair:
            messages = [*(messages[:-1] if begun else messages), *repair, *([begun] if begun else [])]
        key = f"{self.key}/{len(self.answers)}/{attempt}"
        completion, = await asyncio.wrap_future(self.teacher.submit(messages, 1, key))
        self.raw = (begun["content"] if begun else "") + completion.text
        self.answers.append(self.raw)
        self.tokens += completion.tokens
        return self.raw, completion.finish == "length"


def tally(env: Environment, problem: Problem, answers: list[Completion], verdicts: list[Verdict], shown: int) -> Problem:
    """Counts of the verdicts, errors apart, with the first `shown` different solved and failed answers."""
    outcomes = Counter(v.outcome for v in verdicts)
    samples: dict[tuple[str, str], Sample] = {}
    for answer, verdict in zip(answers, verdicts, strict=True):
        try:
            text = env.read_answer(problem, answer.text)
        except Rejected:
            text = answer.text[:400]
        samples.setdefault((verdict.outcome, digest(text)), Sample(answer=text, outcome=verdict.outcome, reason=verdict.reason))
    some = [s for kind in ("passed", "failed") for s in [s for (o, _), s in samples.items() if o == kind][:shown]]
    return problem.with_(n=outcomes["passed"] + outcomes["failed"], solved=outcomes["passed"], errors=outcomes["error"], samples=some,
                         student_tokens=sum(a.tokens for a in answers))


def steps(problems: Iterable[Problem]) -> pd.DataFrame:
    """One row per turn of a chain that follows another, both graded: environment, asked, before, after, change (pass rates)."""
    known = {(p.chain_id, p.turn): p for p in problems if p.method == "multi" and p.p is not None}
    rows = [{"chain_id": c, "environment": p.environment, "asked": p.asked, "before": known[c, t - 1].p, "after": p.p,
             "change": p.p - known[c, t - 1].p} for (c, t), p in known.items() if (c, t - 1) in known]
    return pd.DataFrame(rows, columns=["chain_id", "environment", "asked", "before", "after", "change"])


def verdict(changes: pd.Series, least: int = 10) -> str:
    """F2 on a run's own data: a bootstrap interval of the mean change must exclude 0; under `least` steps no verdict (our choice)."""
    if len(changes) < least:
        return f"F2: not tested at this scale (n = {len(changes)}, at least {least} needed)"
    mean, low, high = interval(changes, bounds=(-1, 1))
    word = "supported" if high < 0 else "contradicted" if low > 0 else "undecided"
    return f"F2: {word}: mean change {mean:+.2f}, 95% interval [{low:+.2f}, {high:+.2f}], n = {len(changes)}"


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
            while isinstance(e, BaseExceptionGroup):     # a TaskGroup's wrapping says nothing to the reader
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
