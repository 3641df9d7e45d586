"""What the page about Builds says of the scripts of tasks: the shell, and what a script finds.

A test holds the table against what a script sees.
"""

from __future__ import annotations

from api.docs.tables import code, table

_VARIABLES = {
    "STEERSMAN_PROJECT": "the Build's project",
    "STEERSMAN_ENVIRONMENT": "its environment, or empty",
    "STEERSMAN_BUILD": "its name",
    "STEERSMAN_JOB": "the number of the job",
    "STEERSMAN_EXECUTION_ID": "the id of the job",
    "STEERSMAN_TASK": "the name of the task; of a row of a matrix, that of the row",
    "STEERSMAN_TRIAL": "the id of this try",
    "STEERSMAN_ATTEMPT": "which try of the task it is: 1, 2, …",
    "STEERSMAN_COMMIT": "the commit that is checked out, or empty",
    "STEERSMAN_BRANCH": "its branch, or empty",
    "STEERSMAN_TAG": "its tag, or empty",
    "STEERSMAN_TRIGGER": "the type of what started the job: `poll`, `schedule`, `manual`, …",
    "STEERSMAN_DUE": "when a job of a schedule was due, or empty",
    "STEERSMAN_SERVER": "the server's address",
    "STEERSMAN_TOKEN": "a token that reads this job, and ends with this try; no log shows it",
    "STEERSMAN_WORKSPACE": "the folder that scripts start in: the checkout, or empty",
    "STEERSMAN_OUTPUTS": "the file to append lines `NAME=value` to, which tasks that need this one are given",
    "STEERSMAN_NEEDS": "a folder with the attachments of the needed tasks, as `TASK/path`; absent where there are none",
    "STEERSMAN_RUN": "a mark by which processes of the script are known",
    "OUTPUT_<TASK>_<NAME>": "an output of a needed task; in the task's name all but letters and digits becomes `_`",
    "INPUT_<ID>": "an input of the Build, its `id` as it is written",
    "MATRIX_<AXIS>": "the row's value of an axis, whose name is in capitals",
    "HOME": "an empty folder",
    "TMPDIR": "only without a sandbox: a folder for temporary files; in a sandbox `/tmp` is the script's own",
    "GIT_SSH_COMMAND": "only with an SSH key among its `secrets`: `ssh` that uses it",
    "PATH": "`/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`; in a container, the image's",
    "LANG": "`C.UTF-8`; in a container, the image's where it has one",
    "CI": "`true`",
    "USER": "`steersman`",
    "TZ": "the server's time zone",
    "PWD": "set by the shell: the folder it starts in",
}
"""Each with what it holds."""


def scripts_text() -> str:
    """The section about them."""
    rows = [(code(name), about) for name, about in _VARIABLES.items()]
    return f"{_SHELL}\n{table(('variable', 'what it holds'), rows)}\n{_FOLDERS}"


_SHELL = """\
## Scripts

A `run` goes to `/bin/sh -e`: the first command that fails ends it. With a first line that begins with `#!`, it is run
by what that names. A `script` of the checkout likewise, where it is executable as well.

There is no `pipefail` in that shell: of `make test | tee log.txt` only `tee` counts, so that the task passes when the
tests fail. Write the file first (`make test > log.txt 2>&1 || { cat log.txt; exit 1; }`), or take Bash:

```yaml fragment
run: |
  #!/usr/bin/env -S bash -euo pipefail
  make test | tee log.txt
```

`#!` hands over neither `-e` nor anything else, so say it there, or by `set -euo pipefail` in the next line.

A script finds these variables, and nothing else of the server's:
"""

_FOLDERS = """\
Besides, there are the `environment_variables` of the Build and of the task. They may replace `PATH`, `LANG`, `CI`,
`USER`, `TZ` and `GIT_SSH_COMMAND`, and none of the others.

In a sandbox or a container, a script may write to the workspace (`/workspace`), its home (`/home/steersman`) and
`/tmp`, which all go with it. What is to stay is named by `attachments` or `cache`.
"""
