"""The child process of `kit.engine.VLLM`: requests come as JSON lines on stdin, completions leave on stdout as they finish.

It ends when stdin closes, so no engine outlives the notebook that started it, however that ended.
"""

import json
import os
import queue
import sys
import threading


def _requests(inbox: queue.Queue) -> None:
    for line in sys.stdin:
        inbox.put(json.loads(line))
    os._exit(0)


def main(config: dict) -> None:
    """Loads the model, then answers requests until stdin closes. `config`: see `kit.engine.VLLM`."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever vLLM prints goes to the log, not into the protocol

    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, round(config["memory"]))))
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    llm = LLM(
        config["model"],
        dtype="bfloat16",
        seed=config["seed"],
        max_model_len=config["context"],
        max_num_seqs=config["concurrency"],
        enforce_eager=not gpu,
        enable_prefix_caching=True,
        **({"gpu_memory_utilization": config["memory"]} if gpu else {"block_size": 32}),
    )  # the CPU's 128 would cache fewer prefixes
    tokenizer, core = llm.get_tokenizer(), llm.llm_engine
    inbox: queue.Queue = queue.Queue()
    threading.Thread(target=_requests, args=(inbox,), daemon=True).start()

    def send(row: dict) -> None:
        print(json.dumps(row), file=out, flush=True)

    def accept(r: dict) -> None:
        last = r["messages"][-1]["role"] == "assistant"
        try:
            tokens = tokenizer.apply_chat_template(
                r["messages"],
                tokenize=True,
                return_dict=False,
                add_generation_prompt=not last,
                continue_final_message=last,
                **r["template"],
            )
            core.add_request(
                str(r["id"]),
                {"prompt_token_ids": tokens},
                SamplingParams(
                    n=r["n"],
                    temperature=r["temperature"],
                    top_p=r["top_p"],
                    max_tokens=r["max_tokens"],
                    output_kind=RequestOutputKind.FINAL_ONLY,
                ),
            )
        except Exception as e:  # one request that does not fit must not end the others
            send({"id": r["id"], "error": f"{type(e).__name__}: {e}"[:500]})

    send({"ready": True})
    while True:
        while not inbox.empty() or not core.has_unfinished_requests():
            accept(inbox.get())
        for done in core.step():
            if done.finished:
                send(
                    {
                        "id": int(done.request_id),
                        "completions": [
                            [o.text, o.finish_reason or "stop", len(o.token_ids)]
                            for o in done.outputs
                        ],
                    }
                )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
