"""What `python -m kit run --help` ends in: the parameters of the notebooks, read from them."""

from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand


class RunUsage(TyperCommand):
    """A command whose help lists what `-p` can set, notebook by notebook."""

    def format_help(self, ctx, formatter) -> None:
        """Print the usual help, then the parameters that a notebook does not share with all."""
        from kit.commands import runner

        super().format_help(ctx, formatter)
        known = {notebook.stem: runner.parameters_of(notebook) for notebook in runner.notebooks()}
        shared = set.intersection(*map(set, known.values()))
        table = Table("notebook", "-p NAME=VALUE", "where its value comes from")
        for stem, parameters in known.items():
            for name in filter(lambda name: name not in shared, parameters):
                table.add_row(stem, name, parameters[name])
        console = Console()
        console.print(table)
        console.print("Each notebook also has SEED. A value that a profile may hold: kit/profiles.")
