"""Small models asked in this process by transformers, many requests in a batch."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from threading import Event
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessor
from transformers.generation.logits_process import TopPLogitsWarper

from kit.serving.engine import Completion, Engine, EngineDown, RequestError
from kit.serving.models import answer_ends, model_path


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
        self.thread = ThreadPoolExecutor(1)
        # Requests that no batch holds yet.
        self.waiting: list[tuple] = []

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

    @cached_property
    def ends(self):
        """Tokens that end an answer."""
        return answer_ends(self.tokenizer, self.model.generation_config.eos_token_id)

    def _send(self, key, messages, n, sampling):
        sent: Future = Future()
        # A last message by the assistant is continued, not answered.
        begun = messages[-1]["role"] == "assistant"
        template: Any = self.role.extra.get("chat_template_kwargs", {})
        tokenizer = self.tokenizer
        try:
            tokens = tokenizer.apply_chat_template(
                messages,
                return_dict=False,
                add_generation_prompt=not begun,
                continue_final_message=begun,
                **template,
            )
        except Exception as error:
            # The template refuses this conversation, not others.
            sent.set_exception(RequestError(f"{type(error).__name__}: {error}"[:500]))
            return sent
        if len(tokens) + sampling.max_tokens > self.role.context:
            sent.set_exception(
                RequestError(
                    f"{len(tokens)} tokens and an answer are longer than {self.role.context}"
                )
            )
        elif not self.live:
            sent.set_exception(EngineDown(f"{self.name} was closed"))
        else:
            self.waiting.append((sent, key, tokens, n, sampling))
            self.thread.submit(self._work)
        return sent

    @contextmanager
    def together(self):
        """What is asked in this context is answered in one batch, as far as it fits."""
        asked = Event()
        self.thread.submit(asked.wait)
        try:
            yield
        finally:
            asked.set()

    def close(self) -> None:
        """End the thread after its batch; what was answered stays in the log, the rest fails."""
        self.live = False
        self.thread.shutdown(cancel_futures=True)
        while self.waiting:
            self.waiting.pop()[0].set_exception(EngineDown(f"{self.name} was closed"))
        super().close()

    def _work(self):
        """Answer a batch of what has come in, unless an earlier call has."""
        if not self.waiting:
            return
        # In a batch all are drawn in the same way, as often as the first one.
        n, sampling = kind = self.waiting[0][3:]
        alike = [request for request in self.waiting if request[3:] == kind]
        batch = alike[: max(1, self.role.concurrency // n)]
        for request in batch:
            self.waiting.remove(request)
        try:
            self._answer(batch, n, sampling)
        except Exception as error:
            for sent, *_ in batch:
                sent.set_exception(error)

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
        rows = self.model.generate(
            input_ids=ids.repeat_interleave(n, 0),
            attention_mask=mask.repeat_interleave(n, 0),
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id,
            ),
            **more,
        )
        answers = [self._completion(row) for row in rows[:, ids.shape[1] :].tolist()]
        for k, future in enumerate(sent):
            future.set_result(answers[k * n : (k + 1) * n])

    def _completion(self, row):
        """One answer, up to its end: what comes after that is padding."""
        length = next((k for k, token in enumerate(row, 1) if token in self.ends), 0)
        text = self.tokenizer.decode(row[: length or None], skip_special_tokens=True)
        return Completion(text, "stop" if length else "length", length or len(row))
