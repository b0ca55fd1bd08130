"""TRL, verifiers and OpenEnv, each with its own library: the reward that they see is the kit's."""

import asyncio
import json
import shutil
import threading
from concurrent.futures import Future

import pytest

from kit import environments, grading
from kit.commands import export
from kit.core import profile, records
from kit.core.manifest import RECORDED, ROOT
from kit.core.types import InfrastructureError
from kit.dataset import ROW_FEATURES, SPLITS, problem_rows
from kit.sandbox import Result, Sandbox
from tests.fakes.endpoint import FakeHandler, FakeServer

ENVS = environments.make(profile.load_profile("cpu").rounds)
ROWS = {row["id"]: row for some in problem_rows().values() for row in some}


def _wrapped(env: str, answer: str) -> str:
    return (
        f"```python\n{answer}\n```"
        if env == "induction"
        else f"I think so.\n<answer>{answer}</answer>"
    )


@pytest.fixture(scope="module")
def cases():
    """(row, answer, reward by the kit's grading) of 20 recorded problems: right, wrong, garbage."""
    problems = [x for x in records.load_problems(RECORDED / "filtered.parquet") if x.kept]
    found = []
    for name in ENVS:
        some = [
            x
            for x in problems
            if x.environment == name and {"passed", "failed"} <= {s.outcome for s in x.samples}
        ]
        for x in list({x.id: x for x in some}.values())[:5]:
            for answer in (
                *[
                    next(s.answer for s in x.samples if s.outcome == how)
                    for how in ("passed", "failed")
                ],
                "__import__('os')",
            ):
                found.append((x, _wrapped(name, answer)))
            found.append((x, "I cannot say."))
    with Sandbox(workers=2) as box:
        verdicts = environments.base.grade_all(
            [(ENVS[x.environment], x, answer) for x, answer in found], box
        )
    assert len(found) == 80 and {v.reward for v in verdicts} == {0.0, 1.0}
    assert sum(v.reward for v in verdicts) == 20  # the recorded right answers still are
    return [(ROWS[x.id], answer, v.reward) for (x, answer), v in zip(found, verdicts)]


class FakeBrokenBox:
    def submit(self, job):
        done = Future()
        done.set_result(Result("sandbox_error", detail="worker died"))
        return done


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setattr(grading, "_box", lambda process: FakeBrokenBox())


def right(cases, environment="deduction"):
    return next(
        (row, answer)
        for row, answer, reward in cases
        if reward and row["environment"] == environment
    )


def test_grading_is_the_kits_own(cases):
    assert [grading.reward(row, answer) for row, answer, _ in cases] == [
        reward for *_, reward in cases
    ]


def test_an_error_of_ours_is_no_reward(cases, broken):
    row, answer = right(cases)
    fuzzing, input_ = right(cases, "fuzzing")
    assert grading.reward(row, answer) == 1.0  # a deduction needs no program
    assert grading.grade(fuzzing, input_).reward is None
    with pytest.raises(InfrastructureError, match="worker died"):
        grading.reward(fuzzing, input_)


# ---------------------------------------------------------------- TRL


def _batch(cases) -> dict:
    rows = [row for row, *_ in cases]
    return {
        "prompts": [row["prompt"] for row in rows],
        "completions": [[{"role": "assistant", "content": answer}] for _, answer, _ in cases],
        "trainer_state": None,
        **{name: [row[name] for row in rows] for name in rows[0] if name != "prompt"},
    }


def test_trl_reward_function(cases, monkeypatch):
    from kit.integrations import trl

    metrics = {}
    assert trl.trl_reward(**_batch(cases), log_metric=metrics.__setitem__) == [
        reward for *_, reward in cases
    ]
    assert metrics == {"sandbox_error_share": 0.0}
    monkeypatch.setattr(grading, "_box", lambda process: FakeBrokenBox())
    assert None in trl.trl_reward(**_batch(cases))


def test_trl_environment(cases):
    from kit.integrations import trl

    env = trl.Submission()
    for row, answer, reward in cases:
        env.reset(**row)
        env.submit(answer)
        assert env.get_reward() == reward, (row["id"], answer)


def test_trl_environment_takes_the_first_answer_only(cases, monkeypatch):
    from kit.integrations import trl

    row, answer = right(cases, "abduction")
    env = trl.Submission()
    env.reset(**row)
    assert env.get_reward() == 0.0  # nothing was handed in
    env.submit("<answer>no</answer>"), env.submit(answer)
    assert env.get_reward() == 0.0
    env.reset(**row)
    env.submit(answer)
    assert env.get_reward() == 1.0
    monkeypatch.setattr(grading, "_box", lambda process: FakeBrokenBox())
    assert env.get_reward() is None


