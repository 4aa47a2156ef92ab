#!/usr/bin/env bash
# Build the jar of Java parts into FOLDER: jar.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/../../.."
building=$(mktemp -d)
trap 'rm -rf "$building"' EXIT
mvn --batch-mode --quiet -f deploy/java/pom.xml -Dtarget.directory="$building" package
mkdir -p "$1"
mv "$building/sunbird-pipelines-beam.jar" "$1/"
