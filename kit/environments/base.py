"""What the four environments share: dialogues with the teacher, parsing with typed reasons, verification, grading.

An environment has five verbs. `propose(seed)` and `revise(problem, ask)` are dialogues: generators that yield a prompt,
are sent the teacher's answer, and return a draft; so a small teacher can be asked in several steps and a large one in one,
and whoever drives them need not know. `verify(draft)` runs the draft in two boxes and returns a Problem with its outputs.
`solve_prompt(problem)` is what student and policy see; `grade(problem, answers)` says what each answer is worth.
"""

import ast
import re
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import jinja2

from kit import records
from kit.records import Problem
from kit.sandbox import Job, Result, Sandbox, arguments, call_text, parse, same, text

Messages = list[dict]
Dialogue = Generator[Messages, str, Problem]

_prompts = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "prompts"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


LONGEST = 400  # characters of an input or output: a student has to read it (our choice)


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
    """A teacher's draft is not a problem. `reason` is counted; the text goes back to the teacher once."""

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason, self.detail = reason, detail


class InfrastructureError(RuntimeError):
    """The sandbox failed; nothing follows for the program that ran in it."""


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth: passed and failed are about the answer, error is about us and counts for neither."""

    outcome: str  # passed | failed | error
    reason: str = ""

    @property
    def reward(self) -> float | None:
        """1, 0, or None for an error, which TRL leaves out of the group."""
        return {"passed": 1.0, "failed": 0.0}.get(self.outcome)


def prompt(name: str, **values) -> Messages:
    """Render `prompts/<name>.md`; lines `<!-- user -->`, `<!-- assistant -->`, `<!-- system -->` part its messages."""
    parts = re.split(
        r"^<!-- (system|user|assistant) -->\n",
        _prompts.get_template(f"{name}.md").render(**values),
        flags=re.M,
    )
    return [
        {"role": role, "content": content.strip()}
        for role, content in zip(parts[1::2], parts[2::2])
    ]


# ------------------------------------------------------------------ reading what models write


def code_block(answer: str) -> str:
    """The last fenced Python block; a bare answer that begins like code is taken whole. Raises Rejected."""
    if not answer.strip():
        raise Rejected(Reason.EMPTY)
    blocks = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)```", answer, flags=re.S)
    if blocks:
        return blocks[-1]
    opened = re.search(r"```(?:python|py)?[ \t]*\n(.*)", answer, flags=re.S)
    bare = opened.group(1) if opened else answer
    if re.match(r"\s*(def|import|from|class|@)\s", bare):
        return bare
    raise Rejected(Reason.NO_CODE)


def module(code: str, *functions: str) -> str:
    """Normal form of a program: imports, definitions and assignments only, comments gone. Raises Rejected.

    Every name in `functions` must be defined at the top level."""
    try:
        tree = parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise Rejected(Reason.SYNTAX, str(e)) from None
    keep = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    tree.body = [node for node in tree.body if isinstance(node, keep)]
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if missing := [name for name in functions if name not in defined]:
        raise Rejected(
            Reason.NO_FUNCTION, f"no function named {' or '.join(missing)} at the top level"
        )
    return ast.unparse(tree)


def function(code: str, name: str = "f") -> ast.FunctionDef:
    """The syntax tree of a top-level function. Raises StopIteration where there is none: `module` has asked before."""
    return next(n for n in parse(code).body if isinstance(n, ast.FunctionDef) and n.name == name)


def docstring(code: str) -> str:
    """The docstring of f on one line; empty where it has none."""
    return " ".join((ast.get_docstring(function(code)) or "").split())


# One concrete argument for a small teacher, in turn: several allowed types make it write isinstance dispatchers (our choice).
ARGUMENTS = ("xs: list[int]", "s: str", "n: int", "words: list[str]", "counts: dict[str, int]")
OPENINGS = {
    "list[str]": "['",
    "list": "[",
    "str": "'",
    "dict[str": "{'",
    "dict": "{",
}  # of a literal, by type
# One concrete way to the next version, in turn: told only "harder", a small teacher hands back the old function (our choice).
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
    """One of the choices, the same for the same parts."""
    return choices[int(records.digest(*what), 16) % len(choices)]


def calls(answer: str, name: str = "f") -> list[str]:
    """The argument texts of every `f(...)` in an answer whose arguments are all literals, in order, without repeats."""
    found = []
    for line in answer.splitlines():
        start = line.find(f"{name}(")
        if start < 0 or "def " in line:
            continue
        for end in [m.end() for m in re.finditer(r"\)", line)]:
            try:
                call = parse(line[start:end], mode="eval").body
                if isinstance(call, ast.Call) and not call.keywords:
                    found.append(call_text(arguments(line[start + len(name) + 1 : end - 1])))
                    break
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
    return list(dict.fromkeys(found))


def copied(program: str, seed: str) -> bool:
    """Whether most of the program's lines stand in the seed: a copy teaches nothing. Threshold 0.8: our choice."""

    def lines(code):
        return [re.sub(r"\s+", "", x) for x in code.splitlines() if len(x.strip()) > 8]

    try:
        seed = ast.unparse(parse(seed)) + "\n" + seed
    except (SyntaxError, ValueError):
        pass
    own, theirs = (
        lines(program)[1:],
        set(lines(seed)),
    )  # the signature is renamed to f, so not compared
    return bool(own) and sum(x in theirs for x in own) >= 0.8 * len(own)


