"""What a headless stage tells, and what a terminal shows of it."""

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from kit.commands import live
from kit.core import tells

ROOT = Path(__file__).parent.parent
STATE = {"n": 7, "total": 20, "initial": 0, "prefix": "GRPO steps", "unit": "it"}
STATE |= {"postfix": "reward=0.50", "rate": 0.05}
# What moves the cursor or colours the text.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The lines that a headless stage has told."""
    path = tmp_path / "tells.jsonl"
    monkeypatch.setenv("KIT_HEADLESS", "1")
    monkeypatch.setenv(tells.TELLS, str(path))
    path.touch()
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_bar_tells_its_state_now_and_then_and_its_end(told, capsys):
    began = time.time()
    with tells.progress(total=90, desc="seeds", initial=3) as bar:
        bar.set_postfix({"valid": 2})
        counted = told()[-1]["bar"]
        time.sleep(0.6)
        bar.update()
        later = told()[-1]["bar"]
        for _ in range(50):
            bar.set_postfix({"valid": 3}, refresh=False)
            bar.update()
    first, *between, last, end = [line["bar"] for line in told()]
    assert (first["n"], first["initial"], first["total"]) == (3, 3, 90)
    assert (counted["n"], counted["postfix"]) == (3, "valid=2"), "without a wait"
    assert (later["n"], later["postfix"]) == (4, "valid=2") and later["rate"] > 0
    assert abs(first["started"] - began) < 60 and abs(later["started"] - first["started"]) < 0.3
    assert len(between) < 20, "not each of many changes"
    assert (last["n"], last["prefix"], last["postfix"]) == (54, "seeds", "valid=3")
    assert end is None
    out = capsys.readouterr().out
    assert "54/90" in out and "4/90" not in out.replace("54/90", ""), "how it ended, nothing else"


def test_a_bar_without_a_runner_or_with_a_full_disk_works(told, monkeypatch, capsys):
    for path in ("/dev/full", "/nonexistent/tells.jsonl", ""):
        monkeypatch.setenv(tells.TELLS, path)
        with tells.progress(total=2, desc="seeds") as bar:
            bar.update(2)
        tells.warn_at_once("too hot")
        out = capsys.readouterr().out
        assert "2/2" in out and "warning: too hot" in out


def warnings(told):
    return [line["warning"] for line in told() if "warning" in line]


def group(slot, *rewards, malformed=0):
    return [{"slot": slot, "reward": r, "malformed": k < malformed} for k, r in enumerate(rewards)]


def test_a_training_without_a_signal_warns_once_and_early(told):
    watch = tells.Watch()
    for step in range(9):
        watch.step(group(0, *[1.0] * 19) + group(1, 0.0, None))
        assert warnings(told) == [], step
    for _ in range(5):
        watch.step(group(0, 1.0, 1.0) + group(1, 0.0, 0.0))
    dead = [text for text in warnings(told) if "equal rewards" in text]
    assert len(dead) == 1 and dead[0].startswith("100% of the groups of the last 10 steps")


def test_a_training_with_a_signal_now_and_then_does_not_warn(told):
    watch = tells.Watch()
    for step in range(40):
        watch.step(group(0, 1.0, 1.0) + group(1, 0.0, float(step % 3 == 0)))
    assert warnings(told) == []


@pytest.mark.parametrize(
    ("before", "after", "says"), [(0, 1, True), (1, 1, False), (1, 2, False), (1, 3, True)]
)
def test_a_form_that_collapses_is_said(told, before, after, says):
    watch = tells.Watch()
    for step in range(12):
        watch.step(group(0, 1.0, 0.0, 0.0, 0.0, malformed=before if step < 6 else after))
    found = warnings(told)
    assert [text.startswith("the form collapses") for text in found] == [True] * says


@pytest.mark.parametrize(
    ("lost", "of", "says"), [(2, 9, False), (3, 3, True), (3, 60, False), (3, 59, True)]
)
def test_lost_answers_are_said_above_a_share_and_a_number(told, lost, of, says):
    tells.Watch().count(lost, of)
    found = warnings(told)
    assert [f"lost {lost} of {of}" in text for text in found] == [True] * says


def followed(tmp_path, monkeypatch, lines, **console):
    """What a console got of a notebook that told these lines."""
    monkeypatch.setattr(live, "LOOK", 0.02)
    out = StringIO()
    with live.StageLine("05_grpo", tmp_path, Console(file=out, **console)) as line:
        for told in lines:
            with line.told.open("a") as file:
                file.write(told if isinstance(told, str) else json.dumps(told) + "\n")
            time.sleep(0.1)
        print("said\r\x1b[2J", file=line)
    return out.getvalue()


