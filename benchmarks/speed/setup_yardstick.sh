#!/bin/sh
# Set up benchmarks/runs/yardstick-env, where yardstick.py runs TrojanZoo. A second call does nothing unless
# yardstick-requirements.txt has changed. Another Python: PYTHON=python3.12 sh benchmarks/speed/setup_yardstick.sh
set -eu
cd "$(dirname "$0")"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pins=yardstick-requirements.txt
home=../runs/yardstick-env
python=$home/bin/python

if [ -x "$python" ] && cmp -s "$pins" "$home/ready.txt"; then
  exit 0
fi
mkdir -p ../runs
"$python" -m pip --version >/dev/null 2>&1 || "${PYTHON:-python3}" -m venv --clear "$home"
echo 'Setting up the yardstick: torch first, the largest part by far ...' >&2
"$python" -m pip install --quiet --constraint "$pins" torch
# The list is complete: with no dependencies looked up, nothing can replace that torch.
echo 'Setting up the yardstick: TrojanZoo and what it imports ...' >&2
"$python" -m pip install --quiet --no-deps --requirement "$pins"
"$python" -m pip check >/dev/null
"$python" -c 'import peers'
cp "$pins" "$home/ready.txt"
