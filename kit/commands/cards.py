"""The texts of the cards that go with recorded data and exports."""

DATASET_CARD = """---
license: {licence}
pretty_name: {title}
language: [en]
task_categories: [text-generation]
tags: [code, reinforcement-learning, rlvr, grpo, synthetic]
configs:
- config_name: default
  data_files:
{files}
---
# {title}

Problems for reinforcement learning of code with verifiable rewards, after "A Deep Dive into \
Scaling RL for Code Generation with Synthetic
Data and Curricula" (arXiv 2603.24202); the method at a smaller scale, not the paper's data. \
Written by `python -m kit export`.

{counts}

**Grading needs the sandbox.** An answer is a program, or the input that a program is run on: \
`kit.grading.grade(row, answer)` runs it in
`kit/sandbox/pool.py` and says passed, failed, or error, which is ours and no reward. Never `exec` \
an answer, and run the programs nowhere else.

| field | what |
|---|---|
{fields}

{made}

**Licences.** Problems were written by {teacher}; where `method` is real, they are functions of \
reasoning-gym (Apache-2.0) as they are. Seeds
that they grew from, by licence: {seeds}.
"""

# The tables that are shipped, and what one row of each is.
WHAT_A_ROW_IS = {
    "seeds": "a snippet",
    "problems": "a problem of a turn, valid or not",
    "filtered": "the same, kept or why not",
    "yields": "kept shares of multi- and single-turn",
    "difficulty": "a graded problem and its bin",
    "plan": "a prompt of the training",
    "train": "a step of GRPO",
    "evaluation": "a problem and a checkpoint",
    "summary": "a set and a pass@k",
    "difference": "a set, before to after",
    "form": "the same, form apart from skill",
}

RUN_CARD = """---
license: apache-2.0
pretty_name: One recorded run of the kit, profile {profile[name]}
---
# A recorded run, profile `{profile[name]}`

Made by `{command}` and copied by `python -m kit record RUN`, seed {profile[seed]}, kit \
{versions[kit]}.
Every notebook can start from these files; whatever it draws from them says so in its title.

| file | rows | what one row is |
|---|---|---|
{files}

`teachers.parquet` is `kit.teacher.teacher_quality` of other runs: `prompts` is "first" for the \
same profile at kit e337266, whose prompts asked for
"a property" and "a harder function" without saying what (notebook 02 draws it in grey), and "now" \
for the 0.5B model as its own teacher with
the present ones: a profile with `base: cpu`, `teacher: {{model: qwen2.5-coder-0.5b-instruct}}`, \
`seeds: {{wild: 16, real: 12, problems: 0}}`,
no baseline and no stones.

`completions.parquet` holds every answer of teacher and student under a hash of model, prompt and \
sampling: notebook 02 with
`REPLAY = True` runs on it without a model, from the recorded seeds.

**How.** Teacher {profile[teacher][model]} and student {profile[student][model]} \
({profile[rounds][attempts]} attempts, {profile[rounds][turns]} turns), policy \
{profile[grpo][policy]}, on two CPU cores. Minutes per
notebook, of its last part where it was stopped and went on: {minutes}. Versions: {packages}.

**Where the text comes from.** Seeds: source code of installed packages (column `licence` says \
whose) and CodeI/O functions of
reasoning-gym (Apache-2.0). Problems and answers were written by the models above (Apache-2.0). \
All programs were run in the sandbox only;
they are model-written and may be wrong or odd: run them nowhere else. `chain_id` and `parent_id` \
give a problem's ancestry; `p` is
`solved / n`; attempts lost to our own infrastructure are in `errors`, never in `n`.

**Limits.** A 1.5B teacher and a 0.5B student: the data shows how the method works, it does not \
test the paper's claims at their scale.
"""

MINI_CARD = """# A recorded run in miniature, profile `{profile[name]}`

Made by `{command}` and copied by `python -m kit record RUN`, seed {profile[seed]}, kit \
{versions[kit]}. Notebooks of
this profile start from these files where a run has none of its own, and whatever they draw from \
them says so in its title.

| file | rows | what one row is |
|---|---|---|
{files}

`rollouts.parquet`, where it is there: an answer of the training.

The teacher is a script and the policy has 0.8 million parameters (`data/mini`): the data show how \
the method works. Programs and
answers were run in the sandbox only. Minutes per notebook: {minutes}. Versions: {packages}.
"""

GALLERY = """# What the recorded run drew

Made by `python -m kit record RUN` ([the run](../data/recorded/README.md)). Each figure lies \
beside the numbers in it, and its title says what was found, with n; the colours of the
four environments and of the bins, from light to dark, are the same everywhere. A command draws \
its figure anew into `RUN/figures`: what `RUN`
does not have comes from `data/recorded`, and the title then says so. Those of 02 and 05 \
run models (06 too if RUN has a policy), and models do not answer alike twice.

`report/` shows the page in which a `make run` ended, as a browser on a desk and one on a phone \
draw it:

```bash
chromium --headless --hide-scrollbars --window-size=1200,1250 --screenshot=figures/report/wide.png \
runs/cpu/report.html
chromium --headless --hide-scrollbars --window-size=390,1250 \
--blink-settings=preferredColorScheme=0 \\
    --screenshot=figures/report/phone.png runs/cpu/report.html
```
"""

STUDY_CARD = """# A recorded study, profile `{profile[name]}`

Made by `python -m kit {kind} --profile {profile[name]} --arms {arms} --seeds {seeds} --out STUDY` \
and copied by
`python -m kit record STUDY`, kit {kit}; notebook {notebook} reads it.

`scores.parquet`: a row per arm, seed, checkpoint and problem (n samples, how many solved, the \
greedy answer, the problem's bin). `curves.parquet`: a
step of a training. `drawn.parquet`: how many prompts and different problems an arm's plan draws, \
per bin. `rollouts.parquet`, where it is there: a
training's answers by environment and bin, counted over ten steps. `segments.parquet`, of loops: a \
segment of a training, see `kit.loop_findings.segment_table`.

Finished trainings: {counts}.

Policy {profile[grpo][policy]}, {profile[grpo][steps]} steps of {profile[grpo][prompts_per_step]} \
prompts and {profile[grpo][group_size]} rollouts each, learning rate \
{profile[grpo][learning_rate]}. Minutes of a run, median of {runs} (longer
where several ran at once): 05 {train:.1f}, 06 {evaluate:.1f}. Versions: {packages}.
"""
