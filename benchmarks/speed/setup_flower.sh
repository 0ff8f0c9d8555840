#!/bin/sh
# Set up benchmarks/runs/flower-env, where flower_engine.py runs Flower. A second call does nothing unless
# flower-requirements.txt has changed. Another Python: PYTHON=python3.12 sh benchmarks/speed/setup_flower.sh
set -eu
cd "$(dirname "$0")"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pins=flower-requirements.txt
home=../runs/flower-env
python=$home/bin/python

if [ -x "$python" ] && cmp -s "$pins" "$home/ready.txt"; then
  exit 0
fi
mkdir -p ../runs
"$python" -m pip --version >/dev/null 2>&1 || "${PYTHON:-python3}" -m venv --clear "$home"
echo 'Setting up Flower: torch first, the largest part by far ...' >&2
"$python" -m pip install --quiet --constraint "$pins" torch
# The list is complete: with no dependencies looked up, nothing can replace that torch.
echo 'Setting up Flower: its engine and what fedmend imports ...' >&2
"$python" -m pip install --quiet --no-deps --requirement "$pins"
"$python" -m pip check >/dev/null
"$python" -c 'import sys; sys.path.insert(0, "../../src"); import flower_apps'
cp "$pins" "$home/ready.txt"
