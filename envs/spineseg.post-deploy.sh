#!/usr/bin/env bash
# Install the package that the workflow runs with into the environment, with the versions that it was tested with.
set -euo pipefail
# the workflow writes what to install here: its checkout, or a wheel of the installed package
package=@PACKAGE@
constraints=@CONSTRAINTS@
python -m pip install --extra-index-url https://download.pytorch.org/whl/cpu \
    -c "$constraints" "$package[study,sct,onnx]"
