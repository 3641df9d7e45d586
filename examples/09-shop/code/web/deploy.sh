#!/bin/sh -e
# An older one makes room. What is started here stays when this script has ended.
url="http://127.0.0.1:$INPUT_port"
"$INPUT_python" ask.py POST "$url/stop" >/dev/null 2>&1 && sleep 0.5 || true
mkdir -p "$INPUT_folder"
cp web.py "$INPUT_folder/web.py"
version=$(cat version.txt) here=$PWD
cd "$INPUT_folder"
setsid "$INPUT_python" "$INPUT_folder/web.py" "$INPUT_port" "$version" "$PROVIDER_database_address" \
  </dev/null >web.log 2>&1 &
cd "$here"
"$INPUT_python" ask.py GET "$url/" 10
echo "{\"url\": \"$url\"}" >"$1"
