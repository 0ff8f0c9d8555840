#!/bin/sh
# The contrastive paper's CIFAR-10 and GTSRB cells with its full networks, on a GPU that is lent for minutes.
#   sh benchmarks/paper_a/gpu.sh cifar10                          # or gtsrb: one dataset a lease
#   DRY=1 sh benchmarks/paper_a/gpu.sh cifar10                    # a tiny setting on the CPU, to try the script
# It ends within MINUTES (9) of wall time. STATE is where it goes on from, OUT where its results go: models.jsonl,
# times.jsonl, log.txt and the trunk's weights in pieces of 15 MiB, under 60 MiB in all. For another lease, copy OUT to STATE.
# FEDMEND_DATA is the folder with the datasets, PYTHON the interpreter, COMMIT what is measured where git isn't at hand.
set -eu
cd "$(dirname "$0")/../.."
dataset=$1
state=${STATE:-benchmarks/runs/paper_a/gpu/$dataset}
out=${OUT:-$state}
work=$(mktemp -d)
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PAPER_A_RUNS="$work/runs" PYTHONUNBUFFERED=1
mkdir -p "$state" "$out" "$work/state"
for file in models.jsonl times.jsonl; do
  [ ! -f "$state/$file" ] || cp "$state/$file" "$work/state/"
done
[ ! -f "$state/trunk.aa" ] || cat "$state"/trunk.a? >"$work/state/trunk.safetensors"

save() {
  for file in models.jsonl times.jsonl; do
    [ ! -f "$work/state/$file" ] || cp "$work/state/$file" "$out/"
  done
  [ ! -f "$work/state/trunk.safetensors" ] || split -b 15M "$work/state/trunk.safetensors" "$out/trunk."
}
trap 'save; rm -rf "$work"' EXIT
if [ -n "${DRY:-}" ]; then
  set -- --tiny --device cpu --most "${MOST:-2}"
else
  set -- --device cuda
fi
status=0
"${PYTHON:-python3}" benchmarks/paper_a/gpu.py "$dataset" --state "$work/state" --minutes "${MINUTES:-9}" "$@" \
  >"$out/log.txt" 2>&1 || status=$?
cat "$out/log.txt"
exit $status
