"""The child process of `kit.serving.local.VLLM`.

Requests come as JSON lines on stdin; completions leave on stdout as they finish. The process ends
when stdin closes, so no engine outlives the notebook that started it, however that ended.
"""

import json
import os
import sys
from queue import Queue
from threading import Thread

from kit.serving.models import answer_ends


def _requests(inbox):
    """Hand on what comes until stdin closes; that ends the process."""
    for line in sys.stdin:
        inbox.put(json.loads(line))
    os._exit(0)


def _load(config):
    """The model as vLLM holds it."""
    import torch

    gpu = torch.cuda.is_available()
    device = {"gpu_memory_utilization": config["memory"]}
    if gpu and config["memory"] >= 1:
        # The share is then only what has to be free.
        device = {
            "gpu_memory_utilization": 0.1,
            "kv_cache_memory_bytes": int(config["memory"] * 2**30),
        }
    if not gpu:
        # vLLM reads the size of the CPU's KV cache (GiB) from the environment.
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, round(config["memory"]))))
        # The CPU's own 128 tokens per block would cache fewer prefixes.
        device = {"block_size": 32}
    from vllm import LLM

    return LLM(
        config["model"],
        dtype="bfloat16",
        seed=config["seed"],
        max_model_len=config["context"],
        max_num_seqs=config["concurrency"],
        enforce_eager=not gpu,
        enable_prefix_caching=True,
        **device,
    )


def _accept(llm, request, ends):
    """Hand one request to vLLM."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    # A last message by the assistant is continued, not answered.
    begun = request["messages"][-1]["role"] == "assistant"
    tokens = llm.get_tokenizer().apply_chat_template(
        request["messages"],
        tokenize=True,
        return_dict=False,
        add_generation_prompt=not begun,
        continue_final_message=begun,
        **request["template"],
    )
    sampling = SamplingParams(
        n=request["n"],
        output_kind=RequestOutputKind.FINAL_ONLY,
        stop_token_ids=ends,
        **request["sampling"],
    )
    llm.llm_engine.add_request(str(request["id"]), {"prompt_token_ids": tokens}, sampling)


def main(config: dict) -> None:
    """Load the model, then answer requests until stdin closes.

    `config`: see `kit.serving.local.Child`.
    """
    # Whatever vLLM prints goes to the log (stderr), not into the protocol.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    llm = _load(config)
    # vLLM itself knows the model's.
    ends = answer_ends(llm.get_tokenizer(), None)
    inbox: Queue = Queue()
    Thread(target=_requests, args=(inbox,), daemon=True).start()

    def send(row):
        print(json.dumps(row), file=out, flush=True)

    send({"ready": True})
    while True:
        # Take all requests that have come; wait for one only if nothing else is to be done.
        while not inbox.empty() or not llm.llm_engine.has_unfinished_requests():
            request = inbox.get()
            # One request that does not fit must not end the others.
            try:
                _accept(llm, request, ends)
            except Exception as error:
                send({"id": request["id"], "error": f"{type(error).__name__}: {error}"[:500]})
        # Work on all that are open; some may end by it.
        for done in llm.llm_engine.step():
            if done.finished:
                answers = [
                    (answer.text, answer.finish_reason or "stop", len(answer.token_ids))
                    for answer in done.outputs
                ]
                send({"id": int(done.request_id), "completions": answers})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
