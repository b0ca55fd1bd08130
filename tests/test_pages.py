"""The pages: README.md is short, every link leads somewhere, commands and numbers are what is."""

import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from kit import findings
from kit.commands import cli, options, pages, runner
from kit.core.manifest import RECORDED
from kit.loop_findings import LOOP_CLAIMS
from tests.house import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
).stdout.split() or [path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/README.md")]
PAGES = [name for name in FILES if "/prompts/" not in name]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(name: str, text: str) -> list[str]:
    """The links of a page that lead to no file, or to no heading of it."""
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists():
            wrong.append(link)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name):
    assert broken(name, (ROOT / name).read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_seen():
    text = "## One two\n[a](nothing.md) [b](README.md) [c](#one-two) [d](README.md#no-such-part)"
    assert broken("TROUBLESHOOTING.md", text) == [
        "nothing.md",
        "#one-two",
        "README.md#no-such-part",
    ]


def test_the_readme_takes_two_minutes():
    assert len(README) <= 9_000


def test_the_readme_has_every_notebook_and_every_page():
    assert re.findall(r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\)", README, re.M) == [
        notebook.stem for notebook in runner.notebooks()
    ]
    beside = [name for name in PAGES if re.fullmatch(r"kit/\w+/README\.md", name)]
    assert len(beside) >= 4 and [name for name in beside if f"({name})" not in README] == []


def test_what_is_said_of_the_loops_is_what_was_recorded():
    folder = RECORDED / "loop-mini"
    curves, scores, made = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("curves", "scores", "segments")
    )
    late = curves[curves.step > 225].groupby("arm")[["reward", "frac_reward_zero_std"]].mean()
    rewards, dead = late.reward, late.frac_reward_zero_std
    tough = scores[(scores.set == "synthetic") & scores.bin.isin(["medium", "hard"])]
    solved = (tough.solved / tough.n).groupby([tough.checkpoint, tough.arm]).mean()
    before, after = solved["before"], solved["after"]
    board = findings.board({"scores": scores, "curves": curves}, LOOP_CLAIMS)
    first = board[(board.claim == "F11a") & (board["mode"] == "sampled")]
    bill = made.groupby("arm")[["made", "kept", "again"]].sum()
    kept = bill.kept / bill.made
    again = (bill.again / made.groupby("arm").seed.nunique()).round()
    told, untold = kept["closed-loop"], kept["no-feedback"]
    assert set(board[board["mode"] == "sampled"].part) == {"undecided"}
    rest, results = dead.drop("frozen"), (ROOT / pages.PAGES[1]).read_text(encoding="utf-8")
    for text, page in (
        (f"{dead['closed-loop']:.0%} of the groups give no signal", README),
        (f"frozen problems {dead['frozen']:.0%}", README),
        (f"measured again: {dead['re-measured']:.0%}", README),
        (f"from {before.mean():.2f} to {after.min():.2f} or {after.max():.2f}", README),
        (f"at most {first.high.max():.3f} above any control", README),
        (f"{told:.0%} of its new problems pass the filters, {untold:.0%} untold", README),
        (f"{dead['frozen']:.2f} of the frozen plan's groups are dead", results),
        (f"pass rate is {rewards['frozen']:.2f}", results),
        (f"{rest.min():.2f} to {rest.max():.2f} and", results),
        (
            f"{told:.2f} of the closed loop's new problems pass the filters, {untold:.2f} of",
            results,
        ),
        (f"{again['closed-loop']:,.0f} a training in the closed loop", results),
        (f"{again['re-measured']:,.0f} in *re-measured*", results),
    ):
        assert text in page


@pytest.mark.parametrize("page", pages.PAGES)
def test_comments_around_numbers_come_in_pairs(page):
    marks = re.findall(r"<!-- (/?)(\w+)\b.*? -->", (ROOT / page).read_text(encoding="utf-8"))
    assert len(marks) >= 4
    assert [name for slash, name in marks if not slash] == [name for slash, name in marks if slash]


def test_the_readmes_targets_and_options_exist():
    targets = re.findall(r"^(\w+): setup", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"^make (\w+)", README, re.M)) <= set(targets)
    for command in re.findall(r"^python -m kit (.+?)(?: {2,}#.*)?$", README, re.M):
        name, *words = command.split()
        told = CliRunner().invoke(cli.app, [name, "--help"]).output
        assert [word for word in words if word.startswith("--") and word not in told] == []


def test_jupyterlab_opens_the_repository_on_the_first_notebook():
    (line,) = re.findall(r"^\t.*jupyter lab (.+)$", (ROOT / "Makefile").read_text(), re.M)
    first = runner.notebooks()[0].relative_to(ROOT)
    assert line == f"--ServerApp.root_dir=. --LabApp.default_url=/lab/tree/{first} $(ARGS)"


def test_the_help_of_run_lists_the_parameters_of_every_notebook():
    told = CliRunner().invoke(cli.app, ["run", "--help"], env={"COLUMNS": "160"}).output
    assert "--only" in told, "the usual help comes first"
    for notebook in runner.notebooks():
        for name, help_text in runner.parameters_of(notebook).items():
            assert name in ("PROFILE", "RUN_DIR") or name in told
            assert name in ("PROFILE", "RUN_DIR", "SEED") or help_text[:20] in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "-p", "TURNS"], "TURNS: write NAME=VALUE, for example TURNS=2"),
        (["study", "--seeds", "0..9"], "'0..9': write seeds as 0,1,2"),
        (["report", "nowhere"], "nowhere is no run folder: give one that `run` wrote"),
        (["run", "--profile", "cpuu"], "no profile 'cpuu'; there are cpu, "),
        (["run", "-p", "TURN=2"], "`python -m kit run --help` says what each one is"),
    ],
)
def test_a_first_error_says_how_to_mend_it(words, said):
    result = CliRunner().invoke(cli.app, words)
    told = re.sub(r"[\s│]+", " ", result.output) + str(result.exception)
    assert result.exit_code and said in told


def test_without_the_packages_the_command_says_how_to_set_up():
    bare = [sys.executable, "-S", "-m", "kit"]
    told = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True).stderr
    assert told.startswith("error: ") and told.count("\n") == 1 and "`make setup`" in told


def test_the_citations_name_the_paper_and_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{cited["version"]}"' in (ROOT / "pyproject.toml").read_text()
    (paper,) = cited["references"]
    assert paper["url"].endswith("2603.24202") and f"({paper['url']})" in README
    assert "(CITATION.cff)" in README
    names = [author["family-names"] for author in paper["authors"]]
    assert f"{', '.join(names[:-1])} and {names[-1]}" in README


def test_a_schedule_and_hours_stay_texts_among_values_of_yaml():
    one = '[[0, {"medium": 1}]]'
    asked = [f"SCHEDULE={one}", "time=24:00:00", "TURNS=2", "LEARNING_RATE=1.0e-5", "TRAIN=false"]
    assert [*options.given(asked).values()] == [one, "24:00:00", 2, 1e-5, False]