def _trainer(tmp_path, model, tokenizer, rows, tokens=96, **options):
    """One GRPO step of TRL's own on a CPU: 2 prompts, 2 rollouts each."""
    import datasets
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=tokens,
        shuffle_dataset=False,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        gradient_checkpointing=False,
        beta=0.0,
        scale_rewards="none",
    )
    return GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        args=args,
        train_dataset=datasets.Dataset.from_list(rows, ROW_FEATURES),
        **options,
    )


def _tiny(tokenizer):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
        )
    )


def _script(trainer, tokenizer, texts):
    """Let the FakePolicy of this step write these texts, then nothing more."""
    turns = [texts]

    def fake(prompt_ids, images, multimodal_fields, num_generations, **_):
        words = turns.pop(0) if turns else ["Done."] * len(prompt_ids)
        return [tokenizer(t)["input_ids"] + [tokenizer.eos_token_id] for t in words], None

    trainer._generate_single_turn = fake


def _step(trainer) -> dict:
    trainer.train()
    return next(x for x in trainer.state.log_history if "reward" in x)


@pytest.mark.model
@pytest.mark.slow
def test_trl_trains_a_step_in_the_environment(cases, tmp_path, monkeypatch):
    from kit import grpo
    from kit.integrations import trl

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    tokenizer = grpo.tokenizer("qwen2.5-coder-0.5b-instruct")
    pick = [right(cases), right(cases, "fuzzing")]
    trainer = _trainer(
        tmp_path,
        _tiny(tokenizer),
        tokenizer,
        [row for row, _ in pick],
        environment_factory=trl.Submission,
    )

    def call(answer):
        made = json.dumps({"name": "submit", "arguments": {"answer": answer}})
        return f"<tool_call>\n{made}\n</tool_call>"

    _script(
        trainer,
        tokenizer,
        [call(pick[0][1]), pick[0][1], call(pick[1][1]), call("<answer>nothing</answer>")],
    )
    log = _step(trainer)
    assert (
        log["reward"] == 0.5
        and log["tools/call_frequency"] == 0.75
        and log["tools/failure_frequency"] == 0
    )


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trl_trains_a_step_of_a_real_policy(cases, tmp_path):
    from kit import grpo
    from kit.integrations import trl

    pick, given = [right(cases, "induction"), right(cases, "abduction")], []

    def heard(prompts, completions, **columns):
        # So small a policy may solve nothing.
        completions[2] = [{"role": "assistant", "content": pick[1][1]}]
        given.extend(
            zip(
                columns["id"],
                [c[-1]["content"] for c in completions],
                trl.trl_reward(prompts, completions, **columns),
            )
        )
        return [reward for *_, reward in given]

    trainer = _trainer(
        tmp_path,
        *grpo.load_policy("smollm2-135m-instruct", layers=2),
        [row for row, _ in pick],
        8,
        reward_funcs=heard,
    )
    log = _step(trainer)
    assert [(i, grading.reward(ROWS[i], text)) for i, text, _ in given] == [
        (i, reward) for i, _, reward in given
    ]
    assert [i for i, *_ in given] == [pick[0][0]["id"]] * 2 + [pick[1][0]["id"]] * 2 and given[2][
        2
    ] == 1.0
    assert log["reward"] == pytest.approx(sum(reward for *_, reward in given) / 4)


# ---------------------------------------------------------------- OpenEnv


