# shellcheck shell=sh disable=SC2034
# Sourced by the scripts that install and remove the service, with $root set.

# read_options "$@": sets dry_run, label, home and, quoted for eval, rest: what is not for us.
read_options() {
    dry_run=
    label=
    home=$HOME
    rest=
    while [ $# -gt 0 ]; do
        case $1 in
            --dry-run) dry_run=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            --label=*) label=${1#*=} ;;
            --home=*) home=${1#*=} ;;
            --label | --home)
                [ $# -gt 1 ] || fail "$1 needs a value"
                if [ "$1" = --label ]; then label=$2; else home=$2; fi
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

no_label() {
    [ -z "$label" ] || fail "unknown option --label (see --help)"
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
    text=$1 file=$2
    shift 2
    (
        umask 077
        mkdir -p "$(dirname -- "$file")"
        printf '%s\n' "$text" >"$file.new"
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
