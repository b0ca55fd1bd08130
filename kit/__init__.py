"""kit: the code behind the notebooks.

`run = kit.start("02_rounds", PROFILE, RUN_DIR, SEED)` opens a run.

Nothing heavy is imported here, so that `import kit.grading` stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.core.run import Run

__version__ = "0.1.0"


def start(
    stage: str,
    profile: str = "cpu",
    run_dir: str = "",
    seed: int | None = None,
    replay: bool = False,
    **overrides: Any,
) -> "Run":
    """Open a stage of a run: the first call of every notebook.

    Also sets the style of the figures and quiets the progress bars of the library `datasets`.

    Args:
        stage: name of the notebook, for example `02_rounds`.
        profile: a name in kit/profiles, or the path of a YAML file.
        run_dir: the folder; empty: `runs/<profile>`.
        seed: of everything that is drawn; None: the profile's.
        replay: teacher and student answer from `data/recorded`.
        overrides: of the profile, as `rounds__turns=2`; None keeps the profile's value.
    Returns:
        The run, noted in the folder's manifest.
    Raises:
        ProfileError: the profile or an override is wrong.
        RunError: the folder was made with other values.
    Source: our choice.
    """
    from kit.core.run import open_run
    from kit.display import figures

    figures.style()
    return open_run(stage, profile, run_dir, seed, replay, **overrides)


def __getattr__(name: str) -> Any:
    """`kit.exercises`: imported when a notebook first asks for it."""
    if name == "exercises":
        return importlib.import_module("kit.display.exercises")
    raise AttributeError(f"module 'kit' has no attribute {name!r}")
