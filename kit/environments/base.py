"""What the environments share: dialogues with the teacher, the student's prompt, grading.

`propose(seed)` and `revise(problem, ask)` are dialogues: generators that yield a prompt, are sent
the teacher's answer, and return a draft. So a small teacher can be asked in several steps, and a
large one in a single step. `verify(draft)` runs the draft in two sandboxes and returns a problem
with its outputs. `solve_prompt(problem)` is what student and policy see; `grade(problem, answers)`
says what each answer is worth.
"""

import ast
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import jinja2

from kit import records
from kit.records import Problem
from kit.sandbox import Job, Result, Sandbox, arguments, call_text, parse, same, text


class Reason(StrEnum):
    """Why a teacher's draft is invalid, or a student's answer failed."""

    EMPTY = "empty answer"
    CUT_OFF = "cut off"
    NO_CODE = "no code"
    SYNTAX = "syntax error"
    NO_FUNCTION = "no function f"
    NO_INPUTS = "no usable inputs"
    NO_TESTS = "no pre_test_f and test_f"
    COPY = "copy of the seed"
    UNSTABLE = "not deterministic"
    CRASH = "crashes"
    TIMEOUT = "times out"
    NOT_PLAIN = "value is not a plain literal"
    TOO_LONG = "output too long"
    CONSTANT = "same output for every input"
    NO_WITNESS = "no input fails the test"
    NO_BENIGN = "no input passes the test"
    NO_ANSWER = "no answer in the asked form"
    WRONG = "wrong"
    PRECONDITION = "fails pre_test_f"


