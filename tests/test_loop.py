"""The teacher inside the training loop: its arms, its plans, what is left after a kill.

A fake policy answers and a fake training writes rollouts; with the small policy of `data/mini`
here, the real loop is killed too.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from ast import literal_eval
from concurrent.futures import Future

import pandas as pd
import pytest

from kit import claims, filters, findings, loop_findings
from kit.arms import ArmError
from kit.commands import loops
from kit.core import profile, records
from kit.core.manifest import ROOT, RunError
from kit.core.types import Problem, SeedSnippet, digest
from kit.environments import make
from kit.environments.verify import DeterminismCheck
from kit.held_out import held_out_items
from kit.loop import LOOP_ARMS, WISHES, TeacherLoop
from kit.mini.language import apply_steps, steps_of
from kit.mini.teacher import ScriptedTeacher
from kit.rollouts import ROLLOUT, read_rollouts
from kit.sandbox import Sandbox
from kit.seeds import wild_seeds
from kit.serving.engine import Completion, Engine
from kit.serving.models import SMALL_POLICIES
from kit.synthesis import Synthesis

TINY = """base: mini
name: tiny
rounds: {environments: [deduction], turns: 2, attempts: 8, baseline: false, stones: 0}
curriculum: {environments: {deduction: 1.0}}
grpo: {steps: 6, prompts_per_step: 4, group_size: 4, batch: 16, save_every: 1}
evaluation: {synthetic: 4, unsolved: 2, maths: 2, n: 2, ks: [1, 2]}
"""


class FakeKill(BaseException):
    """Ends a loop wherever it is raised."""


class FakePolicy(Engine):
    """Solves deduction problems, the fewer steps the more often; the more, the later it is."""

    # Requests until it is killed.
    left = 10**6

    def _send(self, key, messages, n, sampling):
        FakePolicy.left -= 1
        if FakePolicy.left == 0:
            raise FakeKill
        asked = messages[-1]["content"]
        steps = steps_of(asked)
        right = apply_steps(steps, literal_eval(re.search(r"does f\((.*)\)", asked)[1]))[-1]
        step = int(self.name.split()[1])
        rng = random.Random(key)
        skill = fake_skill(steps, step)
        given = [right if rng.random() < skill else [rng.random()] for _ in range(n)]
        texts = [f"<answer>{answer}</answer>" for answer in given]
        sent = Future()
        sent.set_result([Completion(text, tokens=5) for text in texts])
        return sent


def fake_skill(steps, step):
    return max(0.05, min(1.0, 1.1 - 0.3 * len(steps) + 0.05 * step))


def fake_training(run, _):
    """Writes the rollouts of the steps that the plan has and the training has not."""
    log = records.Log(run.path("rollouts.jsonl"))
    done = {row["step"] for row in log}
    problems = {x.id: x for x in run.problems("filtered")}
    for step, rows in run.table("plan").groupby("step"):
        if step + 1 in done:
            continue
        answers = []
        for row in rows.itertuples():
            rng = random.Random(f"{step} {row.slot}")
            skill = fake_skill(steps_of(problems[row.problem_id].program), step)
            for _ in range(4):
                passed = rng.random() < skill
                facts = {"step": step + 1, "slot": row.slot, "problem_id": row.problem_id}
                facts |= {"environment": row.environment, "bin": row.bin, "reward": float(passed)}
                facts |= {"outcome": "passed" if passed else "failed", "tokens": 5}
                facts |= {"answer": f"<answer>[{rng.random()}]</answer>", "reason": ""}
                answers.append(facts | {"malformed": False, "cut_off": False})
                assert {*answers[-1]} == {*ROLLOUT}
        log.append({"step": step + 1, "rollouts": answers})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What notebooks 01 to 03 leave, made by the script and a fake student."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "tiny.yaml").write_text(TINY)
    tiny = profile.load_profile(str(folder / "tiny.yaml"))
    wild = [x for x in wild_seeds(40) if re.search(r"sort|sum|\[", x.text)][:14]
    snippets = [
        SeedSnippet(id=digest(x.text), text=x.text, source="wild", origin="test", split=split)
        for x, split in zip(wild, ["train", "train", "held_out"] * 5)
    ]
    pd.DataFrame([x.model_dump() for x in snippets]).to_parquet(folder / "seeds.parquet")
    with (
        Sandbox() as box,
        Sandbox(hash_seed=1) as other,
        ScriptedTeacher(tiny.teacher) as writer,
        FakePolicy(tiny.student, name="policy 0") as student,
    ):
        engines = (writer, student)
        check = DeterminismCheck(box, other)
        made = Synthesis(tiny, *engines, check, folder / "problems.jsonl").generate(snippets)
        problems = list(made)
        found = filters.behaviour(problems, tiny.filters.probes, {}, box)
    kept = filters.apply(problems, tiny.filters, {}, found)
    records.save_problems(kept, folder / "filtered.parquet")
    return folder


def prepared(data, folder, arm="closed-loop", seed=0, segments=3):
    (run,) = loops.prepare_loops(
        str(data / "tiny.yaml"), folder, data, [arm], [seed], segments, turns=1
    )
    return run


@pytest.fixture
def fakes(monkeypatch):
    def student(self, step, batch=1):
        log = self.run.path("completions/policy.jsonl")
        return FakePolicy(self.run.profile.student, log, f"policy {step}")

    FakePolicy.left = 10**6
    monkeypatch.setattr(TeacherLoop, "student", student)
    monkeypatch.setattr(loops, "train_segment", fake_training)
    monkeypatch.setattr(loops, "run_notebooks", lambda *given: None)


def looped(data, folder, arm="closed-loop"):
    run = prepared(data, folder, arm)
    loops.run_loop(str(data / "tiny.yaml"), run)
    return run


def left_by(run):
    """What a loop leaves, without the time it took."""
    tables = (records.read_parquet(run / f"{name}.parquet") for name in ("plan", "segments"))
    plan, bill = (table.drop(columns="seconds", errors="ignore") for table in tables)
    rollouts = read_rollouts(run / "rollouts.jsonl")
    problems = records.problems_frame(records.load_problems(run / "filtered.parquet"))
    return {"plan": plan, "bill": bill, "rollouts": rollouts, "problems": problems}


def assert_equal(one, two):
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name])


@pytest.fixture(scope="module")
def by_arm(data, tmp_path_factory):
    """All four arms, undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        fakes.__wrapped__(patch)
        folder = tmp_path_factory.mktemp("arms")
        return {arm: left_by(looped(data, folder, arm)) for arm in LOOP_ARMS}


