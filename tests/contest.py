"""Answers to small contest problems in LiveCodeBench's format, with its checker's verdict.

Each is (name, function or "", tests, code, passes); tests are (input, output) texts as in the data
set. Used by test_livecodebench.py and by bench/livecodebench.py.
"""

import base64
import json
import pickle
import zlib


def row(k: int = 0, function: str = "", tests=(("1", "1"),), **changes) -> dict:
    cases = [
        {"input": i, "output": o, "testtype": "functional" if function else "stdin"}
        for i, o in tests
    ]
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases[1:])))).decode()
    return {
        "question_title": f"Problem {k}",
        "question_content": "Add.",
        "platform": "atcoder",
        "question_id": f"q{k:04}",
        "contest_id": "c",
        "contest_date": "2024-09-01T00:00:00",
        "starter_code": f"class Solution:\n    def {function}(self):\n        " if function else "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(cases[:1]),
        "private_test_cases": packed,
        "metadata": json.dumps({"func_name": function} if function else {}),
    } | changes


S = "class Solution:\n    "
ADD = [("1\n2", "3"), ("10\n-4", "6")]
ITSELF = [("[1, 2]", "[1, 2]"), ("[]", "[]")]
ECHO = [("3 4\n", "7\n"), ("10 -4\n", "6\n")]
LINES = [("3\na\nb\nc", "a\nb\nc\n"), ("1\nz", "z")]