class Rejected(ValueError):
    """A model's text is not what it should be: a draft is no problem, or an answer is malformed.

    Args:
        reason: the kind of fault; runs count these.
        detail: what exactly is wrong; the teacher gets it back with the request for a better draft.
    """

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class InfrastructureError(RuntimeError):
    """The sandbox failed; nothing follows for the program that ran in it."""


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth.

    Args:
        outcome: `passed` and `failed` are about the answer. `error` is the kit's own fault and
            counts as neither.
        reason: why it did not pass; a `Reason` where it failed.
    """

    outcome: str
    reason: str = ""

    @classmethod
    def of(cls, right: bool) -> "Verdict":
        """Passed for a right answer, else failed as wrong."""
        return cls("passed") if right else cls("failed", Reason.WRONG)

    @property
    def reward(self) -> float | None:
        """1, 0, or None for an error, which TRL leaves out of the group."""
        return {"passed": 1.0, "failed": 0.0}.get(self.outcome)


Messages = list[dict]

_prompts = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "prompts"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def prompt(name: str, **values) -> Messages:
    """Render `prompts/<name>.md` as chat messages.

    A line `<!-- system -->`, `<!-- user -->` or `<!-- assistant -->` begins a message of that role.
    """
    rendered = _prompts.get_template(f"{name}.md").render(**values)
    # The split gives what stands before the first mark, and then roles and contents in turn.
    parts = re.split(r"^<!-- (system|user|assistant) -->\n", rendered, flags=re.M)
    return [
        {"role": role, "content": content.strip()}
        for role, content in zip(parts[1::2], parts[2::2])
    ]


def prompt_hash(messages: Messages) -> str:
    """Names a prompt in a problem's record: which of the kit's texts the teacher was given."""
    return records.digest(messages)


def code_block(answer: str) -> str:
    """The last fenced Python block; an answer without a fence that begins like code is taken whole.

    Raises Rejected: there is no code.
    """
    if not answer.strip():
        raise Rejected(Reason.EMPTY)
    blocks = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)```", answer, flags=re.S)
    if blocks:
        return blocks[-1]
    # No block is closed: take what follows the first fence, or the whole answer.
    bare = re.sub(r"\A.*?```(?:python|py)?[ \t]*\n", "", answer, flags=re.S)
    if re.match(r"\s*(def|import|from|class|@)\s", bare):
        return bare
    raise Rejected(Reason.NO_CODE)


def module(code: str, *functions: str) -> str:
    """Normal form of a program: imports, definitions and assignments only, without comments.

    Every name in `functions` must be defined at the top level. Raises Rejected.
    """
    try:
        tree = parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        raise Rejected(Reason.SYNTAX, str(fault)) from None
    keep = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    tree.body = [node for node in tree.body if isinstance(node, keep)]
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = " or ".join(name for name in functions if name not in defined)
    if missing:
        raise Rejected(Reason.NO_FUNCTION, f"no function named {missing} at the top level")
    return ast.unparse(tree)


def function(code: str, name: str = "f") -> ast.FunctionDef:
    """The syntax tree of a top-level function.

    Raises StopIteration if there is none: `module` must have checked the code before.
    """
    return next(
        node for node in parse(code).body if isinstance(node, ast.FunctionDef) and node.name == name
    )


def docstring(code: str) -> str:
    """The docstring of f on one line; empty if it has none."""
    return " ".join((ast.get_docstring(function(code)) or "").split())


def signature(program: str) -> str:
    """`f(xs: list[int]) -> int` of a program, without its body."""
    node = function(program)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"f({ast.unparse(node.args)}){returns}"


def _literal_call(line: str) -> list[str]:
    """The argument text of the first `f(...)` in a line as the only element, or nothing."""
    _, called, rest = line.partition("f(")
    if not called or "def " in line:
        return []
    # A bracket may stand inside a string: try each as the end of the call.
    for bracket in re.finditer(r"\)", rest):
        with suppress(ValueError):
            return [call_text(arguments(rest[: bracket.start()]))]
    return []


def calls(answer: str) -> list[str]:
    """The argument texts of the calls `f(...)` in an answer, in order, without repeats.

    At most one in a line counts, and only if all its arguments are literals.
    """
    found = [call for line in answer.splitlines() for call in _literal_call(line)]
    return list(dict.fromkeys(found))


def given_arguments(answer: str) -> tuple:
    """A student's input, `[1, 2], 3` or `f([1, 2], 3)`, read as literals, never run.

    Raises Rejected.
    """
    try:
        return arguments(re.sub(r"\Af\((.*)\)\Z", r"\1", answer.strip(), flags=re.S))
    except ValueError as fault:
        raise Rejected(Reason.NO_ANSWER, str(fault)) from None


def last_tag(answer: str) -> str:
    """Text of the last complete <answer>...</answer>. Raises Rejected."""
    found = re.findall(r"<answer>(.*?)</answer>", answer, flags=re.S)
    if not found:
        raise Rejected(Reason.NO_ANSWER, "no <answer> ... </answer>")
    return found[-1].strip().strip("`").strip()


def _bare_lines(code: str) -> list[str]:
    """The longer lines of a program, without white space."""
    return [re.sub(r"\s+", "", line) for line in code.splitlines() if len(line.strip()) > 8]


def copied(program: str, seed: str) -> bool:
    """Whether most of the program's lines stand in the seed: a copy teaches nothing.

    Source: our choice, with its threshold of 0.8.
    """
    known = set(_bare_lines(seed))
    # The seed's normal form counts too, if it can be parsed.
    with suppress(SyntaxError, ValueError):
        known.update(_bare_lines(ast.unparse(parse(seed))))
    # The first line is not compared: the signature is renamed to f.
    lines = _bare_lines(program)[1:]
    return bool(lines) and sum(line in known for line in lines) >= 0.8 * len(lines)


# What depends on more than a program's input, or lets it look at its caller.
_UNSTABLE = set(
    """
    time os uuid secrets threading locale platform socket subprocess getpass tempfile gc weakref
    inspect traceback ctypes importlib
    datetime.now datetime.utcnow datetime.today date.today
    sys.argv sys._getframe sys.getrefcount sys.hash_info random.SystemRandom
    """.split()
)
_UNSTABLE_CALLS = set("id hash object input open globals locals vars dir __import__".split())


def _real_names(nodes: list[ast.AST]) -> Iterator[str]:
    """What a program imports and reads, each under its real name whatever the program calls it."""
    real: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            real |= {alias.asname or alias.name: prefix + alias.name for alias in node.names}
    yield from real.values()
    for node in nodes:
        if isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            yield real.get(first, first) + dot + rest


def unstable_name(code: str) -> str:
    """The first name in a program whose value depends on more than its input, or ''.

    Random numbers are fine if their generator is seeded.
    """
    nodes = list(ast.walk(parse(code)))
    called = [node for node in nodes if isinstance(node, ast.Call)]
    seeds = ("random.seed", "seed", "random.Random", "Random")
    seeded = any(call.args and ast.unparse(call.func) in seeds for call in called)

    # A builtin's name that the program gives to something of its own is harmless.
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    builtins = [call.func.id for call in called if isinstance(call.func, ast.Name)]
    suspects = [name for name in builtins if name in _UNSTABLE_CALLS - own]

    for name in [*_real_names(nodes), *suspects]:
        parts = name.split(".")
        if parts[0] in _UNSTABLE or ".".join(parts[-2:]) in _UNSTABLE or name in _UNSTABLE_CALLS:
            return name
        if parts[0] == "random" and parts[1:] and not seeded:
            return name
    return ""


# Characters of an input or output: a student has to read it (our choice).
LONGEST = 400


def values(result: Result) -> list:
    """The values of a run that went well. Raises Rejected or InfrastructureError."""
    if result.no_verdict:
        raise InfrastructureError(result.detail)
    if result.status == "timeout":
        raise Rejected(Reason.TIMEOUT)
    returned = result.returned()
    if returned is None:
        errors = [value for kind, value in result.values if kind == "err"]
        reason = Reason.NOT_PLAIN if "Unencodable" in errors else Reason.CRASH
        raise Rejected(reason, ", ".join(dict.fromkeys(errors)) or result.status)
    return returned


def usable(program: str, inputs: list[str], box: Sandbox) -> list[str]:
    """The inputs on which a program returns. Raises Rejected if none is left."""
    results = box.map([Job(program, (("f", arguments(given)),)) for given in inputs])
    for result in results:
        if result.no_verdict:
            raise InfrastructureError(result.detail)
    good = [given for given, result in zip(inputs, results) if result.returned() is not None]
    if not good:
        faults = [str(r.values[-1][1]) if r.values else r.status for r in results]
        why = ", ".join(dict.fromkeys(faults))
        raise Rejected(Reason.CRASH, f"f runs on none of the inputs: {why}")
    return good


def execute(
    code: str, inputs: list[str], box: Sandbox, other: Sandbox, name: str = "f"
) -> list[str]:
    """The output of a deterministic program for each input, as the text of a literal.

    It must be the same in two sandboxes with different hash and random seeds, on a second call in
    one process, and when the inputs come in reverse (our choice). Raises Rejected.
    """
    # First without running: clocks, files and the like.
    found = unstable_name(code)
    if found:
        raise Rejected(Reason.UNSTABLE, f"it uses {found}")

    # Run all inputs twice in one sandbox, and once in reverse in the other.
    once = tuple((name, arguments(given)) for given in inputs)
    first = box.submit(Job(code, once + once))
    second = other.submit(Job(code, once[::-1], seed=1))
    twice = values(first.result())
    reverse = values(second.result())
    outputs = twice[: len(once)]
    if not all(map(same, outputs * 2, twice[len(once) :] + reverse[::-1])):
        raise Rejected(Reason.UNSTABLE, "two runs on the same input gave different outputs")

    # An output is shown as a literal, and a student has to read it.
    try:
        texts = [text(output) for output in outputs]
    except ValueError as fault:
        raise Rejected(Reason.NOT_PLAIN, str(fault)) from None
    longest = max(map(len, texts))
    if longest > LONGEST:
        raise Rejected(Reason.TOO_LONG, f"{longest} characters, at most {LONGEST} are allowed")
    return texts


Dialogue = Generator[Messages, str, Problem]

# One concrete argument for a small teacher, in turn: if several types are allowed, its functions
# only ask for the type of their argument (our choice).
ARGUMENTS = ("xs: list[int]", "s: str", "n: int", "words: list[str]", "counts: dict[str, int]")
# How a literal of each type begins.
OPENINGS = {"list[str]": "['", "list": "[", "str": "'", "dict[str": "{'", "dict": "{"}
# One concrete way to the next version, in turn: if it is told only "harder", a small teacher hands
# back the old function (our choice).
HINTS = {
    "harder": (
        "let the position of an element matter as well as its value",
        "carry a running value from one step of the loop to the next",
        "treat repeated elements otherwise than the first ones",
        "treat two kinds of elements differently, then combine the results",
        "stop early under a condition that depends on what was seen before",
    ),
    "easier": (
        "drop one condition",
        "replace the loop by one built-in function",
        "return only a number",
        "look at one property of the argument only",
    ),
    "vary": (
        "let another property of the argument decide",
        "replace a sum by a maximum, or a count by a selection",
        "go through the argument in another order",
        "group the elements instead of counting them",
    ),
    "medium": ("drop one condition", "keep the loop, drop one of its special cases"),
    "easy": ("keep only the first step", "replace the loop by one built-in function"),
}


def turn_to(choices: tuple, *what):
    """One of the choices, always the same one for the same `what`."""
    return choices[int(records.digest(*what), 16) % len(choices)]


@dataclass(eq=False)
class Environment:
    """One kind of problem: what the teacher makes, what the student gives, and when that is right.

    A subclass gives `name` and `judge`, mostly `job`, and overrides what is different for it.

    Args:
        form: `one_call`: the teacher writes a problem in one answer (as in the paper). `two_calls`:
            first the function, then the inputs (for a small teacher).
        inputs: input/output pairs of an induction problem.
        visible: how many of these pairs the student sees.
        equality: of abduction. `output`: any input with the right output is right. `input`: only
            the teacher's own input is right.
    Source: paper (environments, `one_call`); `two_calls` and hidden pairs are our choice.
    """

    name: ClassVar[str]
    # What the student sees and must do, for the teacher; the kit's four have it in _task.md.
    task: ClassVar[str] = ""

    form: str = "two_calls"
    inputs: int = 5
    visible: int = 3
    equality: str = "output"

    @property
    def used(self) -> int:
        """How many inputs a problem has."""
        return 1

    def probe(self, problem: Problem) -> tuple[str, tuple[str, ...]]:
        """A program, and the names in it whose values on an input tell what the problem does."""
        return problem.program, ("f",)

    def propose(self, seed: str, ask: str = "new", target=(0.35, 0.65)) -> Dialogue:
        """Turn 1: a problem from a seed snippet.

        Args:
            seed: the snippet's code.
            ask: `new`, or `hard` for a problem with a pass rate in `target`.
            target: lowest and highest pass rate wanted (shares, 0 to 1).
        Returns:
            A generator: yields messages, is sent the teacher's answer, returns a draft.
        Raises:
            Rejected: from the generator, if an answer is no usable draft.
        Source: paper (seeds); the prompts are our choice.
        """
        messages = prompt(
            f"propose_{self.form}",
            environment=self.name,
            task=self.task,
            seed=seed,
            argument=turn_to(ARGUMENTS, self.name, seed),
            k=self.inputs,
            ask=ask,
            target=target,
        )
        return self._dialogue(messages, seed)

    def revise(self, problem: Problem, ask: str, target=(0.35, 0.65)) -> Dialogue:
        """A later turn: shows the previous problem and the summary of its attempts, nothing else.

        Args:
            problem: the previous problem, with its attempts.
            ask: harder, easier, vary, medium or easy.
            target: lowest and highest pass rate wanted (shares, 0 to 1).
        Returns:
            A generator, as in `propose`.
        Source: paper, sec. 4; the prompts of `two_calls` are our choice.
        """
        argument = ast.unparse(function(problem.program).args)
        messages = prompt(
            f"revise_{self.form}",
            problem=problem,
            task=self.task,
            pairs=list(zip(problem.inputs, problem.outputs)),
            ask=ask,
            target=target,
            k=self.inputs,
            argument=argument,
            hint=turn_to(HINTS[ask], problem.id),
            solved=[sample for sample in problem.samples if sample.outcome == "passed"],
            failed=[sample for sample in problem.samples if sample.outcome == "failed"],
        )
        # First the idea: if asked for the code at once, a small teacher repeats the old one.
        if self.form == "two_calls":
            told = self._answered(messages, (yield messages))
            messages = told + prompt("write", argument=argument, environment=self.name)
        return (yield from self._dialogue(messages, problem.program))

    def _dialogue(self, messages: Messages, origin: str) -> Dialogue:
        """Both forms of the dialogue; the new function must not repeat the code it grew from."""
        answer = yield messages
        if self.form == "one_call":
            draft = self.read(answer)
            program = draft.program
        else:
            program = module(code_block(answer), "f")
        if copied(program, origin):
            raise Rejected(Reason.COPY, "write a new function instead of repeating the given code")
        if self.form != "one_call":
            written = self._answered(messages, f"```python\n{program}\n```")
            draft = yield from self.complete(program, written)
        return draft

    @staticmethod
    def _answered(messages: Messages, answer: str) -> Messages:
        """The messages with the teacher's answer instead of the beginning that it was given."""
        return [*messages[:-1], {"role": "assistant", "content": answer}]

    def complete(self, program: str, messages: Messages) -> Dialogue:
        """Two-call form, second call: the inputs for a program that is already written."""
        # Two more than needed are asked for, because some will not fit f (our choice).
        answer = yield messages + self.ask_inputs(program, self.used + 2)
        return self.draft(program, calls(answer))

    def ask_inputs(self, program: str, k: int) -> Messages:
        """The request for k inputs; the answer is begun in the type of the first argument."""
        # A small teacher forgets the type otherwise.
        shown = signature(program)
        kind = shown.partition(": ")[2].partition(")")[0]
        opening = next((start for name, start in OPENINGS.items() if kind.startswith(name)), "")
        return prompt("inputs", k=k, environment=self.name, signature=shown, opening=opening)

    def read(self, answer: str) -> Problem:
        """One-call form: one function, ```input blocks, a ```message block. Raises Rejected."""
        code = re.sub(r"```(input|message).*?```", "", answer, flags=re.S)
        program = module(code_block(code), "f")
        inputs = []
        for block in re.findall(r"```input[ \t]*\n(.*?)```", answer, flags=re.S):
            try:
                inputs.append(call_text(arguments(block)))
            except ValueError as fault:
                detail = f"{block.strip()[:80]} is not a literal: {fault}"
                raise Rejected(Reason.NO_INPUTS, detail) from None
        message = re.findall(r"```message[ \t]*\n(.*?)```", answer, flags=re.S)
        return self.draft(program, inputs, "".join(message[-1:]).strip())

    def draft(self, code: str, inputs: list[str], message: str = "") -> Problem:
        """A problem that is not verified yet.

        Args:
            code: the program with its function f (in fuzzing also the two tests).
            inputs: what stands inside `f(...)`, as text.
            message: a hint for the student; without one, the docstring of f is taken.
        Returns:
            A problem without outputs.
        Raises:
            Rejected: there are no inputs, or a part of the code is missing.
        Source: paper (the parts); the docstring as a hint is our choice.
        """
        if not inputs:
            raise Rejected(Reason.NO_INPUTS, "no call f(...) with literal arguments")
        return Problem(
            environment=self.name,
            program=code,
            inputs=list(dict.fromkeys(inputs)),
            message=message or docstring(code),
        )

    def real(self, code: str, generator: str, task: str, box: Sandbox) -> Problem:
        """An unverified problem from a solved function with its own task, without a teacher."""
        raise NotImplementedError(f"{self.name}: only induction takes functions as they are")

    def verify(self, draft: Problem, box: Sandbox, other: Sandbox) -> Problem:
        """Run a draft to get its outputs; as here, on the first `used` inputs that work.

        Args:
            draft: a problem without outputs.
            box: a sandbox.
            other: a sandbox with another hash seed.
        Returns:
            The problem with its outputs.
        Raises:
            Rejected: the draft is at fault.
            InfrastructureError: the sandbox failed.
        Source: paper (execution gives the outputs); the checks are our choice.
        """
        inputs = usable(draft.program, draft.inputs, box)[: self.used]
        return draft.with_(inputs=inputs, outputs=execute(draft.program, inputs, box, other))

    def solve_prompt(self, problem: Problem) -> Messages:
        """What student and policy are asked: prompts/solve_<name>.md, filled in.

        Args:
            problem: a verified problem.
        Returns:
            Chat messages with `role` and `content`; the last one is the question.
        Source: paper (what is shown); the wording is our choice.
        """
        given = function(problem.program).args.args
        return prompt(
            f"solve_{self.name}",
            problem=problem,
            visible=self.visible,
            arity=len(given),
            names=", ".join(argument.arg for argument in given),
            types=", ".join(ast.unparse(a.annotation) for a in given if a.annotation),
        )

    def read_answer(self, problem: Problem, completion: str) -> str:
        """The text between the answer marks. Raises Rejected."""
        return last_tag(completion)

    def job(self, problem: Problem, answer: str) -> Job | None:
        """What to run to judge an answer; as here, nothing. Raises Rejected if it is malformed."""
        return None

    def judge(self, problem: Problem, answer: str, result: Result | None) -> Verdict:
        """The verdict on a well-formed answer; `result` is that of its `job`, which returned."""
        raise NotImplementedError

    def grade(self, problem: Problem, completions: list[str], box: Sandbox) -> list[Verdict]:
        """What each answer to a problem is worth.

        Args:
            problem: a verified problem.
            completions: what a model wrote, as it came.
            box: runs the programs, side by side.
        Returns:
            A verdict for each completion, in order.
        Source: paper (binary rewards).
        """
        return grade_all([(self, problem, completion) for completion in completions], box)


