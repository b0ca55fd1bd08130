"""Several studies as one: own arms beside the recorded ones, the runs of a class on one board."""

import filecmp
import json
import shutil
from pathlib import Path

import pandas as pd

from kit.arms import (
    NEEDED,
    arm_facts,
    collect_study,
    finished_runs,
    recorded_folder,
    recorded_study,
    study_scale,
)
from kit.core import records
from kit.core.manifest import ROOT, RunError, changed_keys, read_manifest
from kit.core.run import LABEL, Run


def read_study(run: Run, folder: str | Path = "") -> tuple[dict[str, pd.DataFrame], str]:
    """The tables of a study, and what a figure's title says of them.

    Where the folder has no finished run these are the recorded ones; the run then notes that.

    Args:
        run: of stage 07.
        folder: of the study; empty: `runs/study-<profile>`. Several stand with commas between them;
            `recorded` is the recorded study of the run's scale.
    Returns:
        `scores`, `curves` and `drawn` as `collect_study` gives them, without rows if nothing is
        recorded either; and a label, for own data the study's scale.
    Raises:
        RunError: a folder that does not exist, several studies that cannot be compared, or the same
            arm and seed in two of them.
    Source: our choice.
    """
    given = str(folder or ROOT / "runs" / f"study-{run.profile.name}")
    names = [name.strip() for name in given.split(",")]
    # A notebook lies one folder below the kit's.
    paths = [Path(name) for name in names if name != "recorded"]
    paths = [path if path.exists() else ROOT / path for path in paths]
    missing = [str(path) for path in paths if folder and not path.exists()]
    if missing:
        raise RunError(f"there is no study in {', '.join(missing)}: look at STUDY")
    own = [tables for tables in map(collect_study, paths) if len(tables["scores"])]
    scale = run.scale or next(filter(None, map(study_scale, paths)), "")
    if own and "recorded" not in names:
        return _joined(own), scale
    shipped = recorded_study(recorded_folder(scale))
    if shipped is None:
        if own:
            raise RunError("no study of this scale is recorded: leave `recorded` out of STUDY")
        return collect_study(recorded_folder(scale)), scale
    if not own:
        print("recorded data: no finished run of one's own, so the study is that of data/recorded")
    run.recorded.add("study")
    return _joined([*own, shipped]), scale + LABEL


def _joined(studies):
    """The tables of several studies as those of one; RunError where they cannot be compared."""
    steps = {s["curves"].step.max() for s in studies}
    # One may ask more problems than another: arms are compared on those that both answered.
    asked = sorted((set(s["scores"].problem_id) for s in studies), key=len)
    nested = all(map(set.issubset, asked, asked[1:]))
    if len(steps) > 1 or not nested:
        told = "problems of one that the others did not ask"
        if len(steps) > 1:
            told = " against ".join(f"{k} steps" for k in sorted(steps))
        raise RunError(f"these studies cannot be compared: {told}. Train with the same profile")
    runs = pd.concat([s["curves"][["arm", "seed"]].drop_duplicates() for s in studies])
    if len(twice := runs[runs.duplicated()]):
        told = ", ".join(f"{row.arm}/{row.seed}" for row in twice.itertuples())
        raise RunError(f"in two of the studies: {told}. Leave one of them out")
    return {
        name: pd.concat([s[name] for s in studies if name in s], ignore_index=True)
        for name in studies[0]
    }


def with_recorded(tables: dict[str, pd.DataFrame], folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a study, and those of the recorded runs that it does not have.

    So a study grows over several days and machines.

    Args:
        tables: of `collect_study`, and others with columns `arm` and `seed`.
        folder: where a study of its scale is recorded, or will be.
    Returns:
        The tables.
    Raises:
        RunError: the two cannot be compared.
    Source: our choice.
    """
    new = {*zip(tables["curves"].arm, tables["curves"].seed)}
    old = {}
    for name in tables:
        if (path := folder / f"{name}.parquet").exists():
            table = records.read_parquet(path)
            old[name] = table[[pair not in new for pair in zip(table.arm, table.seed)]]
    return _joined([tables, old]) if len(old.get("curves", ())) else tables


def _read_facts(run):
    """What must be the same: in runs of one arm; in all runs of a pool."""
    try:
        facts = arm_facts(run)
        arm = {key: facts[key] for key in facts if key not in ("arm", "seed", "plan", "problems")}
        made = read_manifest(run)
        numbers = made["profile"]
        for stage in made["stages"].values():
            numbers |= {k: v for k, v in stage.get("overrides", {}).items() if k != "grpo.seed"}
        # A control differs from the study's profile in these, and its arm says so.
        for key in ("reward", "advantage"):
            numbers["grpo"].pop(key, None)
        return facts, arm | {"from": ""}, {"profile": numbers, "data": facts["data"]}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run} is no run of a study: its arm.json says {error!r}") from None


def pool_studies(folders: list[Path], out: Path) -> pd.DataFrame:
    """Copy the finished runs of several study folders, say of a class, into one.

    An arm has the name of its folder, so a name that two people chose is changed by renaming one.
    Nothing is copied if two runs clash.

    Args:
        folders: of `kit study`.
        out: a study folder, which notebook 07 reads; what an earlier call put there stays.
    Returns:
        A row per run: `from` (the folder that brought it), `arm`, `seed`.
    Raises:
        RunError: a folder has no finished run, or runs clash: other problems, another profile, two
            arms of one name, the same arm and seed with other results.
    Source: our choice.
    """
    pooled: dict[tuple[str, int], tuple[Path, dict]] = {}
    # What all runs have in common, and those of an arm, with the run that said it first.
    noted: dict[str, tuple[Path, dict]] = {}
    for folder in (*[out] * out.exists(), *folders):
        runs = finished_runs(folder)
        if not runs and folder != out:
            raise RunError(f"{folder} has no finished run of a study")
        for run in runs:
            facts, arm, study = _read_facts(run)
            name, seed = run.parent.name, int(facts["seed"])
            for key, own, clash in (
                ("", study, "have other problems or another profile"),
                (name, arm, f"are two arms of one name, so rename the folder {run.parent}"),
            ):
                other, known = noted.setdefault(key, (run, own))
                if changed := changed_keys(known, own):
                    raise RunError(f"{run} and {other} {clash} ({changed})")
            other, _ = pooled.setdefault((name, seed), (run, facts))
            if not filecmp.cmp(other / "evaluation.parquet", run / "evaluation.parquet", False):
                raise RunError(
                    f"{run} and {other} are the same arm and seed with other results: "
                    "leave one of them out"
                )
            facts |= {"arm": name, "from": facts.get("from", str(folder))}
    # Only now write; the note comes last, so a folder that has it is whole.
    for (name, seed), (run, facts) in pooled.items():
        place = out / name / str(seed)
        if run != place:
            place.mkdir(parents=True, exist_ok=True)
            for file in NEEDED:
                shutil.copyfile(run / file, place / file)
            (place / "arm.json").write_text(json.dumps(facts, indent=1))
    return pd.DataFrame([facts for _, facts in pooled.values()])[["from", "arm", "seed"]]