FUNCTIONAL = [
    ("right", "add", ADD, S + "def add(self, a: int, b: int) -> int:\n        return a + b", True),
    ("wrong", "add", ADD, S + "def add(self, a, b):\n        return a - b", False),
    (
        "wrong in the second test only",
        "add",
        ADD,
        S + "def add(self, a, b):\n        return 3",
        False,
    ),
    ("a plain function", "add", ADD, "def add(a, b):\n    return a + b", True),
    (
        "a comment names a class Solution",
        "add",
        ADD,
        "# no class Solution here\ndef add(a, b):\n    return a + b",
        False,
    ),
    ("another name", "add", ADD, S + "def plus(self, a, b):\n        return a + b", False),
    ("does not parse", "add", ADD, S + "def add(self, a, b)\n        return a + b", False),
    ("crashes", "add", ADD, S + "def add(self, a, b):\n        return a / 0", False),
    (
        "crashes when loaded",
        "add",
        ADD,
        "boom\n" + S + "def add(self, a, b):\n        return a + b",
        False,
    ),
    (
        "wants an argument more",
        "add",
        ADD,
        S + "def add(self, a, b, c):\n        return a + b",
        False,
    ),
    ("ends the process", "add", ADD, S + "def add(self, a, b):\n        sys.exit(0)", False),
    (
        "never ends",
        "add",
        ADD,
        S + "def add(self, a, b):\n        while True:\n            pass",
        False,
    ),
    (
        "never ends in the second test",
        "add",
        ADD,
        S + "def add(self, a, b):\n        while b < 0:\n            pass\n        return a + b",
        False,
    ),
    (
        "recurses for ever",
        "add",
        ADD,
        S + "def add(self, a, b):\n        return self.add(a, b)",
        False,
    ),
    (
        "recurses 20,000 deep",
        "down",
        [("20000", "20000")],
        S + "def down(self, n):\n        return 0 if n == 0 else 1 + self.down(n - 1)",
        True,
    ),
    (
        "a float that is whole",
        "add",
        ADD,
        S + "def add(self, a, b):\n        return float(a + b)",
        True,
    ),
    ("a bool for one", "one", [("5", "1")], S + "def one(self, n):\n        return n > 1", True),
    ("one for true", "one", [("5", "true")], S + "def one(self, n):\n        return 1", True),
    (
        "a float that is off by a bit",
        "third",
        [("1", "0.3")],
        S + "def third(self, n):\n        return 0.1 + 0.2",
        False,
    ),
    (
        "a float to the last bit",
        "third",
        [("1", "0.30000000000000004")],
        S + "def third(self, n):\n        return 0.1 + 0.2",
        True,
    ),
    ("nothing for null", "none", [("1", "null")], S + "def none(self, n):\n        pass", True),
    (
        "not a number",
        "nan",
        [("1", "NaN")],
        S + "def nan(self, n):\n        return float('nan')",
        False,
    ),
    (
        "infinity",
        "big",
        [("1", "Infinity")],
        S + "def big(self, n):\n        return math.inf",
        True,
    ),
    (
        "a long integer",
        "power",
        [("200", str(3**200))],
        S + "def power(self, n):\n        return 3 ** n",
        True,
    ),
    (
        "a tuple for a list",
        "same",
        ITSELF,
        S + "def same(self, xs):\n        return tuple(xs)",
        True,
    ),
    (
        "tuples in a list",
        "same",
        [("[[1, 2]]", "[[1, 2]]")],
        S + "def same(self, xs):\n        return [tuple(x) for x in xs]",
        False,
    ),
    ("a set for a list", "same", ITSELF, S + "def same(self, xs):\n        return set(xs)", False),
    (
        "a deque for a list",
        "same",
        ITSELF,
        S + "def same(self, xs):\n        return deque(xs)",
        False,
    ),
    (
        "a generator for a list",
        "same",
        ITSELF,
        S + "def same(self, xs):\n        yield from xs",
        False,
    ),
    (
        "a string with a blank more",
        "text",
        [('"ab"', '"ab"')],
        S + "def text(self, s):\n        return s + ' '",
        False,
    ),
    (
        "a string",
        "text",
        [('"a\\nb é"', '"a\\nb é"')],
        S + "def text(self, s):\n        return s",
        True,
    ),
    (
        "a counter for a dict",
        "count",
        [('"aab"', '{"a": 2, "b": 1}')],
        S + "def count(self, s):\n        return Counter(s)",
        True,
    ),
    (
        "integer keys for JSON's",
        "count",
        [("[1]", '{"1": 1}')],
        S + "def count(self, xs):\n        return {x: 1 for x in xs}",
        False,
    ),
    (
        "names that are imported for it",
        "top",
        [("[3, 1, 2]\n2", "[3, 2]")],
        S
        + "def top(self, xs: List[int], k: int) -> Optional[List[int]]:\n        h = []\n        for x in xs:\n            heappush(h, -x)\n"
        "        return [-heappop(h) for _ in range(k)]",
        True,
    ),
    (
        "numpy's integer",
        "add",
        ADD,
        "import numpy as np\n" + S + "def add(self, a, b):\n        return np.int64(a) + b",
        True,
    ),
    (
        "numpy's integers in a list",
        "same",
        [("[1, 2]", "[1, 2]")],
        "import numpy as np\n" + S + "def same(self, xs):\n        return list(np.array(xs))",
        True,
    ),
    (
        "a fraction that is whole",
        "add",
        ADD,
        "from fractions import Fraction\n"
        + S
        + "def add(self, a, b):\n        return Fraction(a + b)",
        True,
    ),
    (
        "state of the instance leaks into the next test",
        "first",
        [("[1]", "[1]"), ("[2]", "[2]")],
        S
        + "def __init__(self):\n        self.seen = []\n    def first(self, xs):\n        self.seen += xs\n        return self.seen",
        False,
    ),
    (
        "a global leaks into the next test",
        "first",
        [("[1]", "[1]"), ("[2]", "[2]")],
        "seen = []\n" + S + "def first(self, xs):\n        seen.extend(xs)\n        return seen",
        False,
    ),
    (
        "prints as well",
        "add",
        ADD,
        S + "def add(self, a, b):\n        print('hello')\n        return a + b",
        True,
    ),
    (
        "an import that must stand first",
        "add",
        ADD,
        "from __future__ import annotations\n" + S + "def add(self, a, b):\n        return a + b",
        False,
    ),
    (
        "a large list",
        "count",
        [("200000", str(list(range(200000))))],
        S + "def count(self, n):\n        return list(range(n))",
        True,
    ),
    (
        "a cache over tests",
        "fib",
        [("30", "832040"), ("80", "23416728348467685")],
        "@cache\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n"
        + S
        + "def fib(self, n):\n        return f(n)",
        True,
    ),
]

