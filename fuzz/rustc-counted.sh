#!/bin/sh
# cargo's RUSTC_WORKSPACE_WRAPPER: compiles the workspace's own crates with libFuzzer's counters in them. What cargo runs
# while it builds has no libFuzzer to report to, and is left alone; dependencies are never handed to this script.
case " $* " in
*' --crate-name build_script_'* | *' --crate-type proc-macro '* | *' -vV '* | *' --print='*) exec "$@" ;;
esac
exec "$@" "@$(dirname "$0")/sancov.args"
