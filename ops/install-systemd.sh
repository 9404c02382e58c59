#!/bin/sh
# Install codexd as a systemd user service.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"

usage() {
    cat <<'TEXT'
Usage: install-systemd.sh [--dry-run] [--home DIR] [CODEXD OPTION]...

Writes codexd.service to the user's systemd directory, enables and starts it. Run it again after
a change of options or an upgrade: it restarts the service only if its unit has changed.

  --dry-run   say what would be done, and do nothing
  --home DIR  home of the user (the one of this shell)

Other options are those of `codexd config`: they and the environment (BAA_…) become the
configuration of the service. The repo root is the working directory unless --repo-root says else.
TEXT
}

read_options "$@"
no_label
eval "set -- $rest"

unit=${XDG_CONFIG_HOME:-$home/.config}/systemd/user/codexd.service
text=$("$root/ops/codexd" render-systemd --program "$root/ops/codexd" --home "$home" "$@") || exit

is_up() {
    systemctl --user --quiet is-enabled codexd.service >/dev/null 2>&1 &&
        systemctl --user --quiet is-active codexd.service
}

if is_same "$text" "$unit" && is_up; then
    say "codexd.service is installed and has not changed"
    exit 0
fi

if ! is_same "$text" "$unit"; then
    write_file "$text" "$unit"
fi
run systemctl --user daemon-reload
run systemctl --user enable codexd.service
# Starts it, too, if it does not run.
run systemctl --user restart codexd.service
[ -n "$dry_run" ] || say "started codexd.service; see: systemctl --user status codexd"

user=$(id -un)
if [ "$(loginctl show-user "$user" --property=Linger 2>/dev/null)" != Linger=yes ]; then
    say "it ends when you log out; to keep it: loginctl enable-linger $user"
fi
