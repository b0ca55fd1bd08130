"""`python -m kit`: the commands are in kit/commands/cli.py."""

import sys

try:
    from kit.commands.cli import main
except ModuleNotFoundError as missing:
    fix = "`make setup`, then `source .venv/bin/activate`, in the kit's folder"
    sys.exit(f"error: {missing.name} is not installed in this Python. Run {fix}")

if __name__ == "__main__":
    main()
