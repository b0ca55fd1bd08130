"""Small random programs, run by mode "monty" and by this Python: where do the values differ?

python -m tests.attack.monty 600   # seconds
"""

import ast
import functools
import itertools
import random
import re
import sys
import time

from kit.sandbox import Job, Sandbox

# Of each type: expressions with holes for others, and values.
TEMPLATES = {
    "int": """
        {i} + {i} | {i} - {i} | {i} * {i} | {i} // {i} | {i} % {i} | -{i} | ~{i} | {i} & {i}
        {i} | {i} ^ {i} | {i} << {k} | {i} >> {k} | {k} ** {k} | abs({i}) | len({s}) | len({l})
        {s}.find({s}) | {s}.rfind({s}, {k}) | {s}.count({s}) | {s}.index({s}) | {s}.rindex({s})
        ord({s}[{i}]) | int({f}) | int({s}) | int({s}, {k}) | int({b}) | round({f}) | round({i}, -{k})
        {l}[{i}] | {l}.index({i}) | {l}.count({i}) | sum({l}) | max({l}) | min({l}) | max({i}, {i})
        min({l}, key=lambda x: x % 3) | max({l}, key=lambda x: -x, default={i}) | {d}[{s}]
        {d}.get({s}, {i}) | len({d}) | pow({k}, {k}, {i}) | pow({k}, {k}) | divmod({i}, {i})[1]
        math.gcd({i}, {i}) | math.floor({f}) | math.ceil({f}) | math.factorial({k}) | {f} // 1
        math.comb({k}, {k}) | math.isqrt({i}) | math.trunc({f}) | math.prod({l}) | math.lcm({i}, {i})
        math.perm({k}, {k}) | {i} if {b} else {i} | sum(x for x in {l} if x > {i}) | len({t})
        (lambda x, y=2: x * y)({i}) | {t}[{k}] | hash({i}) | len(set({l})) | int(str({i})) | {b} + {i}
        """,
    "float": """
        {f} + {f} | {f} - {f} | {f} * {f} | {f} / {f} | {f} // {f} | {f} % {f} | {i} / {i} | -{f}
        {f} ** {f} | {k} ** -{k} | abs({f}) | float({i}) | float({s}) | round({f}, {i}) | round({f}, 2)
        sum([{f}, {f}, {f}]) | max({f}, {i}) | min({f}, {f}) | divmod({f}, {f})[0] | pow({f}, {i})
        math.sqrt({f}) | math.sin({f}) | math.log({f}) | math.exp({f}) | math.pow({f}, {f}) | {i} * {f}
        math.log({f}, {f}) | math.log2({f}) | math.log10({f}) | math.atan2({f}, {f}) | math.pi
        math.hypot({f}, {f}) | math.fabs({f}) | math.fmod({f}, {f}) | math.tan({f}) | math.cos({f})
        math.fsum([{f}, {f}]) | math.degrees({f}) | math.radians({f}) | math.copysign({f}, {f})
        math.cbrt({f}) | math.asin({f}) | math.acos({f}) | math.atan({f}) | math.sinh({f}) | math.cosh({f})
        math.tanh({f}) | math.exp2({f}) | math.gamma({f}) | math.erf({f}) | math.dist([{f}], [{f}])
        math.modf({f})[0] | math.remainder({f}, {f}) | math.expm1({f}) | math.log1p({f}) | {f} + {i}
        """,
    "bool": """
        {i} < {i} | {i} == {f} | {f} <= {i} | {s} < {s} | {s} in {s} | {i} in {l} | {s} in {d}
        not {b} | {b} and {b} | {b} or {i} | {s}.isalpha() | {s}.isdigit() | {s}.isalnum() | {t} < {t}
        {s}.isupper() | {s}.islower() | {s}.isspace() | {s}.istitle() | {s}.isdecimal() | {l} < {l}
        {s}.isnumeric() | {s}.isidentifier() | {s}.isascii() | {s}.isprintable() | {l} == {l}
        {s}.startswith({s}) | {s}.endswith(({s}, {s})) | all({l}) | any({l}) | any(9 / x > 1 for x in {l}) | all(map(abs, {l})) | {i} < {i} <= {f}
        isinstance({i}, int) | isinstance({b}, int) | isinstance({f}, (int, str)) | bool({s}) | bool({l})
        {d} == {d} | set({l}) <= set({l}) | {i} in set({l}) | math.isclose({f}, {f}) | math.isnan({f})
        callable({i}) | {i} is None | {l} is {l} | {i} not in {t} | {s} != {s} | {b} is True
        """,
    "str": """
        {s} + {s} | {s} * {k} | {s}[{i}] | {s}[{i}:{i}] | {s}[::{i}] | str({i}) | str({f}) | str({b})
        {s}.upper() | {s}.lower() | {s}.title() | {s}.capitalize() | {s}.swapcase() | {s}.casefold()
        {s}.strip() | {s}.strip({s}) | {s}.lstrip() | {s}.rstrip({s}) | {s}.replace({s}, {s})
        {s}.replace({s}, {s}, {k}) | {s}.center({k}) | {s}.center({k}, "*") | {s}.ljust({k}, ".")
        {s}.rjust({k}) | {s}.zfill({k}) | {s}.expandtabs({k}) | {s}.join({w}) | repr({s}) | repr({f})
        repr({l}) | repr({d}) | repr({t}) | str({l}) | str({d}) | str({t}) | bin({i}) | hex({i})
        oct({i}) | chr({k}) | chr({i}) | ascii({s}) | f"{{{f}}}" | f"{{{f}:{F}}}" | f"{{{i}:{D}}}"
        f"{{{s}:{S}}}" | format({f}, "{F}") | format({i}, "{D}") | format({s}, "{S}") | f"{{{l}!r:>9}}"
        "%d" % {i} | "%s" % {f} | "%.2f" % {f} | "%5s|%-5s" % ({s}, {s}) | "%x" % {i} | "%r" % {s}
        "%e" % {f} | "%g" % {f} | "%05d" % {i} | "%+d" % {i} | "%%%s" % {i} | "%c" % {k} | "%i" % {f}
        "{{}} {{}}".format({i}, {s}) | "{{:{F}}}".format({f}) | "{{0}}{{0}}".format({f}) | {w}[{i}]
        "{{a!r}}".format(a={s}) | {s}.removeprefix({s}) | {s}.removesuffix({s}) | {s} if {b} else {s}
        max({s}) | min({w}) | "".join(sorted({s})) | "".join(reversed({s})) | {s}.partition({s})[2]
        {s}.rpartition({s})[0] | {s}.split({s})[{i}] | f"{{{i}:,}}" | f"{{{f}:,.2f}}" | f"{{{f}:.1%}}"
        f"{{{i}!r}}" | f"{{{f}:.{k}f}}" | re.sub("[a-c]", {s}, {s}) | json.dumps({l}) | json.dumps({d})
        json.dumps({s}) | json.dumps({f}) | type({i}).__name__ | "".join(map(str, {l})) | str({c})
        str(set({l})) | min({s}, key=str.lower) | max({w}, key=len) | {s}.translate({{97: "b"}})
        """,
    "list": """
        {l} + {l} | {l} * {k} | {l}[{i}:{i}] | {l}[::{i}] | sorted({l}) | sorted({l}, reverse=True)
        sorted({l}, key=lambda x: (x % 3, x)) | list(reversed({l})) | list(range({k})) | list(range(-{k}, {k}))
        list(range({k}, {k}, {i})) | [x * 2 for x in {l}] | [x for x in {l} if x % 2] | list(map(abs, {l}))
        list(filter(None, {l})) | [ord(x) for x in {s}] | [*{l}, {i}] | list({d}.values())
        [i * x for i, x in enumerate({l})] | [a + b for a, b in zip({l}, {l})] | list(set({l}))
        [len(x) for x in {w}] | sorted(set({l})) | [x for x in set({l})] | {l} or {l} | {l}.copy()
        [y for x in {l} for y in (x, -x)] | sum([{l}, {l}], []) | list({t}) | list(map(int, str({k})))
        """,
    "words": """
        {s}.split() | {s}.split({s}) | {s}.split({s}, {k}) | {s}.rsplit(None, {k}) | {s}.rsplit({s}, 1)
        {s}.splitlines() | {s}.splitlines(True) | list({s}) | sorted({w}) | sorted({w}, key=len) | list({d})
        list({s}.partition({s})) | [str(x) for x in {l}] | sorted({w}, key=str.lower) | sorted({d})
        re.findall("[a-z]+", {s}) | re.split("[ ,]", {s}) | [x.upper() for x in {w}] | {w} + {w}
        [f"{{x:>4}}" for x in {w}] | list(dict.fromkeys({s})) | list(set({s})) | {w}[::-1] | re.findall("\\w+", {s})
        """,
    "dict": """
        dict(zip({w}, {l})) | {{**{d}, {s}: {i}}} | {d} | {d} | {{c: {s}.count(c) for c in {s}}}
        dict(sorted({d}.items())) | {{k: v for k, v in {d}.items() if v}} | dict.fromkeys({w}, {i})
        dict(sorted({d}.items(), key=lambda x: x[1])) | {d}.copy() | {{x: x * 2 for x in {l}}}
        dict(enumerate({w})) | {{{s}: {i}}}
        """,
    "tuple": """
        ({i}, {f}) | tuple({l}) | divmod({i}, {i}) | divmod({f}, {f}) | {t} + {t} | {t} * {k} | {t}[::-1]
        {s}.partition({s}) | tuple(x for x in {l}) | tuple({w}) | (*{l},) | ({s}, {b}, None) | math.frexp({f})
        tuple(sorted({t})) | {t}[{i}:] | tuple(zip({l}, {s})) | tuple(enumerate({s})) | tuple({d}.items())
        """,
    "iterator": """
        map(abs, {l}) | reversed({l}) | enumerate({s}) | zip({l}, {w}) | filter(None, {l}) | range({k})
        {d}.items() | {d}.values() | {d}.keys() | (x for x in {l}) | iter({l}) | [map(str, {l})] | int | len
        {d}.keys() & {d}.keys() | {d}.items() - {d}.items() | list({d}.keys() | {d}.keys())
        """,
    "set": """
        set({l}) | set({s}) | {{{i}, {i}}} | set({l}) & set({l}) | set({l}) - {c} | {c} ^ {c} | {{x % 3 for x in {l}}}
        frozenset({l}) | {c} | {c} | {c}.union({l})
        """,
}

