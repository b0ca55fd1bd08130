"""What this kit does on a GPU: one command, in steps, each of which leaves its result.

    python tests/gpu/look.py --out RESULTS --work runs/gpu --minutes 9

Call it again with the same --work for the steps that time did not allow. `--small` does everything
on a CPU at a size that says nothing but that it works. README.md beside it tells how to carry the
kit to a machine without a network.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pandas as pd
import torch
import transformers
import yaml

from kit import arms, claims, environments, findings, grpo, loop_findings, prefix
from kit.core import manifest, profile
from kit.mini import policy
from kit.serving.models import SMALL_POLICIES, model_path

MINI = profile.load_profile("mini")
ENVIRONMENTS = environments.make(MINI.rounds)
# A wider policy of the miniature, some 25 million parameters, and one for the tests.
RECIPES = {
    "mini-large": policy.Recipe(width=512, layers=8),
    "mini-tiny": policy.Recipe(width=32, layers=1, decay=5, stages=[(10, {"deduction": [1]})]),
}
# The arms of the study, in the order in which they are wanted.
ARMS = (
    "uniform random-reward medium-first classic hard-first easy medium hard four one rejection "
    "real real-few both synthetic gap smooth"
).split()


class Turns(transformers.TrainerCallback):
    """Switches between TRL's way and ours at each step, and takes its seconds."""

    trainer = None

    def __init__(self):
        self.rows = []

    def on_step_begin(self, args, state, control, **_):
        self.shares = bool(state.global_step % 2)
        self.trainer.shares = self.shares
        self.began = now()

    def on_step_end(self, *_, **__):
        self.rows.append({"once per group": self.shares, "seconds": now() - self.began})


def now() -> float:
    """The clock, after the card has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def config(folder: Path, steps: int, prompts: int, group: int, tokens: int, **more):
    """GRPO's, as notebook 05 has it."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        max_steps=steps,
        use_cpu=not torch.cuda.is_available(),
        per_device_train_batch_size=prompts * group,
        num_generations=group,
        max_completion_length=tokens,
        shuffle_dataset=False,
        gradient_checkpointing=False,
        beta=0.0,
        scale_rewards="none",
        loss_type="dr_grpo",
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        **more,
    )


def recorded_problems(count: int) -> list:
    """Problems of the miniature that are sometimes solved."""
    from kit.core.records import load_problems

    found = load_problems(manifest.RECORDED / "mini" / "filtered.parquet")
    return [problem for problem in found if problem.kept and problem.split == "train"][:count]


def miniature(work: Path, small: bool) -> dict:
    """The miniature's policy trained by the kit's trainer: where a step's time goes."""
    import datasets
    from trl import GRPOTrainer

    from kit.sandbox import Sandbox

    steps, prompts = (3, 2) if small else (60, 8)
    problems = recorded_problems(steps * prompts)
    rows = [
        {
            "prompt": ENVIRONMENTS[x.environment].solve_prompt(x),
            "problem_id": x.id,
            "environment": x.environment,
            "bin": "medium",
            "slot": k % prompts,
        }
        for k, x in enumerate(problems)
    ]
    model, tokenizer = grpo.load_policy("mini", None, True, False)
    health = grpo.Health(work / "miniature.jsonl")
    with Sandbox() as box:
        trainer = prefix.shared(GRPOTrainer)(
            model=model,
            processing_class=tokenizer,
            args=config(work / "mini", steps, prompts, 8, 80, bf16=False, learning_rate=1e-4),
            callbacks=[health],
            reward_funcs=grpo.reward_function(problems, ENVIRONMENTS, box, health),
            train_dataset=datasets.Dataset.from_list(rows),
        )
        trainer.train()
    log = grpo.read_log(work / "miniature.jsonl").iloc[2:]
    kept = ["step_time", "rollout_time", "reward_time", "completion_length"]
    medians = log[kept].median().to_dict()
    tokens = 8 * prompts * medians["completion_length"]
    return medians | {"tokens_per_second": tokens / medians["rollout_time"]}


def same_numbers(work: Path, small: bool) -> dict:
    """Loss and gradient of the same answers on the card and on the CPU, in float32."""
    problems = recorded_problems(8)
    model, tokenizer = grpo.load_policy("mini", None, True, False)
    asked = [ENVIRONMENTS[x.environment].solve_prompt(x) for x in problems]
    prompts = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    answers = [tokenizer(policy.worked_answer(x))["input_ids"] for x in problems]
    found = {}
    torch.backends.cuda.matmul.allow_tf32 = False
    for device in ("cpu", "cuda" if torch.cuda.is_available() else "cpu"):
        model.to(device).zero_grad()
        loss = torch.zeros((), device=device)
        # Advantages of both signs, as in a group.
        for k, (prompt, answer) in enumerate(zip(prompts, answers)):
            ids = torch.tensor([prompt + answer], device=device)
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            chosen = torch.log_softmax(logits, -1).gather(-1, ids[0, len(prompt) :, None])
            loss = loss - (0.5 - k % 2) * chosen.sum()
        loss.backward()
        gradient = torch.cat([x.grad.flatten().cpu() for x in model.parameters()])
        found[device] = (loss.item(), gradient)
    (cpu, on_cpu), (card, on_card) = found["cpu"], [*found.values()][-1]
    apart = (on_cpu - on_card).norm() / on_cpu.norm()
    return {"loss_cpu": cpu, "loss_card": card, "gradient_apart": apart.item()}


