#!/usr/bin/env bash
# Install this checkout into the environment, with the versions that it was tested with.
# rules/common.smk sets SPINESEG_SOURCE to the checkout.
set -euo pipefail
python -m pip install --extra-index-url https://download.pytorch.org/whl/cpu \
    -c "${SPINESEG_SOURCE:?}/constraints.txt" "$SPINESEG_SOURCE"
