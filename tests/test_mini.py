"""The miniature: its language, its teacher in the kit's own dialogues, its policy's recipe.

No model is asked here; programs run in the real sandbox.
"""

import json
import random
import shutil
from collections import Counter

import pytest
import transformers

from kit import grpo
from kit.core import profile
from kit.core.config import Role, Sampling
from kit.core.profile import ProfileError
from kit.core.programs import module
from kit.core.prompts import prompt
from kit.core.types import Reason, Rejected
from kit.environments import KINDS, make
from kit.environments.verify import DeterminismCheck
from kit.mini import language, policy
from kit.mini.teacher import ScriptedTeacher
from kit.sandbox import Sandbox
from kit.seeds import wild_seeds
from kit.serving import models
from kit.serving.engine import EngineDown, EngineError, RequestError
from kit.serving.weights import ModelDigestError, ModelUnavailable

MINI = profile.load_profile("mini")
ENVS = make(MINI.rounds)
SNIPPETS = [seed.text for seed in wild_seeds(40)]


@pytest.fixture(scope="module")
def check():
    with Sandbox() as box, Sandbox(hash_seed=1) as other:
        yield DeterminismCheck(box, other)


@pytest.fixture(scope="module")
def words():
    return policy.make_tokenizer(0)


def teacher(**settings):
    return ScriptedTeacher(MINI.teacher.model_copy(update={"extra": settings}))


def answered(engine, dialogue, key):
    """The draft that ends a dialogue in one call. Raises Rejected."""
    (completion,) = engine.submit(next(dialogue), 1, key).result()
    try:
        dialogue.send(completion.text)
    except StopIteration as end:
        return end.value
    raise AssertionError("the paper's form is one call")


def examples(name, depth, n=6):
    rng = random.Random(f"{name} {depth}")
    return [policy.draw_example(rng, name, depth) for _ in range(n)]


# The language


def test_every_step_is_in_normal_form_and_is_undone():
    rng = random.Random(0)
    for step, undo in language.SMALL_STEPS.items():
        program = language.program_of([step])
        assert module(program, "f") == program and language.steps_of(program) == [step]
        lists = [language.draw_input(rng) for _ in range(200)]
        outputs = [
            language.apply_steps([step], xs)[-1] for xs in lists if language.fits([step], [xs])
        ]
        back = [language.apply_steps([undo, step], xs)[-1] == xs for xs in outputs]
        # What is undone step by step is checked, and given up, where an example is made.
        assert sum(back) > 0.25 * len(back) > 0, step


@pytest.mark.parametrize("name", KINDS)
def test_worked_answers_are_right_by_the_kit_s_own_verification_and_grading(name, check):
    for depth in (1, 2, 3, 6):
        for problem in examples(name, depth):
            assert len(language.steps_of(problem.program)) == depth
            answer = language.worked_answer(problem)
            verified = ENVS[name].verify(problem, check)
            if name != "fuzzing":
                assert {*verified.outputs} <= {*problem.outputs}
            (verdict,) = ENVS[name].grade(verified, [answer], check.primary)
            assert verdict.outcome == "passed", (problem, answer)


def test_what_stands_for_real_data_is_mostly_easy_and_becomes_induction_problems(check):
    functions = language.drawn_functions(60)
    assert functions[:20] == language.drawn_functions(20)
    steps = [len(language.steps_of(function.text)) for function in functions]
    assert steps.count(1) > 20 and max(steps) >= 5
    first = functions[0]
    induction = ENVS["induction"]
    draft = induction.real(first.text, first.generator, first.task, check.primary)
    problem = induction.verify(draft, check)
    assert problem.message == f"number of steps: {steps[0]}" and len(problem.outputs) == 5


# The teacher


@pytest.mark.parametrize("name", KINDS)
def test_its_problems_are_valid_at_the_stated_rate(name, check):
    outcomes = Counter()
    with teacher(invalid=0.2, copies=0.0) as engine:
        for number, snippet in enumerate(SNIPPETS * 2):
            try:
                draft = answered(engine, ENVS[name].propose(snippet), str(number))
                outcomes[ENVS[name].verify(draft, check).status] += 1
            except Rejected as fault:
                outcomes[fault.reason] += 1
    # Three standard deviations of 80 draws, about four fifths.
    assert 80 * (0.8 - 0.14) < outcomes["valid"] < 80 * (0.8 + 0.14)
    assert len(outcomes) >= 4, "invalid in several ways"


@pytest.mark.parametrize("name", KINDS)
def test_harder_adds_a_step_easier_takes_one_away_and_none_is_a_copy(name):
    def depths(ask):
        moves = Counter()
        for problem in examples(name, 3, 12):
            tried = problem.with_(n=32, solved=16)
            draft = answered(engine, ENVS[name].revise(tried, ask), problem.id)
            moves[len(language.steps_of(draft.program))] += 1
        return set(moves)

    with teacher(invalid=0.0, copies=0.0) as engine:
        assert depths("harder") == {4} and depths("vary") == {3} and depths("easy") == {1}
        assert depths("easier") == depths("medium") == {2}


def test_copies_come_at_the_stated_rate():
    copies = 0
    with teacher(invalid=0.0, copies=0.3) as engine:
        for problem in examples("deduction", 2, 100):
            tried = problem.with_(n=32, solved=32)
            try:
                answered(engine, ENVS["deduction"].revise(tried, "harder"), problem.id)
            except Rejected as fault:
                copies += fault.reason == Reason.COPY
    assert 16 <= copies <= 44