def once_per_group(work: Path, small: bool) -> dict:
    """A prompt computed once per group against TRL's own step, 64 x 16 answers of 512 tokens.

    A model of GPT-2's size with random weights: time asks for no more.
    """
    import datasets
    from trl import GRPOTrainer

    prompts, group, tokens, pairs = (2, 2, 8, 2) if small else (64, 16, 512, 3)
    tokenizer = grpo.tokenizer("mini")
    torch.manual_seed(0)
    width, layers = (32, 1) if small else (768, 12)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            intermediate_size=4 * width,
            max_position_embeddings=2048,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    text = " ".join(str(k % 10) for k in range(300))
    rows = [{"prompt": [{"role": "user", "content": f"{k} {text}"}]} for k in range(prompts)]
    clock = Turns()
    size = 4 if small else 128
    # All answers have the full length.
    more = {"generation_kwargs": {"min_new_tokens": tokens}, "learning_rate": 1e-9}
    made = config(work / "prefix", 2 * (pairs + 1), size // group, group, tokens, **more)
    made.gradient_accumulation_steps = prompts * group // size
    trainer = prefix.shared(GRPOTrainer)(
        model=model,
        processing_class=tokenizer,
        args=made,
        callbacks=[clock],
        reward_funcs=lambda completions, **_: [float(k % 2) for k in range(len(completions))],
        train_dataset=datasets.Dataset.from_list(rows * 2 * (pairs + 1)),
    )
    clock.trainer = trainer
    trainer.train()
    rows = pd.DataFrame(clock.rows).iloc[2:]
    seconds = rows.groupby("once per group").seconds.median()
    return {"TRL": seconds[False], "once per group": seconds[True], "answers": prompts * group}


def wider(work: Path, small: bool) -> dict:
    """A wider policy, warm start on the card, then its own problems by notebooks 01 to 04."""
    name = "mini-tiny" if small else "mini-large"
    policy.RECIPES[name] = RECIPES[name]
    SMALL_POLICIES[name] = work / name
    began = time.monotonic()
    if not (work / name / "made.json").exists():
        policy.make_policy(name)
    seconds = time.monotonic() - began
    # Ten steps teach nothing: the small run goes on with the repository's policy.
    model = "mini" if small else str(work / name)
    own = work / "wider.yaml"
    answers = {"engine": "transformers", "concurrency": 64 if small else 8192}
    own.write_text(
        yaml.safe_dump(
            {
                "base": "mini-study",
                "name": "wider",
                "student": {"model": model, **answers},
                "rounds": {"stones": 2 if small else 240, "in_flight": 8 if small else 512},
                "seeds": dict.fromkeys(("wild", "real", "problems"), 20) if small else {},
                "grpo": {"policy": model, "steps": 3 if small else 300},
            }
        )
    )
    run = work / "wider"
    stages = [word for stage in ("01", "02", "03", "04") for word in ("--only", stage)]
    command("run", "--profile", own, "--out", run, *stages)
    rows = pd.read_parquet(run / "filtered.parquet")
    return {
        "parameters": sum(x.numel() for x in grpo.load_policy(model)[0].parameters()),
        "warm_start_seconds": seconds,
        "problems": len(rows),
        "kept": int(rows.kept.sum()),
        "seconds": manifest.read_manifest(run)["stages"]["02_rounds"]["seconds"],
    }


def study(work: Path, small: bool, out: Path, until: float) -> dict:
    """The study with the wider policy, as many trainings side by side as there are cores."""
    seeds, jobs = (1, 1) if small else (20, os.cpu_count() - 2)
    folder = work / "study"
    asked = ["--profile", work / "wider.yaml", "--data", work / "wider", "--out", folder]
    asked += ["--seeds", ",".join(map(str, range(seeds))), "--jobs", jobs]
    asked += ["--arms", "uniform,random-reward" if small else ",".join(ARMS)]
    command("study", *asked, until=until)
    known = dict.fromkeys(("yields", "turns", "draws"), pd.DataFrame())
    return judged(known | arms.collect_study(folder), claims.CLAIMS, out)


def loops(work: Path, small: bool, out: Path, until: float) -> dict:
    """The teacher inside the training loop (F11), with the wider policy and its problems."""
    own, folder = work / "wider-loop.yaml", work / "loops"
    # As of mini-loop: all problems that were never solved, and none that a loop does not train on.
    asked = {"unsolved": 5 if small else 1000, "strings": 0, "real": 0}
    loop = {"base": str(work / "wider.yaml"), "name": "wider-loop", "evaluation": asked}
    own.write_text(yaml.safe_dump(loop))
    seeds, jobs, segments = (1, 1, 2) if small else (20, os.cpu_count() - 2, 5)
    words = ["--profile", own, "--data", work / "wider", "--out", folder]
    words += ["--seeds", ",".join(map(str, range(seeds))), "--jobs", jobs, "--segments", segments]
    if small:
        words += ["--arms", "closed-loop,no-feedback", "--turns", 1]
    command("loop", *words, until=until)
    return judged(loop_findings.loop_tables(folder), loop_findings.LOOP_CLAIMS, out / "loops")


def judged(tables: dict[str, pd.DataFrame], of: tuple, out: Path) -> dict:
    """Leaves the tables of what is finished, and the verdicts on them."""
    out.mkdir(exist_ok=True)
    for name, table in tables.items():
        if len(table):
            table.to_parquet(out / f"{name}.parquet")
    findings.board(tables, of).to_csv(out / "board.csv", index=False)
    return {"trainings": tables["drawn"].groupby(["arm", "seed"]).ngroups}


def language_model(work: Path, small: bool) -> dict:
    """SmolLM2-135M through rounds of deduction, GRPO and evaluation, all by transformers."""
    model_path("smollm2-135m-instruct")
    own = work / "smollm2.yaml"
    asked = {"engine": "transformers", "concurrency": 8 if small else 256}
    changed = {
        "base": "smoke",
        "name": "smollm2",
        "teacher": dict(asked),
        "student": dict(asked),
        "rounds": {"environments": ["deduction"]},
        "curriculum": {"environments": {"deduction": 1.0}},
    }
    if not small:
        changed["seeds"] = {"wild": 100, "real": 100, "problems": 60}
        changed["rounds"] |= {"turns": 6, "attempts": 32, "in_flight": 64, "stones": 8}
        changed["grpo"] = {"steps": 60, "prompts_per_step": 8, "group_size": 8, "batch": 64}
    own.write_text(yaml.safe_dump(changed))
    # So small a teacher keeps next to no problem: training and evaluation have recorded ones.
    rounds, rest = work / "smollm2-rounds", work / "smollm2"
    command("run", "--profile", own, "--out", rounds, "--only", "01", "--only", "02")
    stages = [word for stage in ("03", "04", "05", "06") for word in ("--only", stage)]
    command("run", "--profile", own, "--out", rest, *stages)
    done = [manifest.read_manifest(folder)["stages"] for folder in (rounds, rest)]
    done = done[0] | done[1]
    return {name: {"seconds": x["seconds"], "counts": x["counts"]} for name, x in done.items()}


def command(*words, until: float | None = None) -> None:
    """A command of the kit, with what it says on this terminal; it is stopped at that time."""
    seconds = until and until - time.monotonic()
    try:
        subprocess.run(
            [sys.executable, "-m", "kit", *map(str, words)], check=True, timeout=seconds, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        print("time is up: what is finished counts, the same command goes on")


ROOT = Path(__file__).parents[2]
STEPS = [miniature, same_numbers, once_per_group, wider, language_model, study, loops]
# They take what time is left, and go on with the next call.
LONG = (study, loops)


def main() -> None:
    """All steps that are not done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results.tar.gz")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "gpu", help="goes on there")
    parser.add_argument("--minutes", type=float, default=9.0, help="no step begins after that")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--only", nargs="*", default=[step.__name__ for step in STEPS])
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    work = given.work.resolve()
    results = work / "results"
    for folder in (given.out, results):
        folder.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}")
    for step in STEPS:
        done, failed = (results / f"{step.__name__}.{end}" for end in ("json", "error.txt"))
        if step.__name__ not in given.only or time.monotonic() > until:
            continue
        if not done.exists() or step in LONG:
            failed.unlink(missing_ok=True)
            more = {"out": results, "until": until} if step in LONG else {}
            try:
                result = {"card": card, **step(work, given.small, **more)}
                done.write_text(json.dumps(result, indent=1))
            except Exception:
                # The next step goes on.
                failed.write_text(traceback.format_exc())
        told = failed if failed.exists() else done
        print(step.__name__, told.read_text(), flush=True)
        # One file, after each step: a machine that is lent can end at any time and gives few back.
        shutil.make_archive(str(given.out / "results"), "gztar", results)


if __name__ == "__main__":
    grpo.quiet_vllm()
    main()
