# shellcheck shell=sh disable=SC2034
# Sourced by the scripts that install and remove the service, with $root set.

# read_options "$@": sets dry_run, force, label, home, process_type and, quoted for eval, rest: what
# is not for us.
read_options() {
    dry_run=
    force=
    process_type=
    label=
    home=$HOME
    rest=
    while [ $# -gt 0 ]; do
        case $1 in
            --dry-run) dry_run=yes ;;
            --force) force=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            --label=*) label=${1#*=} ;;
            --home=*) home=${1#*=} ;;
            --process-type=*) process_type=${1#*=} ;;
            --label | --home | --process-type)
                [ $# -gt 1 ] || fail "$1 needs a value"
                case $1 in
                    --label) label=$2 ;;
                    --home) home=$2 ;;
                    *) process_type=$2 ;;
                esac
                shift
                ;;
            *) rest="$rest $(quote "$1")" ;;
        esac
        shift
    done
}

quote() {
    # The dot keeps a newline at the end from being dropped.
    quoted=$(printf '%s.' "$1" | sed "s/'/'\\\\''/g")
    printf "'%s'" "${quoted%.}"
}

no_more_options() {
    [ -z "$rest" ] || fail "unknown option$rest (see --help)"
}

# Only launchd knows these.
no_launchd_options() {
    [ -z "$label" ] || fail "unknown option --label (see --help)"
    [ -z "$process_type" ] || fail "unknown option --process-type (see --help)"
}

fail() {
    echo "$(basename -- "$0"): $*" >&2
    exit 1
}

say() {
    echo "$*"
}

# run COMMAND...: do it, or with --dry-run say what would be done.
run() {
    if [ -n "$dry_run" ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

# seal TEXT BEGIN END: TEXT and a last line, a comment, that tells whether it was edited since.
seal() {
    printf '%s\n%scodexd-seal %s%s\n' "$1" "$2" "$(printf '%s\n' "$1" | cksum | tr ' ' -)" "$3"
}

# refuse_edited FILE: fail where the file is not as we wrote it, unless --force was given.
refuse_edited() {
    [ -e "$1" ] || return 0
    sum=$(sed '$d' "$1" | cksum | tr ' ' -)
    case $(tail -n 1 "$1") in
        *"codexd-seal $sum"*) return 0 ;;
    esac
    [ -z "$force" ] || return 0
    fail "$1 was edited, or not written by this script: keep what you need of it, and run this" \
        "again with --force, which replaces it"
}

# ask_about_service WHAT KIND ARG...: service_file.py about the service file in $text.
ask_about_service() {
    printf '%s\n' "$text" | "$root/.venv/bin/python" "$root/ops/lib/service_file.py" "$@"
}

# Under sudo the service would be root's, and so would its files.
refuse_sudo() {
    [ "$(id -u)" != 0 ] || [ -z "${SUDO_USER:-}" ] ||
        fail "run this as $SUDO_USER, without sudo: it installs a service of the user who runs it"
}

# is_same TEXT FILE: whether the file holds just that text.
is_same() {
    [ -f "$2" ] && printf '%s\n' "$1" | cmp -s - "$2"
}

# write_file TEXT FILE CHECK...: replace the file in one step; CHECK FILE must like it.
write_file() {
    if [ -n "$dry_run" ]; then
        say "would write: $2"
        return
    fi
    new_text=$1 file=$2
    shift 2
    (
        umask 077
        mkdir -p "$(dirname -- "$file")"
        printf '%s\n' "$new_text" >"$file.new"
        if [ $# -gt 0 ] && ! "$@" "$file.new" >&2; then
            rm -f "$file.new"
            exit 1
        fi
        mv -f "$file.new" "$file"
    ) || fail "cannot write $file"
    say "wrote $file"
}

remove_file() {
    if [ -e "$1" ]; then
        run rm -f "$1"
        [ -n "$dry_run" ] || say "removed $1"
    fi
}