LETTER = dict(zip("ifbslwdtjc", TEMPLATES))

# What stands around an expression of any type.
PROGRAMS = """
def f(x):
    return {e}
---
def f(x):
    out = []
    for y in [{e}, {e}]:
        out.append(y)
        if y == {e}:
            break
    else:
        out.insert(0, x)
    return out
---
def f(x):
    try:
        return {e}
    except (ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError) as fault:
        return str(fault)
---
def f(x):
    try:
        return {e}
    except Exception:
        return -1
---
def f(x):
    d = {d}
    for y in {w}:
        d[y] = d.get(y, 0) + 1
    d.pop({s}, None)
    d.setdefault({s}, {i})
    return d, {e}
---
def f(x):
    a = {l}
    a.extend({l})
    a.sort(key=lambda y: -y)
    a.reverse()
    if {b}:
        a.pop({k})
    a[{k}:{k}] = {l}
    a += [x]
    return a
---
def f(x):
    def g(n):
        nonlocal x
        x += 1
        return n if n <= 0 else g(n - 1) + n
    a, *b = {l}
    return g({k}), x, a, b, {e}
---
def f(x):
    seen = set()
    for y in {l}:
        if y in seen:
            continue
        seen.add(y)
    return seen, len(seen), {e}
---
def f(x):
    n = {i}
    while n > 1:
        n = n // 2 if n % 2 == 0 else n - 3
    assert n != 1, n
    return [n, {e}]
---
def f(x):
    a = {l}
    for i, y in enumerate(a):
        if i + 1 < len(a):
            a[i + 1] += y
    b = map(abs, a)
    return list(b), list(b)
---
def f(x):
    if x > 600:
        return x
    return f(x + {k})
---
def f(x):
    a = {i}
    b = {i}
    return a is b, a == b, {e}
---
def f(x):
    return f"{{x}} {{{e}!s:>12}}"
---
def g():
    for y in {l}:
        yield y
def f(x):
    return list(g()), {e}
""".strip().split("\n---\n")

