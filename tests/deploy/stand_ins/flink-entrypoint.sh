#!/usr/bin/env bash
# What the entrypoint of Flink's image does that ours are used with. Its quirk is kept: a value in FLINK_PROPERTIES loses
# its white space.
set_options() { # "key=value"…, onto what is configured already
    local option options=()
    for option in "$@"; do options+=("-D$option"); done
    bash "$FLINK_HOME/bin/config-parser-utils.sh" "$FLINK_HOME/conf" "$FLINK_HOME/bin" "$FLINK_HOME/lib" "${options[@]}"
}

libraries=/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so
if [[ ${DISABLE_JEMALLOC:-false} == false && -f $libraries ]]; then export LD_PRELOAD=$LD_PRELOAD:$libraries; fi

for plugin in ${ENABLE_BUILT_IN_PLUGINS//;/ }; do
    mkdir -p "$FLINK_HOME/plugins/${plugin%.jar}"
    ln -fs "$FLINK_HOME/opt/$plugin" "$FLINK_HOME/plugins/${plugin%.jar}"
done

set_options "jobmanager.rpc.address=${JOB_MANAGER_RPC_ADDRESS:-$(hostname -f)}" blob.server.port=6124 query.server.port=6125
given=()
while IFS= read -r line; do
    line=$(tr -d '[:space:]' <<<"$line" | envsubst)
    if [[ -n $line ]]; then given+=("${line%%:*}=${line#*:}"); fi
done <<<"${FLINK_PROPERTIES:-}"
if ((${#given[@]})); then set_options "${given[@]}"; fi

as_flink=()
if ((EUID == 0)); then as_flink=(gosu flink); fi
case $1 in
    jobmanager | taskmanager) exec "${as_flink[@]}" "$FLINK_HOME/bin/$1.sh" start-foreground "${@:2}" ;;
    standalone-job) exec "${as_flink[@]}" "$FLINK_HOME/bin/standalone-job.sh" start-foreground "${@:2}" ;;
    *) exec "${as_flink[@]}" "$@" ;;
esac