def test_without_a_terminal_there_are_plain_lines_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "PLAIN", 0.05)
    bar = STATE | {"started": time.time() - 140}
    lines = [{"bar": bar}, {"warning": "the form collapses " * 9}, '{"torn\n', {"bar": None}]
    out = followed(tmp_path, monkeypatch, lines)
    assert "05_grpo 00:00 GRPO steps 7/20, 20.00s/it, 04:20 left, reward=0.50\n" in out
    assert out.count("05_grpo warning: the form collapses") == 1
    assert "\x1b" not in out and "\r" not in out
    assert out.endswith("05_grpo 00:00\n"), "the bar has ended"


def test_a_full_disk_does_not_end_a_notebook_by_its_log(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/05_grpo.out").symlink_to("/dev/full")
    assert followed(tmp_path, monkeypatch, [{"warning": "hot"}]).endswith("warning: hot\n")


def test_without_a_terminal_a_short_notebook_has_one_line(tmp_path, monkeypatch):
    out = followed(tmp_path, monkeypatch, [{"bar": STATE | {"started": time.time()}}])
    assert out.split() == ["05_grpo", "..."]


def test_what_a_model_wrote_does_not_control_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "PLAIN", 0.05)
    hostile = STATE | {"prefix": "\x1b[2J [red]model\x9b[/red]", "started": 0.0}
    out = followed(tmp_path, monkeypatch, [{"bar": hostile}, {"warning": "\x1b]0;title\x07"}])
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out) and "[red]model" in out
    assert (tmp_path / "logs/05_grpo.out").read_text() == "said\n?[2J\n"


def in_terminal(tmp_path, code, columns=60, stop="", **environment):
    """(what a terminal of so many columns got, exit code) of a run of one cell.

    Ctrl-C is pressed as soon as the terminal shows `stop`.
    """
    main, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {
        "TERM": "xterm",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    script = ROOT / "tests/fakes/notebook_run.py"
    child = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), code],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(side)
    seen = b""
    pressed = not stop
    until = time.monotonic() + 200
    while time.monotonic() < until:
        if select.select([main], [], [], 0.2)[0]:
            try:
                seen += os.read(main, 65536)
            except OSError:
                break
        if not pressed and re.search(stop, CONTROL.sub("", seen.decode(errors="ignore"))):
            pressed = True
            os.write(main, b"\x03")
    code = child.wait(60)
    os.close(main)
    return seen.decode(), code


BUSY = """
import time
from kit.core.tells import progress, warn_at_once
bar = progress(total=40, desc="seeds of a stage with a rather long name")
for step in range({steps}):
    bar.update()
    bar.set_postfix({{"valid": step, "invalid": 0}}, refresh=False)
    if step == 2:
        warn_at_once("dead groups")
    time.sleep(0.7)
print("the end")
"""


def rows(text):
    """What stood in the rows of the terminal, one after the other."""
    return [row for row in re.split(r"[\r\n]+", CONTROL.sub("", text)) if row.strip()]


@pytest.mark.notebook
def test_a_terminal_of_60_columns_has_one_line_that_fits(tmp_path):
    text, code = in_terminal(tmp_path, BUSY.format(steps=6))
    shown = rows(text)
    assert code == 0, text
    moving = [row for row in shown if re.match(r"02_rounds \d\d:\d\d seeds of a", row)]
    assert len(moving) > 3 and max(map(len, moving)) <= 60 and "…" in moving[-1]
    assert [row for row in shown if row.startswith("02_rounds warning: dead groups")]
    assert [row for row in shown if re.match(r"02_rounds +\d+ s", row)]
    assert not [row for row in shown if "the end" in row], "that stands in the log"
    assert "the end" in (tmp_path / "run/logs/02_rounds.out").read_text()


STUBBORN = """
import time
from kit.core.tells import progress
bar = progress(total=40, desc="deaf")
while True:
    try:
        time.sleep(99)
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("code", "stop"),
    [(BUSY.format(steps=99), r"seeds of a stage"), (STUBBORN, "deaf"), ("1", r"02_rounds 00:00")],
    ids=["at work", "deaf", "at the start"],
)
def test_ctrl_c_ends_the_line_and_says_how_to_go_on(tmp_path, code, stop):
    text, ended = in_terminal(tmp_path, code, stop=stop)
    assert ended == 130, text
    last = " ".join(rows(text[text.index("^C") :]))
    assert "the same command goes on from here" in last
    # A kernel that is stopped while it imports may still print its own traceback.
    assert code == "1" or ("Traceback" not in text and "ERROR" not in text)
    # The cursor is there again, and the line is gone.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert not rows(text)[-1].startswith("02_rounds")