def test_every_new_problem_knows_segment_policy_and_parent(by_arm):
    for arm, left in by_arm.items():
        problems = left["problems"]
        new = problems[problems.segment > 0]
        between, _, _ = LOOP_ARMS[arm]
        assert set(new.segment) == ({2, 3} if between else {1})
        assert (new.policy_step == 2 * (new.segment - 1)).all()
        assert (new.split == "train").all() and new.status.eq("valid").any()
        known = set(problems.id)
        assert new.parent_id.isin(known).all() and new.asked.isin(WISHES).all()
        # Only a turn before it can be a parent, of the same chain.
        chains = problems.drop_duplicates("id").set_index("id")
        for row in new.itertuples():
            assert chains.turn[row.parent_id] < row.turn


@pytest.mark.parametrize("form", ["one_call", "two_calls"])
@pytest.mark.parametrize("wish", WISHES)
def test_without_feedback_the_teacher_reads_no_word_of_the_attempts(data, form, wish):
    tiny = profile.load_profile(str(data / "tiny.yaml"))
    env = make(tiny.rounds.model_copy(update={"form": form}))["deduction"]
    tried = next(x for x in records.load_problems(data / "filtered.parquet") if x.n)

    def read(problem):
        return str(next(env.revise(problem, wish)))

    words = ("attempts", "Diagnosis", "how a student", "n answer")
    told = read(tried)
    assert all(word in told for word in words[:3]) and tried.program.splitlines()[1] in told
    blind = read(tried.with_(n=0, solved=0, samples=[]))
    assert not any(word in blind for word in words) and tried.program.splitlines()[1] in blind


