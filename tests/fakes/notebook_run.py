"""Runs one small notebook as `python -m kit run` does. Arguments: a folder, the cell's code."""

import sys
from pathlib import Path

import nbformat

from kit.commands import cli, runner

folder, code = Path(sys.argv[1]), sys.argv[2]
cells = [nbformat.v4.new_code_cell(code)]
notebook = nbformat.v4.new_notebook(cells=cells)
notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
nbformat.write(notebook, folder / "02_rounds.ipynb")
runner.NOTEBOOKS = folder
sys.argv = ["kit", "run", "--profile", "smoke", "--out", str(folder / "run"), "--only", "02"]
cli.main()
