"""TRL: a reward function for exported rows, and an environment.

    rows = load_dataset(EXPORT, split="train") GRPOTrainer(model, train_dataset=rows,
    reward_funcs=trl.trl_reward)             # answers as text GRPOTrainer(model,
    train_dataset=rows, environment_factory=trl.Submission)  # by a tool call

Text is what the prompts ask for and what any instruct model can do. TRL's environments act through
tools alone: they never see the text of a completion, and TRL refuses a tokenizer whose chat
template has no tool calls.
"""

from concurrent.futures import ThreadPoolExecutor

from kit.grading import grade


def trl_reward(prompts, completions, *, log_metric=None, **columns) -> list[float | None]:
    """TRL's reward function over the columns of an export.

    1.0, 0.0, or None where our sandbox failed: TRL leaves a None out of the group.
    """
    # TRL adds arguments of its own that are no columns.
    lists = {name: column for name, column in columns.items() if isinstance(column, list)}
    rows = [dict(zip(lists, values)) for values in zip(*lists.values())]
    answers = [completion[-1]["content"] for completion in completions]
    with ThreadPoolExecutor(16) as pool:
        rewards = [verdict.reward for verdict in pool.map(grade, rows, answers)]
    if log_metric:
        log_metric("sandbox_error_share", rewards.count(None) / len(rewards))
    return rewards


class Submission:
    """One problem of an export, answered by the tool `submit`.

    Only the first answer counts, and it is graded after the rollout. Otherwise the model could
    search, and TRL would give an error of our own to the model as the tool's result. A rollout
    without an answer has failed.
    """

    def reset(self, **row) -> str:
        """Begin with a row; returns what is added to its prompt."""
        self._row = row
        self._answer: str | None = None
        return "\n\nHand in your whole answer with the tool `submit`."

    def submit(self, answer: str) -> str:
        """
        Hand in the answer to the problem. Only the first one counts.

        Args:
            answer: The whole answer, in the form that the problem asks for.
        """
        if self._answer is not None:
            return "An answer was handed in before; that one counts."
        self._answer = str(answer)
        return "Handed in."

    def get_reward(self) -> float | None:
        """1.0, 0.0, or None where our sandbox failed.

        TRL 1.16 documents a float, but leaves a None out of the group.
        """
        return grade(self._row, self._answer or "").reward
