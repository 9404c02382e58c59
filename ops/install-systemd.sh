#!/bin/sh
# Install codexd as a systemd user service: `codexd service install` from this checkout.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

usage() {
    cat <<'TEXT'
Usage: install-systemd.sh [--dry-run] [--force] [--home DIR] [CODEXD OPTION]...

Runs `ops/codexd service install`: writes codexd.service to the user's systemd directory, enables
and starts it, and waits until it is up. Run it again after a change of options or an upgrade: it
restarts the service only if its unit changes.

  --dry-run   print every file and step, and change nothing
  --force     replace a unit that was edited; a copy is kept
  --home DIR  home of the user (the one of this shell)

Other options are those of `codexd config`: they and the environment (BAA_…, CODEX_HOME, proxies)
become those of the service. The repo root is the working directory unless --repo-root says else.
TEXT
}

. "$root/ops/lib/help.sh"
show_help "$@"

exec "$root/ops/codexd" service install --manager systemd --program "$root/ops/codexd" "$@"