def test_a_chain_of_harder_versions_ends_at_the_deepest():
    depths = []
    with teacher(invalid=0.0, copies=0.0, deepest=4) as engine:
        problem = answered(engine, ENVS["deduction"].propose(SNIPPETS[0]), "chain")
        for turn in range(5):
            tried = problem.with_(outputs=["[1]"], n=32, solved=32)
            problem = answered(engine, ENVS["deduction"].revise(tried, "harder"), f"chain {turn}")
            depths.append(len(language.steps_of(problem.program)))
    assert depths == sorted(depths) and depths[-1] == 4


def test_an_invalid_answer_is_repaired_and_the_same_request_has_the_same_answer():
    asked = next(ENVS["fuzzing"].propose(SNIPPETS[1]))
    said = [{"role": "assistant", "content": "no code"}, *prompt("repair", error="no code")]
    with teacher(invalid=0.0, copies=0.0) as engine, teacher(invalid=0.0, copies=0.0) as again:
        (one,) = engine.submit(asked + said, 1, "a").result()
        (two,) = again.submit(asked + said, 1, "a").result()
        (other,) = engine.submit(asked, 1, "b").result()
    assert "pre_test_f" in one.text and one == two != other


def test_what_the_teacher_cannot_do_is_said():
    with teacher() as engine:
        with pytest.raises(RequestError, match="nothing to draw from"):
            engine.submit(next(ENVS["deduction"].propose("...")), 1, "a").result()
        assert engine.alive()
        with pytest.raises(EngineDown, match="one_call"):
            engine.submit(next(KINDS["deduction"]().propose(SNIPPETS[0])), 1, "b").result()
    with pytest.raises(EngineError, match="lower extra.deepest"):
        teacher(deepest=50)
    with pytest.raises(ProfileError, match="teacher.engine: script"):
        profile.load_profile("cpu", {"teacher.engine": "script"})


# The policy


@pytest.mark.parametrize("name", KINDS)
def test_prompts_and_answers_are_short_and_come_back_from_their_tokens(name, words):
    vocabulary = words.get_vocab()
    for depth in (1, 3, 6):
        for problem in examples(name, depth):
            messages = ENVS[name].solve_prompt(problem)
            text = words.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            assert text == messages[-1]["content"] + "<go>"
            answer = language.worked_answer(problem)
            asked, written = words(text)["input_ids"], words(answer)["input_ids"]
            assert words.decode(asked) == text and words.decode(written) == answer
            assert len(asked) <= 80 and len(written) <= 80
            assert vocabulary["<go>"] == asked[-1] and words.eos_token_id not in written


def test_other_text_has_tokens_too_and_they_lead_back(words):
    text = "Find the greatest common divisor of 36 and 60: é\tx"
    assert words.decode(words(text)["input_ids"]) == text


def test_an_example_is_known_by_its_number_and_only_its_answer_counts(words):
    recipe = policy.Recipe(batch=4, stages=[(2, {"deduction": [1]}), (2, {"fuzzing": [0, 1]})])
    drawn, again = policy.Examples(recipe, words), policy.Examples(recipe, words)
    assert len(drawn) == 16 and all(drawn[k] == again[k] for k in range(16))
    assert "What does f" in words.decode(drawn[7]["input_ids"])
    assert "test_f" in words.decode(drawn[8]["input_ids"])
    counted = [token for token in drawn[7]["labels"] if token >= 0]
    assert words.decode(counted).startswith("<answer>") and counted[-1] == words.eos_token_id


def test_other_weights_than_the_recipe_made_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "mini"
    monkeypatch.setitem(models.SMALL_POLICIES, "mini", folder)
    with pytest.raises(ModelUnavailable, match="--make mini"):
        models.model_path("mini")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "made.json").write_text(json.dumps({"sha256": "0"}))
    with pytest.raises(ModelDigestError, match="--make mini"):
        models.model_path("mini")
    shutil.rmtree(folder)
    with pytest.raises(ModelUnavailable, match="no recipe"):
        policy.make_policy("maxi")


class Stops(transformers.TrainerCallback):
    """Saves at step 3, is interrupted at step 4; counts the steps that are done."""

    def __init__(self, at=0):
        self.at, self.steps = at, []

    def on_step_end(self, args, state, control, **_):
        self.steps.append(state.global_step)
        control.should_save = state.global_step == 3
        if state.global_step == self.at:
            raise KeyboardInterrupt


def test_a_warm_start_goes_on_where_it_was_stopped_and_ends_in_the_same_weights(
    tmp_path, monkeypatch
):
    recipe = policy.Recipe(width=32, layers=1, batch=4, stages=[(6, {"deduction": [1]})])
    for name in ("whole", "torn"):
        monkeypatch.setitem(policy.RECIPES, name, recipe)
        monkeypatch.setitem(models.SMALL_POLICIES, name, tmp_path / name)
    # Made anew in the place of an older one, whose card stays.
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "README.md").write_text("a card")
    policy.make_policy("whole")
    assert (tmp_path / "whole" / "README.md").read_text() == "a card"
    with pytest.raises(KeyboardInterrupt):
        policy.make_policy("torn", [Stops(at=4)])
    assert not (tmp_path / "torn").exists()
    policy.make_policy("torn", [again := Stops()])
    assert again.steps == [4, 5, 6]
    whole, torn = (models.model_path(name) for name in ("whole", "torn"))
    assert (whole / "made.json").read_text() == (torn / "made.json").read_text()
    assert grpo.tokenizer("torn").get_vocab() == policy.make_tokenizer(0).get_vocab()


def test_the_teacher_is_no_student():
    role = Role(model="script", engine="script", sampling=Sampling(temperature=1.0, max_tokens=9))
    with ScriptedTeacher(role) as engine, pytest.raises(EngineDown, match="no student"):
        engine.submit(ENVS["induction"].solve_prompt(examples("induction", 1)[0]), 1, "a").result()
