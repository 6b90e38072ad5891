#!/bin/sh
# Draw the picture of README.md: the quality-control page of the demo study, after `make demo`, by chromium.
#
#     sh benchmarks/draw_qc_page.sh [RESULTS]      default results/demo
set -eu
page=$(realpath "${1:-results/demo}/qc/index.html")
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1400,792 --virtual-time-budget=5000 \
    --screenshot=docs/images/qc.png "file://$page"
