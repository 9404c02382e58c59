#!/bin/sh
# Install codexd as a launchd agent of this user: `codexd service install` from this checkout.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

usage() {
    cat <<'TEXT'
Usage: install-launchd.sh [--dry-run] [--force] [--label LABEL] [--home DIR]
                          [--process-type TYPE] [CODEXD OPTION]...

Runs `ops/codexd service install`: writes DIR/Library/LaunchAgents/LABEL.plist, starts the agent
and waits until it is up. Run it again after a change of options or an upgrade: it restarts the
agent only if its property list changes.

  --dry-run            print every file and step, and change nothing
  --force              replace a property list that was edited; a copy is kept
  --label LABEL        label of the agent (so.makefile.baa-codexd)
  --home DIR           home of the user (the one of this shell)
  --process-type TYPE  Background, or Standard, Adaptive, Interactive: macOS gives Background jobs,
                       and so codex and its builds, less processor and disk

Other options are those of `codexd config`: they and the environment (BAA_…, CODEX_HOME, proxies)
become those of the agent. The repo root is the working directory unless --repo-root says else.
TEXT
}

. "$root/ops/lib/help.sh"
show_help "$@"

exec "$root/ops/codexd" service install --manager launchd --program "$root/ops/codexd" "$@"