def test_the_arms_have_the_same_budget_and_the_same_first_problems(by_arm):
    made = {arm: int(left["bill"].made.sum()) for arm, left in by_arm.items()}
    assert len(set(made.values())) == 1 and made["frozen"] > 8, made
    assert len({len(left["rollouts"]) for left in by_arm.values()}) == 1
    first = [left["problems"].query("segment == 0") for left in by_arm.values()]
    for other in first[1:]:
        pd.testing.assert_frame_equal(first[0], other)
    # Frozen and re-measured train on the same problems, with other plans.
    frozen, measured = by_arm["frozen"], by_arm["re-measured"]
    pd.testing.assert_frame_equal(frozen["problems"], measured["problems"])
    pd.testing.assert_frame_equal(frozen["plan"][:8], measured["plan"][:8])
    assert not frozen["plan"].equals(measured["plan"])


def test_what_two_arms_have_in_common_is_made_once(data, by_arm, tmp_path, fakes):
    # By itself the arm makes the records that it takes over beside the other one.
    assert_equal(left_by(looped(data, tmp_path / "alone", "re-measured")), by_arm["re-measured"])
    frozen = looped(data, tmp_path / "both", "frozen")
    # What is asked now are the problems that the policy tries once more.
    FakePolicy.left = 10**6
    measured = looped(data, tmp_path / "both", "re-measured")
    assert_equal(left_by(measured), by_arm["re-measured"])
    again = pd.read_parquet(measured / "segments.parquet").again
    assert again[0] == 0 < again[1] and again.sum() == 4 * (10**6 - FakePolicy.left)
    # The bill has what making them took.
    seconds = [pd.read_parquet(x / "segments.parquet").seconds[0] for x in (frozen, measured)]
    assert seconds[0] == seconds[1] > 0
    # An arm that makes its own between the segments takes nothing over.
    FakePolicy.left = 10**6
    assert_equal(left_by(looped(data, tmp_path / "both", "closed-loop")), by_arm["closed-loop"])
    assert FakePolicy.left < 10**6


def test_all_arms_are_evaluated_on_the_same_problems(data, by_arm):
    """Whatever the teacher writes: what would take one out is dropped as contaminated."""
    envs = make(profile.load_profile(str(data / "tiny.yaml")).rounds)

    def asked(problems):
        names = ("synthetic", "unsolved")
        return [x.id for name in names for x in held_out_items(name, problems, envs, 10**6)]

    first = asked(records.load_problems(data / "filtered.parquet"))
    assert len(first) >= 4
    for left in by_arm.values():
        rows = left["problems"].drop(columns=["id", "p"]).to_dict("records")
        assert asked([Problem.model_validate(row) for row in rows]) == first


def test_what_gave_no_signal_is_not_drawn_again(by_arm):
    for arm, left in by_arm.items():
        if not LOOP_ARMS[arm].refresh:
            continue
        rollouts = left["rollouts"]
        first = rollouts[rollouts.step <= 2].groupby("problem_id").reward.mean()
        later = left["plan"][left["plan"].step.between(2, 3)].problem_id
        assert first[first.isin([0, 1])].size and not {*first[first.isin([0, 1])].index} & {*later}


def test_the_frozen_plan_is_that_of_one_training(data, by_arm, tmp_path, fakes):
    """Cut into segments or not: the paper's arm draws the same."""
    run = prepared(data, tmp_path, "frozen", segments=1)
    loop = TeacherLoop(str(data / "tiny.yaml"), run)
    problems = by_arm["frozen"]["problems"]
    made = [
        Problem.model_validate(row) for row in problems.drop(columns=["id", "p"]).to_dict("records")
    ]
    pd.testing.assert_frame_equal(loop.plan(1, made), by_arm["frozen"]["plan"])