SPECS = {
    "F": ".2f .0f .3e g .3g % ,.2f +.1f 010.3f e .10f >9.1f n .1% _.2f #.3g".split(),
    "D": "d x X b o c , _ 05d +d >6 ^7d #x #b =+8 *^9 e .2f n".split() + [" d"],
    "S": "s >5 <5 ^5 *^6 .2 5.1 08".split(),
}


def _halves(text):
    """The templates of one type: those without a bar of their own stand several to a line."""
    return [part.strip() for line in text.strip().split("\n") for part in line.split(" | ")]


HALVES = {kind: _halves(text) for kind, text in TEMPLATES.items()}
WHOLE = {"int": ["{i} | {i}"], "dict": ["{d} | {d}"], "set": ["{c} | {c}"]}


class Maker:
    """Random programs; the same ones for the same seed."""

    def __init__(self, seed: int):
        self.random = random.Random(f"monty {seed}")

    def value(self, kind):
        draw = self.random.choice
        text = "ab cAZ019_-,.\t\n'\"x"
        if kind == "int":
            return draw(["x", str(draw([0, 1, -1, 2, 3, -7, 10, 255, 10**6, 2**53 + 1, -(2**70)]))])
        if kind == "float":
            exact = [0.0, -0.0, 0.5, 2.5, 1e16, 1e22, 1e-5, 123456.789, 0.1, 2.675, 1e300, 5e-324]
            some = draw([self.random.random() * 100, self.random.gauss(0, 1e6), draw(exact)])
            return repr(draw([some, round(some, 3), self.random.randint(0, 9999) / 1000]))
        if kind == "bool":
            return draw(["True", "False"])
        if kind == "str":
            drawn = "".join(draw(text) for _ in range(draw([0, 1, 3, 6])))
            number = repr(draw([self.random.randint(-99, 99), self.random.random(), 1e9]))
            odd = draw("éß²İ☃١\u00a0\u2028\ud800😀")
            return repr(draw([drawn] * 12 + ["a", " ", ",", number, f" {number} ", drawn + odd]))
        if kind == "list":
            return repr([self.random.randint(-9, 40) for _ in range(draw([0, 1, 3, 5]))])
        if kind == "words":
            return repr([ast.literal_eval(self.value("str")) for _ in range(draw([0, 1, 3]))])
        if kind == "dict":
            keys = ast.literal_eval(self.value("words"))
            return repr({key: self.random.randint(0, 9) for key in keys})
        if kind == "tuple":
            return draw(["(1, 2)", "()", "(3,)", "(0.5, 1)"])
        if kind == "iterator":
            return "range(3)"
        return draw(["{1, 2}", "set()", "{30, 7, 16}", "{'a', 'b'}"])

    def expression(self, kind, depth):
        if depth <= 0 or self.random.random() < 0.2:
            return self.value(kind)
        template = self.random.choice(HALVES[kind] + WHOLE.get(kind, []))
        filled = self.fill(template, depth)
        return filled if filled.startswith(('f"', "f'")) else f"({filled})"

    def fill(self, template, depth):
        def hole(match):
            letter = match[1]
            if letter == "k":
                return str(self.random.choice([0, 1, 2, 3, 5, 7, 12, 20]))
            if letter in SPECS:
                return self.random.choice(SPECS[letter])
            if letter == "e":
                return self.expression(self.random.choice(list(TEMPLATES)), depth)
            # Inside an f-string of Python 3.11 no quotes and no backslashes.
            return self.expression(LETTER[letter], depth - 1)

        bare = re.sub(r"\{([ifbslwdtckeFDS])\}", hole, template)
        return bare.replace("{{", "{").replace("}}", "}") if "{{" in template else bare

    def program(self):
        body = self.random.choice([PROGRAMS[0], self.random.choice(PROGRAMS)])
        code = self.fill(body, self.random.choice([1, 2, 3]))
        used = [name for name in ("math", "re", "json") if f"{name}." in code]
        return "".join(f"import {name}\n" for name in used) + code


