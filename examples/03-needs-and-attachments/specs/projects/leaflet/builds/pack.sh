# Runs with `sh -e`; begin it with #! and another interpreter to use that.
mkdir packed
copy=1
while [ "$copy" -le "$INPUT_copies" ]; do
  echo "$TITLE, copy $copy of $INPUT_copies, job $STEERSMAN_JOB" | tee "packed/copy-$copy.txt"
  copy=$((copy + 1))
done
