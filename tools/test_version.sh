#!/bin/sh
# Runs the Python suite on one version of Python: tools/test_version.sh 3.12
set -eu
version=$1
python=
for candidate in "python$version" "$(command -v pyenv >/dev/null && pyenv root)/versions/$version".*/bin/python; do
    if "$candidate" -c "import sys; raise SystemExit('%d.%d' % sys.version_info[:2] != '$version')" \
        2>/dev/null; then
        python=$candidate
    fi
done
if [ -z "$python" ]; then
    echo "Python $version is missing" >&2
    exit 1
fi
venv=.venvs/$version
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet '.[cli,test]'
"$venv/bin/python" --version
"$venv/bin/python" -m pytest -q tests
