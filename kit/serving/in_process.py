"""Small models asked in this process by transformers, many requests in a batch."""

from concurrent.futures import Future
from functools import cached_property
from queue import Queue
from threading import Thread
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessor
from transformers.generation.logits_process import TopPLogitsWarper

from kit.serving.engine import (
    Completion,
    Engine,
    EngineDown,
    EngineError,
    RequestError,
    without_thoughts,
)
from kit.serving.models import model_path


class _Draw(LogitsProcessor):
    """Adds noise to the logits, so that the most likely token is a draw.

    The largest of logits with Gumbel noise is a draw from their softmax. Each request has a
    generator of its own: its draws do not depend on what else is in the batch.
    """

    def __init__(self, keys, n, sampling, device):
        self.generators = [torch.Generator(device).manual_seed(int(key, 16) >> 1) for key in keys]
        self.n = n
        self.temperature = sampling.temperature
        self.top_p = TopPLogitsWarper(sampling.top_p)

    def __call__(self, input_ids, scores):
        scores = self.top_p(input_ids, scores / self.temperature)
        noise = torch.empty_like(scores)
        for part, generator in zip(noise.split(self.n), self.generators):
            part.exponential_(generator=generator)
        return scores - noise.log()


class InProcess(Engine):
    """The library's own `generate`, for a model that answers before a vLLM would have started.

    The same request to an engine of the same name gets the same answers, whatever is asked beside
    it, but for rounding. Numbers are in float32, as in training.

    Args:
        role, log, name: as for Engine; `role.concurrency` is the number of answers in a batch.
    Source: our choice.
    """

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.inbox: Queue = Queue()
        Thread(target=self._work, daemon=True).start()

    @cached_property
    def tokenizer(self):
        """Of the model; batches are filled up on the left."""
        return AutoTokenizer.from_pretrained(model_path(self.role.model), padding_side="left")

    @cached_property
    def model(self):
        """The model, loaded at the first request."""
        model = AutoModelForCausalLM.from_pretrained(
            model_path(self.role.model), dtype=torch.float32
        )
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def _send(self, key, messages, n, sampling):
        sent: Future = Future()
        # A last message by the assistant is continued, not answered.
        begun = messages[-1]["role"] == "assistant"
        template: Any = self.role.extra.get("chat_template_kwargs", {})
        tokens = self.tokenizer.apply_chat_template(
            messages,
            return_dict=False,
            add_generation_prompt=not begun,
            continue_final_message=begun,
            **template,
        )
        if len(tokens) + sampling.max_tokens > self.role.context:
            sent.set_exception(
                RequestError(
                    f"{len(tokens)} tokens and an answer are longer than {self.role.context}"
                )
            )
        elif not self.live:
            sent.set_exception(EngineDown(f"{self.name} was closed"))
        else:
            self.inbox.put((sent, key, tokens, n, sampling))
        return sent

    def close(self) -> None:
        """End the thread; what was answered stays in the log, what was not fails."""
        self.live = False
        self.inbox.put(None)

    def _work(self):
        """Answer what has come in, a batch at a time."""
        waiting: list[tuple] = []
        while True:
            while not waiting or not self.inbox.empty():
                waiting.append(self.inbox.get())
            if None in waiting:
                for sent, *_ in filter(None, waiting):
                    sent.set_exception(EngineDown(f"{self.name} was closed"))
                # Only now: the last batch may have been answered after `close`.
                super().close()
                return
            # In a batch all are drawn in the same way, as often as the first one.
            n, sampling = kind = waiting[0][3:]
            most = max(1, self.role.concurrency // n)
            # Stable: those of this kind come first, in their order.
            waiting.sort(key=lambda request: request[3:] != kind)
            alike = sum(request[3:] == kind for request in waiting[:most])
            batch, waiting = waiting[:alike], waiting[alike:]
            try:
                self._answer(batch, n, sampling)
            except Exception as error:
                for sent, *_ in batch:
                    sent.set_exception(EngineError(f"{type(error).__name__}: {error}"[:500]))

    @torch.inference_mode()
    def _answer(self, batch, n, sampling):
        sent, keys, prompts, *_ = zip(*batch)
        asked = self.tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt")
        asked = asked.to(self.model.device)
        ids, mask = asked["input_ids"], asked["attention_mask"]
        more = {}
        # A prompt is computed once for all its answers.
        if n > 1:
            cache = self.model(
                input_ids=ids[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, :-1],
                use_cache=True,
            ).past_key_values
            cache.batch_repeat_interleave(n)
            more["past_key_values"] = cache
        if sampling.temperature:
            more["logits_processor"] = [_Draw(keys, n, sampling, ids.device)]
        ends = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        rows = self.model.generate(
            input_ids=ids.repeat_interleave(n, 0),
            attention_mask=mask.repeat_interleave(n, 0),
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=[*ends],
                pad_token_id=self.tokenizer.pad_token_id,
            ),
            **more,
        )
        answers = [self._completion(row, ends) for row in rows[:, ids.shape[1] :].tolist()]
        for k, future in enumerate(sent):
            future.set_result(answers[k * n : (k + 1) * n])

    def _completion(self, row, ends):
        """One answer, up to its end: what comes after that is padding."""
        length = next((k for k, token in enumerate(row, 1) if token in ends), 0)
        text = self.tokenizer.decode(row[: length or None], skip_special_tokens=True)
        return Completion(
            without_thoughts(text), "stop" if length else "length", length or len(row)
        )
