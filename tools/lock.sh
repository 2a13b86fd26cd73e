#!/usr/bin/env bash
# Writes the lock files in requirements/ from pyproject.toml. Run it with `make lock`.
#
# - Every file pins exact versions with the hashes of all their wheels and sdists, for Linux and each Python that
#   the project supports; no file names an index host.
# - dev.txt is resolved first and is the whole; the others are parts of it, so that no two files disagree.
# - `make lock UPGRADE=1` moves to the newest versions; without it, versions move only where they must.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

compile() {
    local output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate --output-file "requirements/$output" "$@"
    echo "requirements/$output: $(grep -c == "requirements/$output") packages"
}

mkdir -p requirements
compile dev.txt pyproject.toml --extra agent --group build --group test --group check ${UPGRADE:+--upgrade}
compile agent.txt pyproject.toml --extra agent --constraint requirements/dev.txt
compile run.txt pyproject.toml --extra agent --group build --constraint requirements/dev.txt
compile test.txt pyproject.toml --extra agent --group build --group test --constraint requirements/dev.txt
