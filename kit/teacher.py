"""The dialogue with the teacher that ends in a verified problem, and how good the teacher is."""

import asyncio
from collections.abc import Callable, Iterable

import pandas as pd

from kit.core.programs import program_tokens
from kit.core.prompts import Messages, prompt
from kit.core.stats import wilson_interval
from kit.core.types import Problem, Reason, Rejected, digest
from kit.environments.base import Dialogue
from kit.serving.engine import Engine


class TeacherDialogue:
    """A dialogue with the teacher that ends in a verified problem.

    An invalid answer's error goes back to the teacher. `problem(begin, verify)` gives the result.

    Args:
        teacher: the engine that is asked.
        key: the name of this dialogue, which tells it from others with the same prompts.
        retries: how many more times an invalid answer is asked for.
    Source: our choice.
    """

    def __init__(self, teacher: Engine, key: str, retries: int):
        self.teacher = teacher
        self.key = key
        self.retries = retries
        # Answers accepted so far, one per step of the dialogue.
        self.answers: list[str] = []
        # Hash of the first prompt: which of the kit's texts the teacher was given.
        self.prompt = ""
        # The last answer as it came, and whether it was cut off.
        self.raw = ""
        self.cut_off = False
        self.tokens = 0

    async def problem(
        self, begin: Callable[[], Dialogue], verify: Callable[[Problem], Problem]
    ) -> Problem:
        """A verified problem. Raises Rejected with the last reason."""
        repair: Messages = []
        attempt = 0
        while True:
            try:
                draft = await self._draft(begin(), repair, attempt)
                return await asyncio.to_thread(verify, draft)
            except Rejected as error:
                if attempt == self.retries:
                    raise
                attempt += 1
                # The teacher sees its answer and what is wrong with it.
                said = {"role": "assistant", "content": self.raw}
                repair = [said, *prompt("repair", error=str(error))]
                # Only the last step is asked again; a copy begins anew, with another idea.
                del self.answers[0 if error.reason == Reason.COPY else -1 :]

    async def _draft(self, dialogue, repair, attempt):
        """The dialogue from its beginning to an unverified problem."""
        self.cut_off = False
        messages = next(dialogue)
        self.prompt = self.prompt or digest(messages)
        try:
            # Steps that went well in an earlier attempt are not asked again.
            for answer in self.answers:
                messages = dialogue.send(answer)
            while True:
                messages = dialogue.send(await self._ask(messages, repair, attempt))
                repair = []
        except StopIteration as end:
            return end.value
        except Rejected as error:
            if self.cut_off:
                raise Rejected(Reason.CUT_OFF, "the answer was longer than allowed") from error
            raise

    async def _ask(self, messages, repair, attempt):
        """One answer; with `repair`, after the conversation about the invalid one."""
        # An answer that is begun for the teacher stays the last message.
        begun = [message for message in messages[-1:] if message["role"] == "assistant"]
        request = [*messages[: len(messages) - len(begun)], *repair, *begun]
        key = f"{self.key}/{len(self.answers)}/{attempt}"
        (completion,) = await asyncio.wrap_future(self.teacher.submit(request, 1, key))
        self.raw = "".join(message["content"] for message in begun) + completion.text
        self.answers.append(self.raw)
        self.tokens += completion.tokens
        self.cut_off = completion.finish == "length"
        return self.raw


def turn_changes(problems: Iterable[Problem], method: str = "multi") -> pd.DataFrame:
    """How the pass rate moved from turn to turn of the chains.

    Args:
        problems: of any method.
        method: multi, or single: from one independent draw of a snippet to the next.
    Returns:
        One row per graded turn that follows a graded turn: columns `chain_id`, `seed_id` (the
        snippet), `environment`, `asked`, `before`, `after` (pass rates, 0 to 1) and `change` (their
        difference).
    Source: paper (F2); the table is our choice.
    """
    key = "chain_id seed_id environment asked".split()
    after = pd.DataFrame(
        [
            (*(getattr(problem, name) for name in key), problem.turn, problem.p)
            for problem in problems
            if problem.method == method and problem.p is not None
        ],
        columns=[*key, "turn", "after"],
    ).astype({"turn": int, "after": float})
    # Each turn meets the next one of its chain.
    before = after.assign(turn=after.turn + 1, before=after.after)
    pairs = after.merge(before[["chain_id", "turn", "before"]])
    pairs["change"] = pairs.after - pairs.before
    return pairs[[*key, "before", "after", "change"]]


# The measures of `teacher_quality`, and of what each of them is a share.
TEACHER_MEASURES = ("valid", "copies", "distinct", "harder lowers p", "easier raises p")


def teacher_quality(problems: Iterable[Problem]) -> pd.DataFrame:
    """How good the teacher is.

    `distinct` programs differ in more than names, comments and layout. A turn that follows a
    graded one and comes out invalid is in neither of the last two shares of TEACHER_MEASURES.

    Args:
        problems: of any method; real data and problems lost by our errors are left out.
    Returns:
        One row per environment and measure, and for `all` environments: columns `environment`,
        `measure` (a key of TEACHER_MEASURES), `count`, `of`, `share` (0 to 1), `low`, `high`
        (Wilson, 95%).
    Source: our choice.
    """
    # The first single draw is the chain's own first turn: it counts once.
    written = [
        problem
        for problem in problems
        if problem.status != "error"
        and problem.method != "real"
        and (problem.method, problem.turn) != ("single", 1)
    ]
    moves = turn_changes(written)
    rows = []
    for name in [*dict.fromkeys(problem.environment for problem in written), "all"]:
        part = [problem for problem in written if name in (problem.environment, "all")]
        valid = [problem for problem in part if problem.status == "valid"]
        programs = {
            (x.environment, *program_tokens(f"{x.program}\n{x.pre_test}\n{x.test}")) for x in valid
        }
        turns = moves[(moves.environment == name) | (name == "all")]
        fell = turns.change[turns.asked == "harder"] < 0
        rose = turns.change[turns.asked == "easier"] > 0
        counts = (
            (len(valid), len(part)),
            (sum(problem.reason == Reason.COPY for problem in part), len(part)),
            (len(programs), len(valid)),
            (int(fell.sum()), len(fell)),
            (int(rose.sum()), len(rose)),
        )
        for measure, (count, of) in zip(TEACHER_MEASURES, counts, strict=True):
            rows.append((name, measure, count, of, *wilson_interval(count, of)))
    table = pd.DataFrame(rows, columns="environment measure count of low high".split())
    table.insert(4, "share", table["count"] / table["of"])
    return table