@pytest.fixture
def server():
    """The real server in a thread of this process, so that a test can break its sandbox."""
    import uvicorn

    from kit.integrations import openenv

    running = uvicorn.Server(uvicorn.Config(openenv.create_app(), port=0, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        thread.join(0.05)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join(10)


def _place(row) -> dict:
    return next(
        {"split": split, "index": [x["id"] for x in rows].index(row["id"])}
        for split, rows in problem_rows().items()
        if row in rows
    )


def test_openenv_client_and_server(cases, server):
    from openenv import GenericEnvClient

    with GenericEnvClient(base_url=server).sync() as client:
        for row, answer, reward in cases[::2]:
            asked = client.reset(**_place(row))
            assert (
                asked.observation["messages"] == row["prompt"]
                and not asked.done
                and asked.reward is None
            )
            assert not {"outputs", "inputs", "program"} & asked.observation.keys()
            got = client.step({"text": answer})
            assert (got.reward, got.done) == (reward, True), (row["id"], answer)
        with pytest.raises(RuntimeError, match="reset first"):  # no second guess
            client.step({"text": "<answer>1</answer>"})
        same = [client.reset(seed=7, split="test").observation["problem_id"] for _ in range(2)]
        assert (
            same[0] == same[1]
            and client.reset(split="test", seed=8).observation["problem_id"] != same[0]
        )
        with pytest.raises(RuntimeError, match="no problem in a split"):
            client.reset(split="validation")


def test_openenv_says_that_the_sandbox_failed(cases, server, monkeypatch):
    from openenv import GenericEnvClient

    row, answer = right(cases, "fuzzing")
    with GenericEnvClient(base_url=server).sync() as client:
        client.reset(**_place(row))
        with monkeypatch.context() as broken:
            broken.setattr(grading, "_box", lambda process: FakeBrokenBox())
            with pytest.raises(RuntimeError, match="nothing is known of this answer"):
                client.step({"text": answer})
        assert client.step({"text": answer}).reward == 1.0  # the episode stayed open


def test_openenv_tells_how_many_tasks_there_are_and_gives_none_away(server):
    import httpx

    assert [x["name"] for x in httpx.get(f"{server}/rl-code-kit/splits").json()] == [
        "train",
        "test",
    ]
    told = httpx.post(f"{server}/rl-code-kit/num_tasks", json={"split": "test"}).json()
    assert told["num_tasks"] == len(problem_rows()["test"])
    asked = httpx.post(f"{server}/rl-code-kit/task", json={"split": "test", "index": 0})
    assert asked.status_code == 501


# ---------------------------------------------------------------- verifiers


class FakeModel(FakeServer):
    """An endpoint that streams one answer, as verifiers' harness asks for it.

    `seen` are the messages that it got.
    """

    def __init__(self, answer: str):
        self.seen = seen = []

        class Handler(FakeHandler):
            def do_POST(self):
                seen.append(
                    json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
                )
                parts = [
                    {"delta": {"role": "assistant", "content": answer}, "finish_reason": None},
                    {"delta": {}, "finish_reason": "stop"},
                ]
                chunks = [
                    json.dumps(
                        {
                            "id": "x",
                            "object": "chat.completion.chunk",
                            "created": 0,
                            "model": "fake",
                            "choices": [{"index": 0} | part],
                        }
                    )
                    for part in parts
                ]
                payload = "".join(f"data: {chunk}\n\n" for chunk in (*chunks, "[DONE]")).encode()
                self.reply(payload, "text/event-stream")

        super().__init__(Handler)


@pytest.fixture
def vf(monkeypatch):
    """The library, with the package as it lies in the repository."""
    import verifiers.v1 as found

    monkeypatch.syspath_prepend(str(ROOT / "kit" / "integrations" / "verifiers"))
    return found


def _environment(vf, **taskset):
    return vf.load_environment(
        vf.env_config_type("rl-code-kit")(taskset={"id": "rl-code-kit", **taskset})
    )


def test_verifiers_loads_every_row(vf, tmp_path):
    export.write_export(RECORDED, tmp_path / "data")
    for given in ({}, {"data": str(tmp_path / "data"), "split": "test"}):
        tasks = list(_environment(vf, **given).taskset)
        assert {task.key for task in tasks} == {
            x["id"] for x in problem_rows()[given.get("split", "train")]
        }
        assert [{"role": m.role, "content": m.content} for m in tasks[0].data.prompt] == ROWS[
            tasks[0].key
        ]["prompt"]


def test_verifiers_names_the_splits_that_there_are(vf):
    with pytest.raises(ValueError, match="no problem in a split 'validation': there are train, te"):
        list(_environment(vf, split="validation").taskset)


def test_verifiers_scores_as_the_kit(vf, cases):
    tasks = {task.key: task for split in SPLITS for task in _environment(vf, split=split).taskset}

    async def score(row, answer):
        task = tasks[row["id"]]
        trace = vf.Trace(
            task=vf.TraceTask(type="CodeTask", data=task.data, key=task.key, hash=task.hash),
            state=vf.State(),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            root_reply=answer,
        )
        await task.score(trace)
        return trace.reward

    async def all_():
        return await asyncio.gather(*(score(row, answer) for row, answer, _ in cases))

    assert asyncio.run(all_()) == [reward for *_, reward in cases]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("uv"), reason="the harnesses of verifiers are started by uv")
def test_verifiers_plays_whole_rollouts(vf, cases, monkeypatch):
    # One problem: a right answer, a wrong one.
    mine = [case for case in cases if case[0]["environment"] == "fuzzing"][:2]
    env = _environment(vf, split=_place(mine[0][0])["split"])
    (task,) = env.taskset.include(ids=[mine[0][0]["id"]])

    async def play(answer):
        with FakeModel(answer) as model:
            context = vf.ModelContext(
                "fake",
                vf.EvalClientConfig(
                    base_url=f"http://127.0.0.1:{model.server_port}/v1", api_key_var="NONE"
                ),
            )
            async with env.serving():
                (trace,) = (await env.run_episode(task, context)).traces
                return trace, model.seen

    assert [reward for *_, reward in mine] == [1.0, 0.0]
    for row, answer, reward in mine:
        trace, seen = asyncio.run(play(answer))
        assert trace.ok and trace.num_turns == len(seen) == 1 and trace.reward == reward, (
            trace.errors
        )
        assert seen == [row["prompt"]]
    monkeypatch.setattr(grading, "_box", lambda process: FakeBrokenBox())
    trace, _ = asyncio.run(play(mine[0][1]))
    assert (
        not trace.ok
        and trace.rewards == {"solved": None}
        and "nothing is known of this answer" in trace.last_error.message
    )
