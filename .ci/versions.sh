#!/usr/bin/env bash
# Run the unit tests with other versions than the pinned ones: .ci/versions.sh lowest-direct | highest [TEST ...]
# uv reads the bounds from pyproject.toml: lowest-direct takes the oldest that each line allows, highest the newest. It is installed
# here, beside the environment that it makes for PYTHON (default python3). About 7 GB, gone at the end; its downloads stay in uv's cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
resolution=${1:?"expected lowest-direct or highest"}
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/tools"
"$folder/tools/bin/pip" install -q uv
uv() { "$folder/tools/bin/uv" "$@"; }
uv venv -q --seed --python "${PYTHON:-python3}" "$folder/venv"
# compiled once, not by each process of the tests
uv pip install -q --compile-bytecode --python "$folder/venv/bin/python" --resolution "$resolution" -e ".[book,dev]"
uv pip list -q --python "$folder/venv/bin/python"
export OMP_NUM_THREADS=1 KERAS_BACKEND=torch
# what compares with the pinned versions is not asked here
"$folder/venv/bin/python" -m pytest -q -n 2 --deselect tests/unit/test_packaging.py::test_the_installed_versions_are_the_pinned_ones "${@:-tests/unit}"