def failure(result: Result) -> Verdict:
    """The verdict on a program that did not return: its own fault."""
    return Verdict("failed", Reason.TIMEOUT if result.status == "timeout" else Reason.CRASH)


def grade_all(items: list[tuple[Environment, Problem, str]], box: Sandbox) -> list[Verdict]:
    """Verdicts for (environment, problem, completion) triples: the only way from text to reward."""
    verdicts: dict[int, Verdict] = {}
    pending = []
    # Malformed answers fail at once; the programs of all others start side by side.
    for k, (env, problem, completion) in enumerate(items):
        try:
            answer = env.read_answer(problem, completion)
            job = env.job(problem, answer)
        except Rejected as fault:
            verdicts[k] = Verdict("failed", fault.reason)
        else:
            pending.append((k, answer, box.submit(job) if job else None))
    # A failure of the sandbox is no verdict on the answer; a program that does not return fails.
    for k, answer, future in pending:
        env, problem, _ = items[k]
        result = future.result() if future else None
        if result and result.no_verdict:
            verdicts[k] = Verdict("error", result.detail)
        elif result and result.returned() is None:
            verdicts[k] = failure(result)
        else:
            verdicts[k] = env.judge(problem, answer, result)
    return [verdicts[k] for k in range(len(items))]


def demo(
    env: Environment, program: str, inputs: list[str], completions: list[str]
) -> tuple[Problem, list[Verdict]]:
    """A problem made by hand and verdicts on a few answers: the example of each environment."""
    draft = env.draft(program, inputs)
    with Sandbox(workers=1) as box, Sandbox(workers=1, hash_seed=1) as other:
        problem = env.verify(draft, box, other)
        return problem, env.grade(problem, completions, box)
