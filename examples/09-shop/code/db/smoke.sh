#!/bin/sh -e
"$INPUT_python" ask.py GET "$OUTPUT_address/up" 3
echo "the database is there"
