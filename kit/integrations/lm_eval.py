"""Every sample as others read it: the sample log of lm-eval, the custom output of lcb_runner."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from kit.core.config import Sampling
from kit.core.types import Item, digest


def _sample_log(number, item, samples, sampling):
    """One problem as a line of lm-eval's sample log."""
    target = str(item.data.get("answer", ""))
    answers = [sample["answer"] for sample in samples]
    passed = [sample["outcome"] == "passed" for sample in samples if sample["outcome"] != "error"]
    return {
        "doc_id": number,
        "doc": {"id": item.id, "group": item.group},
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": item.messages, "arg_1": sampling.model_dump()}},
        "resps": [answers],
        "filtered_resps": answers,
        "filter": "none",
        "metrics": ["pass@1"],
        "pass@1": sum(passed) / len(passed) if passed else None,
        "doc_hash": digest(item.id),
        "prompt_hash": digest(item.messages),
        "target_hash": digest(target),
    }


def write_samples(
    frame: pd.DataFrame, items: Iterable[Item], sampling: Sampling, folder: Path
) -> list[Path]:
    """Write every sample in the forms that other tools read.

    Args:
        frame: rows of `evaluate` of one checkpoint.
        items: those that were asked.
        sampling: how they were asked.
        folder: where the files go.
    Returns:
        The files: `samples_<set>.jsonl` is lm-eval's sample log; of LiveCodeBench also
        `<set>.json`, the custom output of lcb_runner (which wants a release's problems whole).
    Source: our choice.
    """
    from kit.benchmarks.livecodebench import extract

    answered = frame.set_index("problem_id").samples
    logs = defaultdict(list)
    contests = defaultdict(list)
    for number, item in enumerate(items):
        samples = [sample for sample in answered[item.id] if sample["mode"] == "sampled"]
        logs[item.set].append(json.dumps(_sample_log(number, item, samples, sampling)) + "\n")
        if item.set.startswith("livecodebench"):
            codes = [extract(sample["answer"]) for sample in samples]
            answer = {"question_id": item.data["question_id"], "code_list": codes}
            contests[item.set].append(answer)

    files = {folder / f"samples_{name}.jsonl": "".join(lines) for name, lines in logs.items()}
    for name, answers in contests.items():
        answers.sort(key=lambda answer: answer["question_id"])
        files[folder / f"{name}.json"] = json.dumps(answers)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)
