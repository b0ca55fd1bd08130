#!/usr/bin/env bash
# look.py on a machine without a network: one call sets it up from the carried wheels and does the steps.
#   bash tests/gpu/run.sh --out RESULTS --work runs/gpu --minutes 9      (the options are look.py's)
# WHEELS: the folder of wheels.sh. SITE: where they are installed, once.
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=${WHEELS:-.wheels}
site=${SITE:-/tmp/kit-site}
if [ ! -e "$site/complete" ]; then
    python3 -m pip install --quiet --no-index --no-deps --target "$site" "$wheels"/*.whl
    python3 -m pip install --quiet --no-index --no-deps --no-build-isolation --target "$site" "$wheels"/*.tar.gz
    touch "$site/complete"
fi
export PYTHONPATH=$site:$PWD JUPYTER_PATH=$site/share/jupyter
exec python3 tests/gpu/look.py "$@"
