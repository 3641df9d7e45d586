#!/bin/sh -e
"$INPUT_python" -m py_compile web.py
test "$(cat version.txt)" = "$STEERSMAN_VERSION"
echo "web.py can be compiled, and knows its version"
