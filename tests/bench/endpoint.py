"""How much of an endpoint's speed arrives, by requests in flight, and what the client costs.

A FakeEndpoint in its own process answers after 0.2 s. It takes about 1 minute:

PYTHONPATH=. python tests/bench/endpoint.py
"""

import argparse
import multiprocessing
import time

from rich.console import Console
from rich.table import Table

from kit.core.config import Role, Sampling
from kit.serving.endpoint import Endpoint
from tests.fakes.endpoint import FakeEndpoint, answered


def serve(seconds: float, addresses) -> None:
    with FakeEndpoint(seconds=seconds) as server:
        addresses.put(server.url)
        time.sleep(3600)


def main(seconds: float, replicas: int) -> None:
    context = multiprocessing.get_context("spawn")
    addresses = context.Queue()
    servers = [
        context.Process(target=serve, args=(seconds, addresses), daemon=True)
        for _ in range(replicas)
    ]
    for server in servers:
        server.start()
    urls = [addresses.get() for _ in servers]
    table = Table(
        "in flight",
        "requests",
        "requests/s",
        "of what the server could give",
        "client: CPU ms a request",
    )
    for flying in (1, 8, 32, 128):
        role = Role(
            model="m",
            engine="openai",
            endpoints=urls,
            concurrency=flying,
            sampling=Sampling(temperature=1.0, max_tokens=9),
        )
        count = max(20, flying * 15)
        with Endpoint(role) as engine:
            answered(engine, [[{"role": "user", "content": "warm"}]])
            began = time.perf_counter()
            cpu_began = time.process_time()
            answered(engine, [[{"role": "user", "content": f"{k} " * 200}] for k in range(count)])
            took = time.perf_counter() - began
            cpu = time.process_time() - cpu_began
        ideal = -(-count // flying) * seconds
        table.add_row(
            str(flying),
            str(count),
            f"{count / took:.1f}",
            f"{ideal / took:.0%}",
            f"{1000 * cpu / count:.1f}",
        )
    Console().print(table)
    for server in servers:
        server.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.2, help="until a server answers")
    parser.add_argument("--replicas", type=int, default=2)
    given = parser.parse_args()
    main(given.seconds, given.replicas)
