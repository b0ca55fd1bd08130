"""kit: the plumbing behind the notebooks. `run = kit.start("02_rounds", PROFILE, RUN_DIR, SEED)` opens a run."""
import os

from kit import check
from kit.run import Run, start

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")     # TRL imports vLLM, which then talks into the notebook
__all__ = ["Run", "check", "start"]
__version__ = "0.1.0"
