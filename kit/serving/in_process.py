"""A small policy asked in this process: it answers before a vLLM would have started."""

from concurrent.futures import Future
from functools import cached_property

from kit.serving.engine import Completion, Engine
from kit.serving.models import model_path


class InProcess(Engine):
    """The library's own sampling, a request at a time; the model is loaded at the first one.

    The same request to an engine of the same name gets the same answers, whatever was asked before:
    each has a seed of its own, and no other prompt in its batch.

    Source: our choice.
    """

    @cached_property
    def loaded(self):
        """Model and tokenizer."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = model_path(self.role.model)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(folder)

    def _send(self, key, messages, n, sampling):
        import torch

        model, words = self.loaded
        asked = words.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(key, 16) >> 1)
            rows = model.generate(
                **asked,
                do_sample=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=0,
                max_new_tokens=sampling.max_tokens,
                num_return_sequences=n,
            )
        answers = []
        for row in rows[:, asked["input_ids"].shape[1] :].tolist():
            # After its end a row is filled up with padding.
            end = row.index(words.eos_token_id) + 1 if words.eos_token_id in row else 0
            text = words.decode(row, skip_special_tokens=True)
            answers.append(Completion(text, "stop" if end else "length", end or len(row)))
        sent: Future = Future()
        sent.set_result(answers)
        return sent
