"""The two controls of a study that change what a rollout earns: a coin, and rejection fine-tuning.

Both are our choice. What gains as much from a coin as from the sandbox's verdict has not learned
from the verdict; what gains as much from right rollouts alone has not needed the group.
"""

import random
from collections.abc import Callable

from kit.core.config import TrainingConfig
from kit.core.types import digest


def reward_by(numbers: TrainingConfig, verified: Callable, seed: int) -> Callable:
    """What a rollout earns: the sandbox's verdict, or with `reward: random` a coin.

    The coin knows seed, step and problems, not the answer. The verdicts are still logged
    (`solved/<name>`, rollouts), and what our infrastructure lost stays None.

    Args:
        numbers: the profile's section `grpo`.
        verified: of `grpo.reward_function`.
        seed: of the training.
    Returns:
        TRL's reward function.
    Source: our choice.
    """

    def tossed(prompts, completions, **columns):
        rewards = verified(prompts, completions, **columns)
        step = columns["trainer_state"].global_step
        coin = random.Random(digest(seed, step, columns["problem_id"]))
        tosses = [float(coin.random() < 0.5) for _ in rewards]
        return [None if reward is None else toss for reward, toss in zip(rewards, tosses)]

    return tossed if numbers.reward == "random" else verified


def trainer_by(numbers: TrainingConfig, trainer: type) -> type:
    """TRL's trainer, or with `advantage: rejection` one whose advantage is the reward itself.

    Wrong rollouts then do nothing, right ones become more likely, even where all of a group are so:
    one step of supervised fine-tuning on the policy's own right answers.

    Args:
        numbers: the profile's section `grpo`.
        trainer: TRL's GRPOTrainer.
    Returns:
        It, or a subclass of it.
    Source: our choice.
    """
    if numbers.advantage == "group":
        return trainer

    class Rejection(trainer):
        def _calculate_rewards(self, *arguments):
            # Of all processes, a column per reward function.
            self.earned = super()._calculate_rewards(*arguments)
            return self.earned

        def _generate_and_score_completions(self, inputs):
            scored = super()._generate_and_score_completions(inputs)
            own = len(scored["advantages"])
            first = self.accelerator.process_index * own
            scored["advantages"] = self.earned.nansum(dim=1)[first : first + own]
            return scored

    return Rejection
