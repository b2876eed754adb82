# Shared by the scripts beside it; sourced, not run.

say() { printf '==> %s\n' "$*"; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# CI sets GRIDPOSE_VENV to test an environment of its own, with the built wheel in it.
venv="${GRIDPOSE_VENV:-$root/.venv}"

set_up() {
    if [[ -z "${GRIDPOSE_VENV:-}" ]]; then "$root/scripts/setup"; fi
}

# The first Python that gridpose supports: $PYTHON, else 3.11, 3.12, 3.13, 3.10, python3.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.10 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "error: gridpose needs Python 3.10 to 3.13; set PYTHON to one" >&2
    return 4
}