READ = "a, b = map(int, input().split())\n"
STDIN = [
    ("right", "", ECHO, READ + "print(a + b)", True),
    ("wrong", "", ECHO, READ + "print(a - b)", False),
    (
        "reads all of it",
        "",
        ECHO,
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
        True,
    ),
    (
        "reads lines",
        "",
        LINES,
        "import sys\nn, *rest = sys.stdin.readlines()\nprint(''.join(rest[:int(n)]))",
        True,
    ),
    (
        "another name for reading",
        "",
        LINES,
        "import sys\ninput = sys.stdin.readline\nfor _ in range(int(input())):\n    print(input().strip())",
        True,
    ),
    (
        "goes through the lines",
        "",
        ECHO,
        "import sys\nfor line in sys.stdin:\n    print(sum(map(int, line.split())))",
        True,
    ),
    (
        "took the name of the input early",
        "",
        LINES,
        "from sys import stdin\nfor _ in range(int(stdin.readline())):\n    print(stdin.readline())",
        True,
    ),
    (
        "took the name early and reads all",
        "",
        ECHO,
        "from sys import stdin\nprint(sum(map(int, stdin.read().split())))",
        True,
    ),
    (
        "took the name early and goes through the lines",
        "",
        ECHO,
        "from sys import stdin\nfor line in stdin:\n    print(sum(map(int, line.split())))",
        False,
    ),
    (
        "took the name early and reads too far",
        "",
        ECHO,
        "from sys import stdin\nfor _ in range(9):\n    s = stdin.readline()\nprint(7)",
        False,
    ),
    (
        "took the name of the output early",
        "",
        ECHO,
        "from sys import stdout\n" + READ + "stdout.write(str(a + b))",
        False,
    ),
    ("writes", "", ECHO, "import sys\n" + READ + "sys.stdout.write(str(a + b))", True),
    (
        "flushes and closes",
        "",
        ECHO,
        "import sys\n" + READ + "print(a + b, flush=True)\nsys.stdout.close()",
        False,
    ),
    ("opens file 0", "", ECHO, "print(sum(map(int, open(0).read().split())))", False),
    (
        "a main guard",
        "",
        ECHO,
        "def main():\n    " + READ + "    print(a + b)\n\nif __name__ == '__main__':\n    main()",
        True,
    ),
    (
        "a main guard with an import",
        "",
        ECHO,
        "if __name__ == '__main__':\n    import math\n    " + READ + "    print(math.fsum((a, b)))",
        True,
    ),
    (
        "a main guard the other way round",
        "",
        ECHO,
        "if '__main__' == __name__:\n    " + READ + "    print(a + b)",
        False,
    ),
    (
        "a main guard that is not the last",
        "",
        ECHO,
        "if __name__ == '__main__':\n    " + READ + "    print(a + b)\nx = 1",
        False,
    ),
    (
        "a function that calls itself",
        "",
        [("5", "120")],
        "def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(int(input())))",
        True,
    ),
    (
        "global of a name that is local there",
        "",
        ECHO,
        "total = 0\ndef add(x):\n    global total\n    total += x\n"
        + READ
        + "add(a)\nadd(b)\nprint(total)",
        False,
    ),
    (
        "a class",
        "",
        ECHO,
        "class A:\n    def __init__(self, x):\n        self.x = x\n"
        + READ
        + "print(A(a).x + A(b).x)",
        True,
    ),
    (
        "a class Solution that is never looked at",
        "",
        ECHO,
        "class Solution:\n    pass\n" + READ + "print(a + b)",
        False,
    ),
    ("leaves with 0", "", ECHO, "import sys\n" + READ + "print(a + b)\nsys.exit(0)", True),
    ("leaves with 1", "", ECHO, READ + "print(a + b)\nexit(1)", True),
    (
        "leaves by the back door",
        "",
        ECHO,
        "import os\n" + READ + "print(a + b)\nos._exit(0)",
        False,
    ),
    ("crashes at the end", "", ECHO, READ + "print(a + b)\n1 / 0", False),
    ("does not parse", "", ECHO, "print(a + b", False),
    ("never ends", "", ECHO, "while True:\n    pass", False),
    ("reads a line too many", "", [("1", "1")], "print(input())\ninput()", False),
    (
        "blanks and empty lines around",
        "",
        ECHO,
        READ + "print()\nprint('  ', a + b, '  ')\nprint()",
        True,
    ),
    ("an empty line inside", "", [("1", "1\n2")], "print('1\\n\\n2')", False),
    ("a line missing", "", [("1", "1\n2")], "print(1)", False),
    ("a line more", "", [("1", "1")], "print(1)\nprint(2)", False),
    ("nothing where nothing is wanted", "", [("1", "")], "pass", True),
    ("nothing where something is wanted", "", [("1", "1")], "pass", False),
    ("1.0 for 1", "", ECHO, READ + "print(float(a + b))", True),
    ("1e3 for 1000", "", [("1", "1000")], "print('1e3')", True),
    ("-0 for 0", "", [("1", "0")], "print('-0')", True),
    ("0.30000000000000004 for 0.3", "", [("1", "0.3")], "print(.1 + .2)", False),
    ("the same large numbers", "", [("1", "50000000000000001")], "print(50000000000000000)", False),
    ("numbers apart by more blanks", "", [("1", "1 2 3")], "print('1  2\\t3')", True),
    ("words apart by more blanks", "", [("1", "a b")], "print('a  b')", False),
    ("a word among numbers", "", [("1", "Case 1: 2")], "print('Case 1: 2.0')", False),
    ("upper and lower case", "", [("1", "YES")], "print('Yes')", False),
    ("nan is text", "", [("1", "nan")], "print('nan')", True),
    ("nan is no number", "", [("1", "nan")], "print('NaN')", False),
    ("a signalling nan", "", [("1", "1")], "print('sNaN')", False),
    (
        "lines that end as on Windows",
        "",
        [("3 4\r\n", "7\r\n")],
        READ + "print(a + b, end='\\r\\n')",
        True,
    ),
    (
        "much output",
        "",
        [("200000", "\n".join(map(str, range(200000))))],
        "for k in range(int(input())):\n    print(k)",
        True,
    ),
    (
        "much output, the last line wrong",
        "",
        [("200000", "\n".join(map(str, range(200000))))],
        "for k in range(int(input()) - 1):\n    print(k)\nprint(0)",
        False,
    ),
    (
        "threads",
        "",
        ECHO,
        "import threading\ndef work():\n    "
        + READ
        + "    print(a + b)\nt = threading.Thread(target=work)\nt.start()\nt.join()",
        True,
    ),
    (
        "an import that must stand first",
        "",
        ECHO,
        "from __future__ import annotations\n" + READ + "print(a + b)",
        False,
    ),
    (
        "a module that is not there",
        "",
        ECHO,
        "import sortedcontainerz\n" + READ + "print(a + b)",
        False,
    ),
    ("numpy", "", ECHO, "import numpy as np\n" + READ + "print(np.array([a, b]).sum())", True),
    (
        "a decorated function",
        "",
        [("30", "832040")],
        "@lru_cache(None)\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(int(input())))",
        True,
    ),
    ("a long integer", "", [("5000", str(7**5000))], "print(7 ** int(input()))", True),
]
CASES = FUNCTIONAL + STDIN

# Where our verdict is another one, and why: (name, function, tests, code, the checker's, ours).
DIFFERENT = [
    (
        "reads bytes: works in later versions of the checker",
        "",
        ECHO,
        "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))",
        False,
        True,
    ),
    (
        "sleeps: a second is one of CPU time here",
        "",
        [("1", "1")],
        "import time\ntime.sleep(3)\nprint(1)",
        False,
        True,
    ),
    (
        "a value that says it equals everything",
        "add",
        ADD,
        "class Yes:\n    def __eq__(self, other):\n        return True\n"
        + S
        + "def add(self, a, b):\n        return Yes()",
        True,
        False,
    ),
]