# What depends on more than a program's input, or lets it look at its caller.
_UNSTABLE = {
    "time",
    "os",
    "uuid",
    "secrets",
    "threading",
    "locale",
    "platform",
    "socket",
    "subprocess",
    "getpass",
    "tempfile",
    "gc",
    "weakref",
    "inspect",
    "traceback",
    "ctypes",
    "importlib",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "sys.argv",
    "sys._getframe",
    "sys.getrefcount",
    "sys.hash_info",
    "random.SystemRandom",
}
_UNSTABLE_CALLS = {
    "id",
    "hash",
    "object",
    "input",
    "open",
    "globals",
    "locals",
    "vars",
    "dir",
    "__import__",
}


def unstable_name(code: str) -> str:
    """The first name in a program whose value depends on more than its input, or ''. A seeded generator is fine."""
    nodes = list(ast.walk(parse(code)))
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    called = [n for n in nodes if isinstance(n, ast.Call)]
    seeded = any(
        n.args and ast.unparse(n.func) in ("random.seed", "seed", "random.Random", "Random")
        for n in called
    )
    known_as: dict[str, str] = {}  # the program's name for a module or its member -> the real one
    for node in nodes:
        if isinstance(node, ast.Import):
            known_as |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            known_as |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    names = list(known_as.values())
    for node in nodes:
        if isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            names.append(known_as.get(first, first) + dot + rest)
    names += [
        n.func.id
        for n in called
        if isinstance(n.func, ast.Name) and n.func.id in _UNSTABLE_CALLS - own
    ]
    for name in names:
        parts = name.split(".")
        if parts[0] in _UNSTABLE or ".".join(parts[-2:]) in _UNSTABLE or name in _UNSTABLE_CALLS:
            return name
        if parts[0] == "random" and parts[1:] and not seeded:
            return name
    return ""


def last_tag(answer: str, tag: str = "answer") -> str:
    """Text of the last complete <answer>...</answer>. Raises Rejected."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", answer, flags=re.S)
    if not found:
        raise Rejected(Reason.NO_ANSWER, f"no <{tag}> ... </{tag}>")
    return found[-1].strip().strip("`").strip()


# ------------------------------------------------------------------ running


def execute(
    code: str, inputs: list[str], box: Sandbox, other: Sandbox, name: str = "f"
) -> list[str]:
    """Outputs as literal text for each input, the same in two boxes with different hash and random seeds, on a second call in
    one process, and when the inputs come in reverse. Raises Rejected for the program's faults, InfrastructureError for ours."""
    if found := unstable_name(code):
        raise Rejected(Reason.UNSTABLE, f"it uses {found}")
    arguments_ = [arguments(i) for i in inputs]
    once = tuple((name, a) for a in arguments_)
    first, second = box.submit(Job(code, once + once)), other.submit(Job(code, once[::-1], seed=1))
    twice, reverse = values(first.result()), values(second.result())
    here, repeat = twice[: len(once)], twice[len(once) :]
    if not all(same(a, b) and same(a, c) for a, b, c in zip(here, repeat, reverse[::-1])):
        raise Rejected(Reason.UNSTABLE, "two runs on the same input gave different outputs")
    try:
        outputs = [text(v) for v in here]
    except ValueError as e:
        raise Rejected(Reason.NOT_PLAIN, str(e)) from None
    if (longest := max(map(len, outputs))) > LONGEST:
        raise Rejected(Reason.TOO_LONG, f"{longest} characters, at most {LONGEST} are allowed")
    return outputs


def usable(program: str, inputs: list[str], box) -> list[str]:
    """The inputs on which a program returns; the others are the teacher's slips, dropped. Raises Rejected if none is left."""
    results = box.map([Job(program, (("f", arguments(i)),)) for i in inputs])
    if lost := next((r for r in results if r.no_verdict), None):
        raise InfrastructureError(lost.detail)
    good = [i for i, r in zip(inputs, results) if r.returned() is not None]
    if not good:
        why = [str(r.values[-1][1]) if r.values else r.status for r in results]
        raise Rejected(
            Reason.CRASH, "f runs on none of the inputs: " + ", ".join(dict.fromkeys(why))
        )
    return good


