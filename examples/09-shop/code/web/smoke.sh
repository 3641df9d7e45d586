#!/bin/sh -e
page=$("$INPUT_python" ask.py GET "$OUTPUT_url/" 3)
echo "$page"
case $page in
  "Shop $STEERSMAN_VERSION,"*) ;;
  *) echo "that is not version $STEERSMAN_VERSION"; exit 1 ;;
esac
