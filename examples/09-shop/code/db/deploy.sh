#!/bin/sh -e
# An older one makes room. What is started here stays when this script has ended.
address="http://127.0.0.1:$INPUT_port"
"$INPUT_python" ask.py POST "$address/stop" >/dev/null 2>&1 && sleep 0.5 || true
mkdir -p "$INPUT_folder"
cp database.py "$INPUT_folder/database.py"
cd "$INPUT_folder"
setsid "$INPUT_python" "$INPUT_folder/database.py" "$INPUT_port" "$INPUT_folder/data" </dev/null >database.log 2>&1 &
cd "$OLDPWD"
"$INPUT_python" ask.py GET "$address/up" 10
echo "{\"address\": \"$address\"}" >"$1"
echo "the database answers at $address"
