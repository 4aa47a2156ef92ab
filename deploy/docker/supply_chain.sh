#!/usr/bin/env bash
# What the images' software is made of: supply_chain.sh audit|sbom|licenses
#
#   audit      known vulnerabilities of the locked packages, as PyPI knows them; exit code 1 when there are any, or PyPI does not say
#   sbom       bills of materials (CycloneDX): build/sbom-python.json of the workers, build/sbom-java.json of the jar
#   licenses   deploy/docker/licenses.md anew: package, version, license of all that is locked
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/.venv/bin:$PATH

environment() { # what an image has of Python: workers, or local, which has all that is locked
    deploy/docker/build_tree.sh "$1" "build/$1" >&2
    echo "build/$1/opt/sunbird-pipelines"
}

case ${1:-} in
    audit)
        uv tool run --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes --progress-spinner off \
            --requirement deploy/docker/requirements.lock
        ;;
    sbom)
        workers=$(environment workers)
        uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py environment --output-reproducible \
            --output-format JSON --output-file build/sbom-python.json "$workers/bin/python"
        echo "build/sbom-python.json"
        mvn --batch-mode --quiet -f deploy/java/pom.xml org.cyclonedx:cyclonedx-maven-plugin:2.9.1:makeBom \
            -DoutputFormat=json -DoutputDirectory="$PWD/build" -DoutputName=sbom-java
        echo "build/sbom-java.json"
        ;;
    licenses)
        local=$(environment local)
        {
            echo "# Licenses of the packages in the images"
            echo
            echo "As their authors declare them; \`make licenses\` writes this page. The jar's are in \`build/sbom-java.json\`"
            echo "(\`make sbom\`)."
            echo
            uv tool run --quiet pip-licenses==5.5.5 --python "$local/bin/python" --from mixed \
                --format markdown --ignore-packages sunbird-pipelines
        } >deploy/docker/licenses.md
        ;;
    *) echo "usage: supply_chain.sh audit|sbom|licenses" >&2 && exit 2 ;;
esac