@functools.cache
def python_box() -> Sandbox:
    """Python itself, in a box: a program of the search may run for ever."""
    return Sandbox(workers=2, timeout=1)


def by_python(code: str, arguments: tuple) -> tuple | None:
    """What Python makes of f, as mode "monty" reports it.

    None where it is no program, or takes too long.
    """
    (result,) = python_box().map([Job(code, (("f", arguments),))])
    return result.values[0] if result.status == "ok" else None


def differences(programs, box: Sandbox):
    """(code, what Python gives, what the box gives) where they differ, and the statuses."""
    programs = iter(programs)
    while batch := [Job(code, (("f", (7,)),)) for code in itertools.islice(programs, 32)]:
        for job, wanted, found in zip(batch, python_box().map(batch), box.map(batch)):
            if wanted.status != "ok":
                continue
            if found.status == "unsupported":
                yield None, None, "unsupported"
                continue
            one, other = wanted.values[0], found.values[0] if found.values else found.status
            # `repr` tells types, the order of a dict, and -0.0. Of errors only that there is one.
            same = repr(one) == repr(other) or one[0] == other[0] == "err"
            yield (None, None, "same") if same else (job.code, one, other)


def main(seconds: float, seed: int) -> None:
    """Print what differs, for so long."""
    end = time.monotonic() + seconds
    counts = {"same": 0, "unsupported": 0, "different": 0}
    maker = Maker(seed)
    endless = (maker.program() for _ in itertools.count())
    with Sandbox(mode="monty", workers=2) as box:
        for code, wanted, found in differences(endless, box):
            counts["different" if code else found] += 1
            if code:
                print(ascii(code), ascii(wanted)[:150], ascii(found)[:150], sep="\n  ", flush=True)
            if time.monotonic() > end:
                break
    print(counts)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
