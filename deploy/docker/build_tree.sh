#!/usr/bin/env bash
# The images' own files without Docker: build_tree.sh workers|submit|local FOLDER
#
# The steps are those of the Dockerfile, over the same files (.dockerignore), into FOLDER/opt/sunbird-pipelines. For a
# machine without a Docker daemon, and for tests: FOLDER/opt/sunbird-pipelines/bin/python -m deploy.local.worker_pool 50000
# Needs uv, and for `submit` a JDK and Maven. SUNBIRD_JAR=FILE takes a jar of Java parts that is built already.
set -euo pipefail
target=${1:?workers, submit or local} folder=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)
cd "$(dirname "$0")/../.."
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
sed -n 's/^!//p' .dockerignore | while read -r name; do cp -r "$name" "$context/"; done
case $target in
    workers | submit) lock=deploy/docker/requirements.lock ;;
    local) lock=deploy/docker/requirements-stack.lock ;;
    *) echo "there is no target $target" >&2 && exit 2 ;;
esac
"$context/deploy/docker/steps/packages.sh" "$folder/opt/sunbird-pipelines" "$lock"
"$context/deploy/docker/steps/code.sh" "$folder/opt/sunbird-pipelines" "$folder/opt/sunbird-pipelines"
if [[ $target == submit ]]; then
    jars=$folder/opt/sunbird-pipelines/share/sunbird-pipelines
    if [[ -n ${SUNBIRD_JAR:-} ]]; then
        mkdir -p "$jars" && ln -f "$SUNBIRD_JAR" "$jars/" 2>/dev/null || cp "$SUNBIRD_JAR" "$jars/"
    else
        "$context/deploy/docker/steps/jar.sh" "$jars"
    fi
fi