def test_the_teacher_is_asked_by_the_policy_s_own_rollouts(data, tmp_path, fakes):
    run = prepared(data, tmp_path)
    loop = TeacherLoop(str(data / "tiny.yaml"), run)
    problems = loop.problems(1)
    assert problems == loop.run.problems("filtered"), "the first segment makes nothing"
    loop.run.save_table(loop.plan(1, problems), "plan")
    fake_training(loop.run, "")
    written = read_rollouts(run / "rollouts.jsonl")
    graded = [x for x in problems if x.n]
    for before, now in zip(graded, loop.seen(graded, 2), strict=True):
        own = written[written.problem_id == before.id]
        if own.empty:
            # The policy of that moment tries it, as often as a group has rollouts.
            assert (now.n, before.id in loop.tried[2]) == (4, True)
            continue
        assert before.id not in loop.tried[2]
        assert (now.n, now.solved, now.id) == (len(own), own.reward.sum(), before.id)
        shown = {sample.answer for sample in now.samples if sample.outcome == "failed"}
        assert len(shown) <= 2 and all(any(x in text for text in own.answer) for x in shown)
    assert loop.seen(problems, 1) == problems, "before the first segment there is no policy's view"


def test_filters_decide_on_new_problems_alone_and_guard_the_held_out_ones(data, tmp_path, fakes):
    loop = TeacherLoop(str(data / "tiny.yaml"), prepared(data, tmp_path))
    before = loop.run.problems("filtered")
    held = next(x for x in before if x.split == "held_out" and x.behaviour)
    own = next(x for x in before if x.kept and x.split == "train" and x.behaviour)
    # The same functions with other inputs, as a teacher may write them again.
    env = make(loop.run.profile.rounds)["deduction"]
    with loop.run.box() as box, loop.run.box(hash_seed=1) as other:
        again = [
            env.verify(x.with_(inputs=["[5, 3, 8, 1, 9, 2]"]), DeterminismCheck(box, other)).with_(
                split="train", segment=2, kept=False, n=8, solved=4, chain_id=f"new {k}"
            )
            for k, x in enumerate((held, own))
        ]
    one, two = loop.judged(before, again)
    assert not one.kept and not two.kept
    assert one.dropped_by in ("contaminated", "duplicate") and two.dropped_by == "duplicate"
    assert loop.judged(before, again[:1]) == [one], "decided one after the other"
    # What we lost ourselves stays our error, whatever its program is.
    (lost,) = loop.judged(before, [again[0].with_(status="error", n=0, solved=0)])
    assert lost.dropped_by == "error"


def test_two_programs_that_no_probe_can_tell_are_not_the_same(data, tmp_path, fakes, monkeypatch):
    loop = TeacherLoop(str(data / "tiny.yaml"), prepared(data, tmp_path))
    before = [
        x.with_(behaviour="") if x.split == "held_out" else x for x in loop.run.problems("filtered")
    ]
    step = "def f(xs):\n    xs = [x * 977 for x in xs]\n    return xs"
    own = next(x for x in before if x.kept and x.split == "train")
    new = own.with_(program=step, segment=2, kept=False, n=8, solved=4, chain_id="new")
    monkeypatch.setattr(filters, "behaviour", lambda *given: filters.Behaviour({}, {}))
    (found,) = loop.judged(before, [new])
    assert found.kept, found.reason


@pytest.mark.parametrize("requests", [1, 4, 9])
def test_a_loop_that_is_stopped_among_attempts_leaves_equal_records(
    data, by_arm, tmp_path, fakes, requests
):
    FakePolicy.left = requests
    with pytest.raises(FakeKill):
        looped(data, tmp_path)
    FakePolicy.left = 10**6
    assert_equal(left_by(looped(data, tmp_path)), by_arm["closed-loop"])


