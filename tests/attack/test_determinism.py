"""Which nondeterministic programs verification catches; and that honest look-alikes pass."""

import pytest

from kit.core.programs import unstable_name
from kit.core.types import Rejected
from kit.environments.verify import DeterminismCheck, execute
from kit.sandbox import Job, Sandbox, literal, same

pytestmark = pytest.mark.attack

UNSTABLE = {
    "time": "import time\ndef f(x): return time.time()",
    "clock by parity": "import time\ndef f(x): return int(time.perf_counter() * 1e6) % 2",
    "date": "import datetime\ndef f(x): return str(datetime.date.today())",
    "now, aliased": "from datetime import datetime as d\ndef f(x): return d.now().year + x",
    "random": "import random\ndef f(x): return random.random()",
    "shuffle": "from random import shuffle\ndef f(x):\n    a = list(range(9))\n    shuffle(a)\n    return a",
    "random seeded by time": "import random, time\nrandom.seed(time.time())\ndef f(x): return random.randint(0, 9)",
    "SystemRandom": "from random import SystemRandom\ndef f(x): return SystemRandom().random()",
    "secrets": "import secrets\ndef f(x): return secrets.token_hex(2)",
    "uuid": "import uuid\ndef f(x): return str(uuid.uuid4())",
    "urandom": "from os import urandom\ndef f(x): return urandom(2)",
    "pid": "import os\ndef f(x): return os.getpid() % 7",
    "id": "def f(x): return id([]) % 64",
    "hash of str": "def f(x): return hash('a') % 10",
    "hash of bytes in a class": "class A:\n    def __init__(self, v): self.h = hash(v)\ndef f(x): return A(b'a').h % 9",
    "set order": "def f(x): return list({'a', 'b', 'c', 'd', str(x)})",
    "set pop": "def f(x): return {'apple', 'pear', 'fig', 'plum'}.pop()",
    "set order in a join": "def f(x): return ''.join(set('determinism'))",
    "min over a set by length": "def f(x): return min({'ab', 'cd', 'ef', 'gh'}, key=len)",
    "dict from a set": "def f(x): return list({k: len(k) for k in {'one', 'two', 'six', 'ten'}})",
    "counter that grows": "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n",
    "list as default": "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)",
    "cache that leaks": "memo = {}\ndef f(x):\n    memo[len(memo)] = x\n    return sum(memo.values())",
    "iterator used up": "it = iter(range(100))\ndef f(x): return next(it)",
    "attribute on itself": "def f(x):\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n",
    "address in a repr": "def f(x): return repr(object())",
    "repr of a lambda": "def f(x): return str(lambda: 0)",
    "threads racing": "import threading\ndef f(x):\n    out = []\n    ts = [threading.Thread(target=out.append, args=(i,)) for i in range(9)]\n    [t.start() for t in ts]\n    return out",
    "import hidden": "def f(x): return __import__('time').time_ns() % 5",
    "import by name": "import importlib\ndef f(x): return importlib.import_module('ti' + 'me').time_ns() % 5",
    "gc count": "import gc\ndef f(x): return gc.get_count()[0]",
    "memory address by ctypes": "import ctypes\ndef f(x): return ctypes.addressof(ctypes.c_int(1)) % 4096",
    "environment": "import os\ndef f(x): return os.environ.get('PYTHONHASHSEED')",
    "sys.flags": "import sys\ndef f(x): return sys.hash_info.seed_bits + sys.getrefcount(x)",
    "exec of text": "def f(x):\n    d = {}\n    exec('import time; t = time.time_ns()', d)\n    return d['t']",
}
STABLE = {
    "sorted set": "def f(x): return sorted({'a', 'b', 'c', str(x)})",
    "set itself": "def f(x): return {'a', 'b', 'c', str(x)}",
    "seeded": "import random\ndef f(x): return random.Random(x).random()",
    "counts": "from collections import Counter\ndef f(x): return Counter('banana').most_common(1)",
    "sets of ints": "def f(x): return sum({3, 1, 2, x})",
    "memo that only saves time": "memo = {}\ndef f(x):\n    return memo.setdefault(x, x * x)",
    "fixed date": "from datetime import date\ndef f(x): return str(date(2020, 1, 1).replace(year=2000 + x))",
    "timedelta": "import datetime\ndef f(x): return datetime.timedelta(days=x).days",
    "hashlib": "import hashlib\ndef f(x): return hashlib.md5(str(x).encode()).hexdigest()",
    "the word time": "def f(x):\n    time = x * 60\n    return time",
    "the word id": "def f(x):\n    id = x + 1\n    return id",
    "dict order": "def f(x): return {'b': x, 'a': 1}",
    "frozen set in a dict": "def f(x): return len({frozenset('ab'), frozenset('ba')})",
    "floats": "import math\ndef f(x): return math.sin(x)",
    "variable named hash": "def f(x):\n    hash = 0\n    for c in str(x): hash = hash * 31 + ord(c)\n    return hash",
}


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


@pytest.mark.parametrize("name", STABLE)
def test_deterministic_programs_pass(boxes, name):
    assert literal(execute(STABLE[name], ["3"], boxes)[0]) is not None


def layers(code, box, other) -> dict[str, bool]:
    """Which layers catch a program, each alone, and whether the whole verification rejects it."""
    once = (("f", (3,)),)
    twice, again = (
        box.submit(Job(code, once + once)).result(60).values,
        other.submit(Job(code, once, seed=1)).result(60).values,
    )
    try:
        execute(code, ["3"], DeterminismCheck(box, other))
        rejected = False
    except Rejected:
        rejected = True
    return {
        "same input twice": not same(list(twice[:1]), list(twice[1:])),
        "second box": not same(list(twice[:1]), list(again)),
        "static check": bool(unstable_name(code)),
        "all": rejected,
    }


def test_the_share_that_each_layer_catches(boxes):
    assert len(UNSTABLE) >= 25
    found = {name: layers(code, boxes.primary, boxes.reseeded) for name, code in UNSTABLE.items()}
    share = {
        layer: sum(row[layer] for row in found.values()) / len(found)
        for layer in next(iter(found.values()))
    }
    missed = [name for name, row in found.items() if not row["all"]]
    print(
        f"\nof {len(found)} caught: {', '.join(f'{k} {v:.2f}' for k, v in share.items())}; "
        f"missed: {missed}"
    )
    # Two hash seeds may agree on the order of a small set: that is the one known gap.
    assert (
        set(missed) <= {"set pop"} and share["second box"] >= 0.5 and share["static check"] >= 0.5
    )
