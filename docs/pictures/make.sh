#!/usr/bin/env bash
# Draws the pictures of README.md: `make pictures`.
#
#     docs/pictures/make.sh [PYTHON]      default .venv/bin/python
#
# report.svg       runs the demo with the heapkeeper of that Python (`make build`) and renders its JSON as the terminal would
#                  show it. Figures and the pid differ a little from run to run.
# flame.png        flame graphs of a made-up service (tests/flame/generated.py), as Chromium shows them; without one on PATH
# difference.png   they stay as they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

PYTHONPATH='' "$python" -m heapkeeper run --json examples/leaky_service.py 2>"$scratch/status" >/dev/null
cargo run --quiet --package heapkeeper-analysis --example show -- \
	--svg --command 'heapkeeper run examples/leaky_service.py' 110 <"$scratch/status" >docs/pictures/report.svg

browser=$(command -v chromium chromium-browser google-chrome | head -n 1 || true)
if [ -z "$browser" ]; then
	echo 'no Chromium on PATH: flame.png and difference.png stay as they are' >&2
	exit
fi
options=(--headless --hide-scrollbars --force-device-scale-factor=1.5 --window-size=1280,380)
# Chromium's sandbox does not work for root.
[ "$(id -u)" != 0 ] || options+=(--no-sandbox)
for picture in flame difference; do
	"$python" tests/flame/generated.py "$picture" >"$scratch/stacks"
	cargo run --quiet --package heapkeeper-analysis --example flame <"$scratch/stacks" >"$scratch/$picture.html"
	"$browser" "${options[@]}" --screenshot="docs/pictures/$picture.png" "file://$scratch/$picture.html" 2>/dev/null
done