@pytest.mark.parametrize("table", ["filtered", "plan"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_loop_that_is_stopped_between_its_files_leaves_equal_records(
    data, by_arm, tmp_path, fakes, monkeypatch, table, number
):
    """Stopped right after a file was written, whichever it is."""
    real, count = records.write_parquet, 0

    def stopping(rows, path, *more):
        nonlocal count
        real(rows, path, *more)
        count += path.name == f"{table}.parquet"
        if count == number:
            raise FakeKill

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_parquet", stopping)
        with pytest.raises(FakeKill):
            looped(data, tmp_path)
    assert_equal(left_by(looped(data, tmp_path)), by_arm["closed-loop"])


def test_what_cannot_be_a_loop_is_refused_before_anything_is_written(data, tmp_path):
    with pytest.raises(ArmError, match="closed-loop"):
        prepared(data, tmp_path, "open-loop")
    with pytest.raises(RunError, match=r"grpo\.steps"):
        prepared(data, tmp_path, segments=7)
    assert not any(tmp_path.iterdir())
    prepared(data, tmp_path)
    with pytest.raises(RunError, match="other values"):
        prepared(data, tmp_path, segments=2)


# The findings


def test_f11_asks_for_more_than_each_control():
    parts = [part for claim in loop_findings.LOOP_CLAIMS for part in claim.comparisons]
    assert len(parts) == 12 and {part.a for part in parts} == {"closed-loop"}
    assert {part.b for part in parts} == {*LOOP_ARMS} - {"closed-loop"}
    rng = random.Random(0)
    rates = {"frozen": 0.4, "re-measured": 0.4, "no-feedback": 0.6, "closed-loop": 0.6}
    scores = pd.DataFrame(
        {
            **{"arm": arm, "seed": seed, "checkpoint": "after", "set": "synthetic", "bin": "hard"},
            **{"problem_id": f"synthetic/{k}", "group": "deduction", "n": 8, "greedy": 1.0},
            "solved": sum(rng.random() < rate + 0.01 * seed for _ in range(8)),
        }
        for arm, rate in rates.items()
        for seed in range(5)
        for k in range(40)
    )
    board = findings.board({"scores": scores}, loop_findings.LOOP_CLAIMS)
    sampled = board[board["mode"] == "sampled"].groupby("claim", sort=False)
    assert sampled.part.agg(list)["F11a"] == ["supported", "supported", "undecided"]
    assert sampled.verdict.first().tolist() == ["undecided", claims.UNTESTED] + [
        claims.UNTESTED,
        "undecided",
    ]


def test_without_a_study_everything_is_untested(tmp_path):
    class FakeRun:
        scale, recorded = "", set()

    tables, label = loop_findings.read_loops(FakeRun, tmp_path / "none", tmp_path / "neither")
    assert tables["segments"].empty and "made" in tables["segments"] and label == ""
    board = findings.board(tables, loop_findings.LOOP_CLAIMS)
    assert set(board.verdict) == {claims.UNTESTED}


# With the small policy itself

HERE = (SMALL_POLICIES["mini"] / "made.json").exists()
needs_policy = pytest.mark.skipif(not HERE, reason="python -m kit models --make mini")


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_policy
def test_a_killed_loop_goes_on_with_equal_records(data, tmp_path):
    """kill -9 among the attempts of a segment, and in the training of the next one."""

    def start(folder):
        code = "import sys; from kit.commands import loops; from pathlib import Path; "
        code += "loops.run_notebooks = print; loops.run_loop(sys.argv[1], Path(sys.argv[2]))"
        run = prepared(data, folder)
        command = [sys.executable, "-c", code, str(data / "tiny.yaml"), str(run)]
        given = os.environ | {"KIT_HEADLESS": "1", "OMP_NUM_THREADS": "1"}
        return run, subprocess.Popen(command, cwd=ROOT, env=given, start_new_session=True)

    for file, lines in (("further.jsonl", 3), ("rollouts.jsonl", 5)):
        run, child = start(tmp_path / "killed")
        while child.poll() is None:
            log = run / file
            if log.exists() and log.read_bytes().count(b"\n") >= lines:
                os.killpg(child.pid, signal.SIGKILL)
            time.sleep(0.02)
        assert child.returncode == -signal.SIGKILL, "it ended before it could be killed"
    for folder in ("killed", "whole"):
        run, child = start(tmp_path / folder)
        assert child.wait() == 0
    runs = [tmp_path / name / "closed-loop" / "0" for name in ("killed", "whole")]
    assert_equal(*map(left_by, runs))
    assert json.loads((runs[0] / "arm.json").read_text())["segments"] == 3
