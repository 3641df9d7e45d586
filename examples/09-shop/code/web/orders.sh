#!/bin/sh -e
"$INPUT_python" ask.py GET "$OUTPUT_url/"
