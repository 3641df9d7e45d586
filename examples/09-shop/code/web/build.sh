#!/bin/sh -e
echo "$STEERSMAN_VERSION" >version.txt
echo "built $STEERSMAN_RELEASE $STEERSMAN_VERSION from $STEERSMAN_COMMIT"
