#!/bin/sh
# Judge the default detector on the test split, most decisive first; a killed run goes on where it was.
#   PYTHON=.venv/bin/python WORKERS=2 sh benchmarks/zoo/judge.sh
# Run `evaluate.py --split dev` and `calibrate.py` before it, once the detector's settings are chosen.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
zoo=benchmarks/zoo
show() {
  "$python" $zoo/calibrate.py >/dev/null
  "$python" $zoo/figures.py
  "$python" benchmarks/results.py --write | grep '^zoo:'
}
scan() {
  "$python" $zoo/evaluate.py --split test --workers "${WORKERS:-1}" "$@"
  show
}
some=${MOST:-60} # models for what is expensive, spread over cells and families

scan
scan --both
scan --most "$some" --seeds 10
scan --effort quick
scan --most "$some" --method contrastive-paper
for part in without_contrast without_swap without_aim without_shortlist with_ssim; do
  scan --most "$some" --method "ablations:$part"
done
scan --most "$some" --effort exhaustive
sh benchmarks/speed/setup_yardstick.sh
"$python" $zoo/yardstick.py turns # times: nothing else should run
"$python" $zoo/yardstick.py sample
scan --seeds 10
