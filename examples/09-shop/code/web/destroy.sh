#!/bin/sh
"$INPUT_python" ask.py POST "http://127.0.0.1:$INPUT_port/stop" || echo "it was not there"
