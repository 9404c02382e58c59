# shellcheck shell=sh disable=SC2154
# Sourced, with $root set: the virtual environment of this checkout.

# need_venv EXTRA...: see that .venv holds codexd as it is now, with these extras.
need_venv() {
    update_venv "$@"
    keep_byte_code
}

update_venv() {
    want="$root $(cksum <"$root/pyproject.toml")"
    # Homebrew takes a Python away when it has a newer one.
    if ! runs; then
        make_venv "$@"
        return
    fi
    for extra in "$@"; do
        if [ "$(cat "$root/.venv/.has-$extra" 2>/dev/null)" != "$want" ]; then
            make_venv "$@"
            return
        fi
    done
}

# Many container images tell Python to write no byte code, and then each start would compile all of
# codexd anew, which takes as long as the rest of it. pip compiles what it installs all the same.
keep_byte_code() {
    [ -n "${PYTHONDONTWRITEBYTECODE-}" ] && [ -w "$root/codexd" ] || return 0
    compiled=$root/.venv/.compiled
    [ -e "$compiled" ] && [ -z "$(find "$root/codexd" -name '*.py' -newer "$compiled")" ] && return
    # Before: what changes meanwhile is newer. Where it fails, it is not tried at every start.
    touch "$compiled" 2>/dev/null || return 0
    "$root/.venv/bin/python" -m compileall -qq "$root/codexd" >/dev/null 2>&1 || true
}

runs() {
    "$root/.venv/bin/python" -S -E -c '' >/dev/null 2>&1
}

make_venv() {
    python=$(find_python) || exit 1
    "$python" "$root/ops/lib/make_venv.py" "$root" "$want" "$@" && return
    # An update that fails (no network, say) must not keep a service from starting.
    if [ "$*" = codex ] && [ -e "$root/.venv/.has-codex" ] && runs; then
        echo "codexd: going on with the environment as it was" >&2
        return
    fi
    exit 1
}

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "codexd: Python 3.11 or newer is needed, and none is on PATH" >&2
    return 1
}
