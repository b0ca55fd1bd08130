"""`python -m kit`: the commands are in kit/commands/cli.py."""

from kit.commands.cli import main

if __name__ == "__main__":
    main()
