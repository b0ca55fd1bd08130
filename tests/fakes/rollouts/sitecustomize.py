"""With this folder on PYTHONPATH and FAKE_ROLLOUTS set, a trainer's rollouts are fixed.

They are the same whichever process asks for them. Everything else is real: rewards, gathering,
advantages, loss, averaging, steps, checkpoints. With FAKE_FSDP accelerate also shards on a CPU,
which it declines to do otherwise.

Python imports a module of this name as it starts, so the script that trains holds no hook.
"""

import importlib.abc
import importlib.util
import json
import os
import sys


def fake_rollouts(trainer, prompt_ids, images, fields, num_generations, **_):
    """For `GRPOTrainer._generate_single_turn`.

    This process's prompts as tokens -> (completions as tokens, None).
    """
    # What is in a prompt -> the completions of its group.
    answers = json.loads(os.environ["FAKE_ROLLOUTS"])
    words = trainer.processing_class
    first = trainer.accelerator.process_index * len(prompt_ids)
    completions = []
    for k, tokens in enumerate(prompt_ids):
        text = words.decode(tokens)
        group = next(group for part, group in answers.items() if part in text)
        answer = group[(first + k) % num_generations]
        completions.append(words.encode(answer, add_special_tokens=False) + [words.eos_token_id])
    return completions, None


def patch_trainer(module):
    module.GRPOTrainer._generate_single_turn = fake_rollouts


def patch_state(module):
    made = module.AcceleratorState.__init__

    def sharded(self, *args, **options):
        made(self, *args, **options)
        if plugin := options.get("fsdp_plugin") or vars(self).get("fsdp_plugin"):
            self.distributed_type, self.fsdp_plugin = module.DistributedType.FSDP, plugin

    module.AcceleratorState.__init__ = sharded


def patch_imports(module):
    """No vLLM where rollouts are fixed: TRL takes 6 s of CPU to import it into each process."""
    module.is_vllm_available = lambda *_, **__: False


class Finder(importlib.abc.MetaPathFinder):
    """Patches modules as they are imported: importing them here would slow every process down."""

    def __init__(self, patches):
        self.patches = patches

    def find_spec(self, name, path=None, target=None):
        if not (patch := self.patches.pop(name, None)):
            return None
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def patched(module):
            load(module)
            patch(module)

        spec.loader.exec_module = patched
        return spec


if "FAKE_ROLLOUTS" in os.environ:
    sharding = {"accelerate.state": patch_state} if "FAKE_FSDP" in os.environ else {}
    patches = {"trl.trainer.grpo_trainer": patch_trainer, "trl.import_utils": patch_imports}
    sys.meta_path.insert(0, Finder(patches | sharding))