def values(result: Result) -> list:
    """The values of a run that went well. Raises Rejected or InfrastructureError."""
    if result.no_verdict:
        raise InfrastructureError(result.detail)
    if result.status == "timeout":
        raise Rejected(Reason.TIMEOUT)
    if (out := result.returned()) is None:
        errors = [v for kind, v in result.values if kind == "err"]
        raise Rejected(
            Reason.NOT_PLAIN if "Unencodable" in errors else Reason.CRASH,
            ", ".join(dict.fromkeys(errors)) or result.status,
        )
    return out


class Environment:
    """Base of the four. A subclass gives `name`, the dialogue's middle (`ask`), `check`, `job` and `judge`."""

    name: str
    task: str = (
        ""  # what the student sees and must do, for the teacher; the four have it in _task.md
    )
    visible: int | None = None

    def __init__(
        self, form: str = "two_calls", inputs: int = 5, visible: int = 3, equality: str = "output"
    ):
        self.form, self.inputs, self.visible, self.equality = form, inputs, visible, equality

    def probe(self, problem: Problem) -> tuple[str, tuple[str, ...]]:
        """A program and the names in it whose values on an input tell what the problem does: to find its twins by behaviour."""
        return problem.program, ("f",)

    # ---- teacher
    def propose(self, seed: str, ask: str = "new", target=(0.35, 0.65)) -> Dialogue:
        """Turn 1: from a seed snippet. `ask` is "new", or "hard" with the pass rates that count as hard."""
        argument = turn_to(ARGUMENTS, self.name, seed)
        return self._dialogue(
            prompt(
                f"propose_{self.form}",
                environment=self.name,
                task=self.task,
                seed=seed,
                argument=argument,
                k=self.inputs,
                ask=ask,
                target=target,
            ),
            seed,
        )

    def revise(self, problem: Problem, ask: str, target=(0.35, 0.65)) -> Dialogue:
        """A later turn: sees the previous problem and the summary of its attempts, nothing else (paper, sec. 4).

        `ask`: harder, easier, vary, medium or easy. `target`: lowest and highest pass rate that the new version should have."""
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
            solved=[s for s in problem.samples if s.outcome == "passed"],
            failed=[s for s in problem.samples if s.outcome == "failed"],
        )
        if (
            self.form == "two_calls"
        ):  # first the idea: asked for the code at once, a small teacher repeats the old one
            idea = {"role": "assistant", "content": (yield messages)}
            messages = [
                *messages[:-1],
                idea,
                *prompt("write", argument=argument, environment=self.name),
            ]
        return (yield from self._dialogue(messages, problem.program))

    def _dialogue(self, messages: Messages, origin: str) -> Dialogue:
        if self.form == "one_call":
            draft = self.read((yield messages))
            self._new(draft.program, origin)
        else:
            program = self._new(module(code_block((yield messages)), "f"), origin)
            messages = [
                *messages[:-1],
                {"role": "assistant", "content": f"```python\n{program}\n```"},
            ]
            draft = yield from self.complete(program, messages)
        return draft

    @staticmethod
    def _new(program: str, origin: str) -> str:
        if copied(program, origin):
            raise Rejected(Reason.COPY, "write a new function instead of repeating the given code")
        return program

    def complete(self, program: str, messages: Messages) -> Dialogue:
        """Two-call form, second call: the inputs for a program that is already written."""
        return self.draft(
            program, calls((yield messages + self.ask_inputs(program, self.used + 2)))
        )

    def ask_inputs(self, program: str, k: int) -> Messages:
        """The request for k inputs; its answer is begun in the type of the first argument, which a small teacher else forgets."""
        kind = signature(program).partition(": ")[2].partition(")")[0]
        return prompt(
            "inputs",
            k=k,
            environment=self.name,
            signature=signature(program),
            opening=next(
                (opening for name, opening in OPENINGS.items() if kind.startswith(name)), ""
            ),
        )

    @property
    def used(self) -> int:
        """Inputs that a problem has; two more are asked for, because some will not fit f (our choice)."""
        return 1

    def draft(self, code: str, inputs: list[str], message: str = "") -> Problem:
        """An unverified problem; its message (our choice: the docstring, where the teacher gave none). Raises Rejected."""
        if not inputs:
            raise Rejected(Reason.NO_INPUTS, "no call f(...) with literal arguments")
        return Problem(
            environment=self.name,
            program=code,
            inputs=list(dict.fromkeys(inputs)),
            message=message or docstring(code),
        )

    def read(self, answer: str) -> Problem:
        """One-call form (the paper's): one function, inputs in ```input blocks, a ```message block. Raises Rejected."""
        program = module(
            code_block(re.sub(r"```(input|message).*?```", "", answer, flags=re.S)), "f"
        )
        inputs = []
        for block in re.findall(r"```input[ \t]*\n(.*?)```", answer, flags=re.S):
            try:
                inputs.append(call_text(arguments(block)))
            except ValueError as e:
                raise Rejected(
                    Reason.NO_INPUTS, f"{block.strip()[:80]} is not a literal: {e}"
                ) from None
        message = re.findall(r"```message[ \t]*\n(.*?)```", answer, flags=re.S)
        return self.draft(program, inputs, message[-1].strip() if message else "")

    def verify(self, draft: Problem, box: Sandbox, other: Sandbox) -> Problem:
        """Run a draft in two boxes; returns it with outputs. Raises Rejected (the draft's fault) or InfrastructureError (ours)."""
        raise NotImplementedError

    # ---- student and policy
    def solve_prompt(self, problem: Problem) -> Messages:
        """The messages that student and policy get: prompts/solve_<name>.md, filled in."""
        given = function(problem.program).args.args
        return prompt(
            f"solve_{self.name}",
            problem=problem,
            visible=self.visible,
            arity=len(given),
            names=", ".join(a.arg for a in given),
            types=", ".join(ast.unparse(a.annotation) for a in given if a.annotation),
        )

    def read_answer(self, problem: Problem, completion: str) -> str:
        """The text between the answer marks. Raises Rejected."""
        return last_tag(completion)

    def job(self, problem: Problem, answer: str) -> Job | None:
        """The program that decides about an answer; None where nothing need run. Raises Rejected for a malformed answer."""
        raise NotImplementedError

    def judge(self, problem: Problem, answer: str, result: Result | None) -> Verdict:
        """The verdict on a well-formed answer, from the result of its `job` (None where nothing was run)."""
        raise NotImplementedError

    def grade(self, problem: Problem, completions: list[str], box: Sandbox) -> list[Verdict]:
        """A verdict for each completion, in order. Programs run side by side in the box."""
        return grade_all([(self, problem, c) for c in completions], box)


