#!/usr/bin/env bash
# Draws docs/pictures/report.svg, the report in README.md: runs the demo with the heapkeeper of .venv (`make build`) and
# renders its JSON as the terminal would show it. Figures and the pid differ a little from run to run.
#
#     docs/pictures/make.sh [PYTHON]      default .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-.venv/bin/python}
status=$(mktemp)
trap 'rm -f "$status"' EXIT

PYTHONPATH='' "$python" -m heapkeeper run --json examples/leaky_service.py 2>"$status" >/dev/null
cargo run --quiet --package heapkeeper-analysis --example show -- \
	--svg --command 'heapkeeper run examples/leaky_service.py' 110 <"$status" >docs/pictures/report.svg
