#!/usr/bin/env bash
# Install this checkout into the environment, with the versions that it was tested with.
set -euo pipefail
# the workflow writes the checkout's folder here
source=@SOURCE@
python -m pip install --extra-index-url https://download.pytorch.org/whl/cpu \
    -c "$source/constraints.txt" "$source"
