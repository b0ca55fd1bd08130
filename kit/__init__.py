"""kit: the plumbing behind the notebooks. `run = kit.start("02_rounds", PROFILE, RUN_DIR, SEED)` opens a run."""
from kit.run import Run, start

__all__ = ["Run", "start"]
__version__ = "0.1.0"
