#!/bin/sh
# Set up benchmarks/runs/art-env, where run_art.py runs IBM's Adversarial Robustness Toolbox. A second call does nothing.
set -eu
cd "$(dirname "$0")"
export PIP_DISABLE_PIP_VERSION_CHECK=1
home=../runs/art-env
if [ -e "$home/ready" ]; then
  exit 0
fi
mkdir -p ../runs
"${PYTHON:-python3}" -m venv --clear "$home"
"$home/bin/pip" install --quiet --constraint ../../constraints.txt torch
"$home/bin/pip" install --quiet --constraint ../../constraints.txt adversarial-robustness-toolbox==1.20.1 packaging \
  pydantic pyarrow safetensors
touch "$home/ready"
