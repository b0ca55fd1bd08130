"""kit: the plumbing behind the notebooks. `run = kit.start("02_rounds", PROFILE, RUN_DIR, SEED)` opens a run."""

from kit import check
from kit.run import Run, start

__all__ = ["Run", "check", "start"]
__version__ = "0.1.0"