def grade_all(items: list[tuple[Environment, Problem, str]], box: Sandbox) -> list[Verdict]:
    """Verdicts for (environment, problem, completion) triples, in order: the one way from text to reward."""
    verdicts: list[Verdict | None] = [None] * len(items)
    pending = []
    for k, (env, problem, completion) in enumerate(items):
        try:
            answer = env.read_answer(problem, completion)
            job = env.job(problem, answer)
            pending.append((k, answer, box.submit(job) if job else None))
        except Rejected as e:
            verdicts[k] = Verdict("failed", e.reason)
    for k, answer, future in pending:
        env, problem, _ = items[k]
        result = future.result() if future else None
        lost = result is not None and result.no_verdict
        verdicts[k] = (
            Verdict("error", result.detail) if lost else env.judge(problem, answer, result)
        )
    return verdicts


def given_arguments(answer: str) -> tuple:
    """A student's proposed input, `[1, 2], 3` or `f([1, 2], 3)`, read as literals, never run. Raises Rejected."""
    answer = answer.strip()
    if answer.startswith("f(") and answer.endswith(")"):
        answer = answer[2:-1]
    try:
        return arguments(answer)
    except ValueError as e:
        raise Rejected(Reason.NO_ANSWER, str(e)) from None


def signature(program: str) -> str:
    """`f(xs: list[int]) -> int` of a program, without its body."""
    node = function(program)
    return f"f({ast.unparse(node.args)})" + (
        f" -> {ast.unparse(node.returns)}" if node.returns else ""
    )


def failure(result: Result) -> Verdict:
    """The verdict on a program that did not return: its own fault."""
    return Verdict("failed", Reason.TIMEOUT if result.status == "timeout" else Reason.CRASH)


def prompt_hash(messages: Messages) -> str:
    """Names a prompt in a problem's record: which of our texts the teacher was given."""
    return records.digest(messages)


def demo(
    env: Environment, program: str, inputs: list[str], completions: list[str]
) -> tuple[Problem, list[Verdict]]:
    """A problem made by hand and verdicts on a few answers, in the real sandbox: the examples at the end of each environment."""
    draft = env.draft(program, inputs)
    with Sandbox(workers=1) as box, Sandbox(workers=1, hash_seed=1) as other:
        problem = env.verify(draft, box, other)
        return problem, env.grade(problem, completions, box)
