#!/bin/sh -e
# Nothing runs yet: is it a program at all?
"$INPUT_python" -m py_compile database.py ask.py
echo "database.py and ask.py can be compiled"
