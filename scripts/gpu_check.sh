#!/bin/sh
# Run gpu_check.py on a bare machine: python3 with torch, numpy, scipy, scikit-learn, pandas and pydantic, no network.
#
#   scripts/gpu_check.sh --wheels FOLDER [VERSION]   with network: fetch what else is needed as wheels, for Linux on x86-64
#                                                    and this Python VERSION (default: python3's own, such as 3.12)
#   scripts/gpu_check.sh --with FOLDER [OPTIONS]     on the machine: run the check with these wheels
#   scripts/gpu_check.sh [OPTIONS]                   where all packages are there
#
# OPTIONS are those of gpu_check.py. Results go to --out, or to the folder $OUT, or to out/gpu_check.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
needed="pyarrow>=17 safetensors>=0.4.5 ruamel.yaml>=0.18"

if [ "${1:-}" = --wheels ]; then
    folder=${2:?--wheels needs a folder}
    version=${3:-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
    # shellcheck disable=SC2086  # words of a list
    exec "$python" -m pip download --quiet --no-deps --only-binary :all: --python-version "$version" \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform any --dest "$folder" $needed
fi

path=$root/src
if [ "${1:-}" = --with ]; then
    wheels=${2:?--with needs a folder of wheels}
    shift 2
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    for wheel in "$wheels"/*.whl; do
        "$python" -m zipfile -e "$wheel" "$unpacked" # all that pip would do for these, where there may be no pip
    done
    path=$path:$unpacked
fi
export PYTHONPATH="$path${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'import pyarrow, ruamel.yaml, safetensors' || {
    echo "error: fetch what is missing with \`scripts/gpu_check.sh --wheels FOLDER\` where there is a network," \
        "carry the folder here and run \`scripts/gpu_check.sh --with FOLDER\`" >&2
    exit 1
}
"$python" "$root/scripts/gpu_check.py" "$@"
