"""`python -m kit`: the commands are in kit/commands/cli.py."""

import sys

try:
    from kit.commands.cli import main
except ModuleNotFoundError as missing:
    fix = "pip install -c constraints.txt -e '.[cpu]' (or '.[gpu]') in the kit's folder"
    sys.exit(f"error: {missing.name} is not installed; the commands need it: {fix}")

if __name__ == "__main__":
    main()
