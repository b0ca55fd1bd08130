"""The teacher inside the training loop: a training in segments, and new problems between them.

In the paper all problems are made before the training, so its teacher never sees the errors of the
policy that learns; its authors name this as open. Here the chains go on between two segments, with
the policy of that moment as the student. `TeacherLoop` is the method, `commands.loops` runs it, and
`loop_findings` says how it is judged.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kit import curriculum, environments, evaluation, filters
from kit.arms import DRAWN, arm_facts
from kit.benchmarks.humaneval import humaneval_items
from kit.benchmarks.procedural import procedural_items
from kit.benchmarks.published import published_items
from kit.core.bins import bin_of
from kit.core.run import open_run
from kit.core.types import Problem, Verdict, digest
from kit.environments.verify import DeterminismCheck
from kit.held_out import held_out_items
from kit.rollouts import read_rollouts
from kit.seeds import seeds_from_frame
from kit.serving import open_engine
from kit.serving.engine import Completion, Engine
from kit.serving.models import SMALL_POLICIES
from kit.synthesis import Synthesis, adapt, tally

# So many chains go on at most (our choice: of what they give, some 200 problems reach a training).
CHAINS = 150
# What a teacher is asked without feedback, by chance.
WISHES = ("harder", "easier", "vary")
# Problems that a small policy tries at once (our choice).
BATCH = 16


class LoopArm(NamedTuple):
    """Where the further problems of an arm come from.

    Source: our choice.
    """

    # Made between the segments with the policy of that moment; else all before, untrained.
    between: bool
    # The teacher is told how the attempts at a chain's last problem went, and asked by that; else
    # it sees the problem alone and is asked by chance.
    feedback: bool
    # The plan follows the policy's own pass rates, at the start of each segment.
    refresh: bool


# All have the same first problems and seeds, and as many further turns, attempts and rollouts.
LOOP_ARMS = {
    "frozen": LoopArm(between=False, feedback=True, refresh=False),  # the paper
    "re-measured": LoopArm(between=False, feedback=True, refresh=True),
    "no-feedback": LoopArm(between=True, feedback=False, refresh=True),
    "closed-loop": LoopArm(between=True, feedback=True, refresh=True),
}


class Further(Synthesis):
    """Further turns of chains that are there, as `Synthesis.chain` makes them.

    But a turn that comes out invalid does not end a chain: the next one starts from the same
    problem again.

    Args:
        given: as for Synthesis.
        own: values of the attributes.
    Source: our choice.
    """

    # By seed the problem from which its chain goes on; numbers of the new turns.
    last: dict[str, Problem]
    turns: range
    # Of LoopArm; and the seed of the training, by which wishes are drawn without it.
    feedback: bool
    seed: int
    # Fields of the new problems.
    marks: dict[str, int]

    def __init__(self, *given, **own):
        super().__init__(*given)
        vars(self).update(own)
        # What was lost stays lost: a resumed loop, and an arm that takes it over, have the same.
        for place, row in self.log.places():
            self.done.setdefault((row["chain_id"], row["turn"]), place)

    def _most(self, seed, stones):
        return len(self.turns)

    async def _one(self, seed, env, stones):
        parent = self.last[seed.id]
        env = self.environments[parent.environment]
        for number in self.turns:
            shown, asked = parent, adapt(parent.p or 0.0, self.numbers)
            if not self.feedback:
                shown = parent.with_(n=0, solved=0, samples=[])
                asked = random.Random(f"{self.seed} {seed.id} {number}").choice(WISHES)
            problem = await self.turn(env, seed, "multi", number, asked, shown)
            parent = parent if problem.p is None else problem

    def _keep(self, problem):
        super()._keep(problem.with_(**self.marks))


class TeacherLoop:
    """A training in segments, in a folder of `commands.loops.prepare_loops`.

    Args:
        profile: a name in kit/profiles, or the path of a file.
        folder: of the run; its `arm.json` says arm, seed, segments and turns.
    Source: our choice.
    """

    def __init__(self, profile: str, folder: Path):
        facts = arm_facts(folder)
        self.arm = LOOP_ARMS[facts["arm"]]
        self.segments = facts["segments"]
        # Further turns of each chain, for each segment but the first.
        self.turns = facts["turns"]
        self.run = open_run("05_grpo", profile, str(folder), 0, grpo__seed=facts["seed"])
        # Of a segment.
        self.steps = self.run.profile.grpo.steps // self.segments
        self.envs = environments.make(self.run.profile.rounds)
        # By segment the problems that were tried once more at its start.
        self.tried: defaultdict[int, set[str]] = defaultdict(set)

    def chains(self, problems: Iterable[Problem]) -> dict[str, Problem]:
        """The last graded problem of each chain, by its seed: of a part (DRAWN, CHAINS) of all.

        Which part, the seed of the training draws, so that seeds replicate the problems too.
        """
        multi = [x for x in problems if x.method == "multi" and x.split == "train"]
        last = {x.seed_id: x for x in multi if x.n}
        drawn = sorted(last, key=lambda seed: digest("loop", self.run.train_seed, seed))
        return {seed: last[seed] for seed in drawn[: min(CHAINS, max(1, int(DRAWN * len(drawn))))]}

    def _own(self, problems):
        """All problems of these chains."""
        own = self.chains(problems)
        return [x for x in problems if x.method == "multi" and x.seed_id in own]

    def seen(self, problems: Iterable[Problem], segment: int) -> list[Problem]:
        """The problems as the policy solves them at the start of a segment.

        Those that the segment before drew: by its rollouts, at no cost. Each other one the policy
        tries again, as often as a group has rollouts, but for those made for this very segment.
        """
        if segment == 1:
            return [*problems]
        rollouts = read_rollouts(self.run.path("rollouts.jsonl"))
        last = rollouts[(rollouts.step - 1) // self.steps + 1 == segment - 1]
        drawn = dict(iter(last.groupby("problem_id")))
        # An environment's answers are about as long: those are asked together.
        again = sorted(
            (x for x in problems if x.segment != segment and x.id not in drawn),
            key=lambda x: x.environment,
        )
        self.tried[segment].update(x.id for x in again)
        with self.student(self.steps * (segment - 1), BATCH) as student, self.run.box() as box:
            asked, size = {}, self.run.profile.grpo.group_size
            for start in range(0, len(again), BATCH):
                # What is in a batch, no clock decides: a resumed loop has the same answers.
                with student.together():
                    for x in again[start : start + BATCH]:
                        prompt = self.envs[x.environment].solve_prompt(x)
                        asked[x.id] = student.submit(prompt, size, f"again {x.id}")
            return [
                x if x.segment == segment else self._now(x, drawn.get(x.id), asked.get(x.id), box)
                for x in problems
            ]

    def _now(self, problem, rows, asked, box):
        """One problem with the policy's own answers: its rollouts, else new ones."""
        env = self.envs[problem.environment]
        if rows is not None:
            answers = [Completion(answer) for answer in rows.answer]
            verdicts = [*map(Verdict, rows.outcome, rows.reason)]
        else:
            answers = asked.result()
            verdicts = env.grade(problem, [answer.text for answer in answers], box)
        now = tally(env, problem, answers, verdicts, self.run.profile.rounds.samples)
        return now if now.n else problem

    def problems(self, segment: int) -> list[Problem]:
        """All problems for a segment: those there were, and the new ones, verified and filtered.

        Args:
            segment: from 1.
        Returns:
            The problems, filtered; the new ones last, each with its segment and the policy's step.
        Source: our choice.
        """
        before = [x for x in self.run.problems("filtered") if x.segment < segment]
        # Before the training or between segments, as the arm says.
        if (segment > 1) != self.arm.between:
            return before
        return before + self.judged(before, self.further(before, segment))

    def further(self, before: list[Problem], segment: int) -> list[Problem]:
        """The new problems of a segment, tried by the policy of that moment."""
        first = self.run.profile.rounds.turns + 1
        turns = range(first, first + self.turns * (self.segments - 1))
        if segment > 1:
            turns = turns[self.turns * (segment - 2) :][: self.turns]
        # Each chain goes on from its last graded problem, if told so as the policy solves it now.
        last = self.chains(before)
        if self.arm.feedback:
            last = {x.seed_id: x for x in self.seen(last.values(), segment)}
        seeds = [x for x in seeds_from_frame(self.run.table("seeds")) if x.id in last]
        step = self.steps * (segment - 1)
        # Teacher and policy draw by the seed of the training.
        profile = self.run.profile.model_copy(update={"seed": self.run.train_seed})
        run = replace(self.run, profile=profile)
        with (
            open_engine(run, profile.teacher, "teacher") as teacher,
            self.student(step) as student,
            run.box() as box,
            run.box(hash_seed=1) as other,
        ):
            loop = Further(
                profile,
                teacher,
                student,
                DeterminismCheck(box, other),
                run.path("further.jsonl"),
                last=last,
                turns=turns,
                feedback=self.arm.feedback,
                seed=run.train_seed,
                marks={"segment": segment, "policy_step": step},
            )
            return [x for x in loop.generate(seeds) if x.segment == segment]

    def student(self, step: int, batch: int = 1) -> Engine:
        """The policy after so many steps, as the student; a small one answers so many at once."""
        run = self.run
        role = evaluation.checkpoints(run)["after" if step else "before"]
        # Else one request at a time: what is beside it could change how its numbers are rounded.
        if run.profile.grpo.policy in SMALL_POLICIES:
            most = batch * run.profile.grpo.group_size
            role = role.model_copy(update={"engine": "transformers", "concurrency": most})
        return open_engine(run, role, "policy", f"policy {step} of seed {run.train_seed}")

    def judged(self, before: list[Problem], made: list[Problem]) -> list[Problem]:
        """The filters' decisions on new problems, which change none on those before them.

        The probes are those of the first problems; twins are looked for among the chains of this
        training. What would take an item out of the evaluation (see `held_out_items`) is dropped as
        contaminated, so that all arms are asked the same.
        """
        run, numbers, asked = self.run, self.run.profile.filters, self.run.profile.evaluation
        items = humaneval_items() + procedural_items(asked.maths, run.seed, asked.sums)
        items += published_items(asked, run.seed)[0]
        first = [x for x in before if not x.segment]
        with run.box() as box:
            references = evaluation.programs(items)
            found = filters.behaviour(made, numbers.probes, references, box, first)
        acts = {x.id: x.behaviour for x in before if x.behaviour}
        # Programs, and what they return, of held-out problems, with their names.
        held = {
            text: item.id
            for name in ("synthetic", "unsolved")
            for item in held_out_items(name, first, self.envs, len(first))
            for text in (item.data["problem"]["program"], item.data["problem"]["behaviour"])
            if text
        }
        known = filters.Behaviour(found.of | acts, found.known | held)
        chains = self._own(before)
        new = filters.apply(chains + made, numbers, evaluation.texts(items), known)[len(chains) :]
        # Behaviour is compared within an environment, programs in all.
        why = {"kept": False, "dropped_by": "contaminated"}
        return [
            x.with_(**why, reason=f"the program of {held[x.program]}")
            if x.program in held and x.dropped_by in ("", "unsolved")
            else x
            for x in new
        ]

    def plan(self, segment: int, problems: list[Problem]) -> pd.DataFrame:
        """The plan up to the end of a segment: what was drawn before, and the segment's part.

        Args:
            segment: from 1.
            problems: of `problems`.
        Returns:
            As of `curriculum.plan`, whose schedule spans all segments.
        Source: our choice.
        """
        run, chains = self.run, self._own(problems)
        bins = run.profile.difficulty.bins
        pool = [x for x in chains if x.kept]
        if self.arm.refresh:
            # What is in a bin today, even if never solved before; if nothing is, as at first.
            able = [x for x in chains if x.kept or x.dropped_by == "unsolved"]
            pool = [x for x in self.seen(able, segment) if bin_of(x.p, bins)] or pool
        whole = curriculum.plan(
            pool,
            steps=self.steps * self.segments,
            prompts_per_step=run.profile.grpo.prompts_per_step,
            bins=bins,
            seed=run.train_seed,
            **run.profile.curriculum.model_dump(exclude={"repeats"}),
        )
        begin = self.steps * (segment - 1)
        part = whole[whole.step.between(begin, begin + self.steps - 1)]
        if segment == 1:
            return part
        drawn = run.table("plan")
        return pd.concat([drawn[drawn.step < begin], part])
