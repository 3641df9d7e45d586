"""Manifests in the manner of real projects, to their true end: sources, hand-over, packages, artifacts, secrets.

What such projects fetch from the network (their code, a toolchain) is served from here; a toolchain's programs are
stand-ins of a few lines that read and write real files.
"""

from __future__ import annotations

import functools
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.api.escape.conftest import document
from tests.api.srht.conftest import World, states
from tests.examples.containers import IMAGE, need_image, root_with_bash
from tests.roots import CONTAINER_ARGUMENTS
from tests.support import SpecRepository

# A program that is made and tested by make, behind an autogen.sh; its words are another repository's.
GREET = {
    "autogen.sh": "#!/bin/sh\nset -e\ncp configure.in configure\nchmod +x configure\n",
    "configure.in": (
        "#!/bin/sh\nset -e\n"
        "for word; do case $word in\n"
        "  --prefix=*) prefix=${word#*=} ;;\n"
        "  --with-words=*) words=${word#*=} ;;\n"
        '  *) echo "configure: unknown option $word" >&2; exit 2 ;;\n'
        "esac; done\n"
        'echo "checking for words... $words"\ntest -f "$words/words.txt"\n'
        'sed -e "s,@prefix@,$prefix," -e "s,@words@,$words," Makefile.in > Makefile\n'
    ),
    "Makefile.in": (
        "PREFIX = @prefix@\nWORDS = @words@/words.txt\n\n"
        "greet: greet.c $(WORDS)\n\tcc $(CFLAGS) -include $(WORDS) -o $@ greet.c\n\n"
        'check: greet\n\ttest "`./greet`" = "Good morning"\n\n'
        "install: greet\n\tmkdir -p $(DESTDIR)$(PREFIX)/bin\n\tcp greet $(DESTDIR)$(PREFIX)/bin\n\n"
        ".PHONY: check install\n"
    ),
    "greet.c": "// prints the words\n",
}
# cc -O2 -Wall -include WORDS -o PROGRAM FILE
CC = (
    "#!/bin/sh\nset -e\n"
    '[ "$1 $2" = "-O2 -Wall" ]\n'
    'printf \'#!/bin/sh\\necho "%s"\\n\' "$(cat "$4")" > "$6"\nchmod +x "$6"\n'
)
GO = (
    "#!/bin/sh\nset -e\n"
    '[ "$GOFLAGS" = -mod=vendor ] && [ "$CGO_ENABLED" = 0 ] && [ -d vendor ]\n'
    'case $1 in build) mkdir -p "$(dirname "$3")"; echo "$GOOS $GOARCH" > "$3" ;; *) echo "ok $*" ;; esac\n'
)
NIX = (
    "#!/bin/sh\nset -e\n"
    '[ "$NIX_CONFIG" = "experimental-features = nix-command flakes" ]\n'
    '[ "$1 $2" = "build .#default" ] && [ -f flake.nix ]\nmkdir -p result/bin\ncp flake.nix result/bin/built\n'
)
RSYNC = '#!/bin/sh\nset -e\n[ "$1" = -r ]\nmkdir -p "$3"\ncp -R "$2". "$3"\n'

AUTOTOOLS = """\
# Build and check on Debian, then keep the tarball that goes to those who package it.
image: debian/stable
packages:
  - autoconf
  - automake
  - libtool
sources:
  - FORGE/greet.git#v1.2
  - vendor/libwords::FORGE/libwords.git#stable
  - toolchain::git+FORGE/toolchain.git
environment:
  CFLAGS: -O2 -Wall
  MAKEFLAGS: -j2
  VERSION: "1.2"
  RELEASE: 7
  RATIO: 1.50
  STRICT: yes
tasks:
  - bootstrap: |
      cd greet
      test "$(git describe --tags)" = "v$VERSION"
      sh autogen.sh
  - configure: |
      cd greet
      ./configure --prefix=/usr --with-words="$HOME/vendor/libwords"
      echo "export PATH=\\"$HOME/toolchain/bin:\\$PATH\\"" >> ~/.buildenv
  - build: make -C greet
  - check: make -C greet check
  - dist: |
      test "$RELEASE $RATIO $STRICT" = "7 1.5 true"
      make -C greet install DESTDIR="$PWD/out"
      tar -C out -czf "greet-$VERSION.tar.gz" usr
artifacts:
  - greet-1.2.tar.gz
"""

GOLANG = """\
image: alpine/latest
packages: [go]
sources:
- FORGE/worker
- FORGE/toolchain
environment:
  CGO_ENABLED: 0
  GOFLAGS: -mod=vendor
  RACE: false
  platforms: [linux/amd64, linux/arm64]
triggers:
- action: email
  condition: failure
  to: Jo <jo@example.org>
tasks:
- setup: |
    mkdir -p ~/go/bin
    cp toolchain/bin/go ~/go/bin
    echo 'export GOPATH="$HOME/go"' >> ~/.buildenv
    echo 'export PATH="$PATH:$GOPATH/bin"' >> ~/.buildenv
- vet: cd worker && go vet ./...
- test: |
    cd worker
    if [ "$RACE" = true ]
    then
      go test -race ./...
    else
      go test ./...
    fi
- build: |
    cd worker
    for platform in "${platforms[@]}"
    do
      GOOS="${platform%/*}" GOARCH="${platform#*/}" go build -o "../dist/worker-${platform//\\//-}"
    done
artifacts:
- dist/worker-linux-amd64
- dist/worker-linux-arm64
"""

PYTHON = """\
# As a push to a topic branch submits it: everything but the release.
image: archlinux
packages:
  - python
  - python-build
sources:
  - FORGE/greet.git
environment:
  GIT_REF: refs/heads/topic
  BUILD_SUBMITTER: git.sr.ht
  pythons: ["3.11", "3.12"]
secrets:
  - by-name
tasks:
  - matrix: |
      cd greet
      for version in "${pythons[@]}"; do
        echo "py$version" >> ~/tested
      done
      wc -l < ~/tested
  - sdist: |
      mkdir -p dist
      git -C greet archive --format=tar --prefix=greet/ -o ~/dist/greet.tar HEAD
  - only-on-master: |
      if [ "$GIT_REF" != refs/heads/master ]; then
        complete-build
      fi
      echo "not reached"
  - upload: |
      test -f ~/.tool/token
      echo "uploading"
      exit 1
  - tell: "false"
artifacts:
  - dist/greet.tar
"""

NIXOS = """\
image: nixos/unstable
sources:
 - FORGE/flake
 - FORGE/toolchain
environment:
 NIX_CONFIG: >-
  experimental-features =
  nix-command flakes
 NIXPKGS_ALLOW_UNFREE: 1
 NOTHING:
tasks:
 - path: |
    printf 'export PATH="%s:$PATH"\\n' "$HOME/toolchain/bin" >> ~/.buildenv
 - build: |
    test -z "$NOTHING" && test "$NIXPKGS_ALLOW_UNFREE" -eq 1
    cd flake
    nix build .#default
 - run: |
    test "$(cat flake/result/bin/built)" = "{ outputs = _: {}; }"
"""

SITE = """\
image: debian/stable
oauth: pages.sr.ht/PAGES:RW
packages:
- hugo
- rsync
secrets:
- 5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10
environment:
  site: example.srht.site
  deploy: srv/example.org
sources:
- FORGE/site
- FORGE/toolchain
tasks:
- build: |
    cd site
    mkdir public
    for page in content/*.md; do
      { echo '<h1>'; cat "$page"; echo '</h1>'; } > "public/$(basename "$page" .md).html"
    done
    tar -C public -cz . > ../site.tar.gz
- deploy: |
    test "$(stat -c %a ~/.ssh/id_rsa)" = 600
    toolchain/bin/rsync -r site/public/ "$deploy"
    test -f "$deploy/index.html"
- publish: |
    type acurl
    set +x
    test -n "$OAUTH2_TOKEN"
    host=${JOB_URL#http://} host=${host%%/*}
    exec 3<>"/dev/tcp/${host%:*}/${host#*:}"
    printf 'GET /api/jobs/%s HTTP/1.1\\r\\nHost: %s\\r\\nAuthorization: Bearer %s\\r\\nConnection: close\\r\\n\\r\\n' \\
      "$JOB_ID" "$host" "$OAUTH2_TOKEN" >&3
    grep -o '"status":"running"' <&3 | head -n 1
artifacts:
- site.tar.gz
shell: true
"""

ABUILD = """\
image: alpine/edge
packages:
  - alpine-sdk
  - lua5.4-dev
repositories:
  sr.ht: >
    https://mirror.example.org/alpine/edge/sr.ht
    https://mirror.example.org/alpine/sr.ht.rsa.pub
environment:
  PACKAGER: 'Jo "the packager" <jo@example.org>'
tasks:
  - checksum: |
      test "$(sed -n '$p' /installed)" = lua5.4-dev
      grep -q alpine-sdk /installed
      grep -q mirror.example.org /installed
      echo 'pkgname=greet' > APKBUILD
      sha256sum APKBUILD > APKBUILD.sum
  - build: |
      sha256sum -c APKBUILD.sum
      . ./APKBUILD
      mkdir -p "packages/$pkgname"
      echo "$PACKAGER" > "packages/$pkgname/.PKGINFO"
      tar -C packages -czf "$pkgname.apk" "$pkgname"
artifacts:
  - greet.apk
"""

BROKEN = """\
image: debian/stable
sources:
  - FORGE/greet
environment:
  LC_ALL: C
tasks:
  - _prepare: echo "export STARTED=1" >> ~/.buildenv
  - lint: |
      cd greet
      grep -n 'prints the words' greet.c
      if grep -n 'TODO\\|prints' greet.c; then
        echo "lint: one finding"
        exit 3
      fi
  - test: make -C greet check
  - package: tar -czf greet.tar.gz greet
artifacts:
  - greet.tar.gz
"""

PODMAN = """\
image: archlinux/base-devel
packages:
  - meson
tasks:
  - meson: |
      test "$(cat /etc/image)" = steersman-test
      grep -x meson /installed
      echo 'export BUILDDIR=build' >> ~/.buildenv
  - ninja: |
      mkdir "$BUILDDIR"
      echo "job $JOB_ID" > "$BUILDDIR/greet"
  - stop-here: complete-build
  - never: exit 1
artifacts:
  - build/greet
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _executable(repository: SpecRepository) -> None:
    for path in (repository.path / "bin").iterdir():
        path.chmod(0o755)


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with all the repositories, by NAME.git and by NAME."""
    folder = tmp_path_factory.mktemp("forge")
    programs = {"bin/cc": CC, "bin/go": GO, "bin/nix": NIX, "bin/rsync": RSYNC}
    contents = {
        "toolchain": programs,
        "libwords": {"words.txt": "Good morning\n"},
        "worker": {"main.go": "package main\n", "vendor/modules.txt": "# none\n"},
        "flake": {"flake.nix": "{ outputs = _: {}; }\n"},
        "site": {"content/index.md": "Hello\n", "content/about.md": "About\n"},
        "greet": GREET,
    }
    for name, files in contents.items():
        code = SpecRepository(folder / name)
        code.commit(files)
        if name == "toolchain":
            _executable(code)
            code.commit(message="they are programs")
        if name == "greet":
            code.git("tag", "-a", "-m", "1.2", "v1.2")
            code.commit({"autogen.sh": "exit 1\n"}, "broken since")
        if name == "libwords":
            code.git("branch", "stable")
            code.commit({"words.txt": "Good evening\n"})
        bare = folder / "served" / f"{name}.git"
        subprocess.run(["git", "clone", "--quiet", "--bare", str(code.path), str(bare)], check=True)
        subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
        (folder / "served" / name).symlink_to(bare)
    handler = functools.partial(_Quiet, directory=str(folder / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def images(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A second executor, with the images that these manifests name."""
    root = root_with_bash(tmp_path_factory.mktemp("root"))
    declared = {
        "alpine/latest": "{type: host}",
        "archlinux": "{type: host}",
        "nixos/unstable": "{type: host}",
        "alpine/edge": f"{{type: root, path: '{root}', install: [/bin/add], add_repository: [/bin/add]}}",
        "archlinux/base-devel": (
            f"{{type: container, reference: '{IMAGE}', install: [/bin/add],"
            f" arguments: {CONTAINER_ARGUMENTS}}}"
        ),
    }
    listed = ", ".join(f"{name}: {image}" for name, image in declared.items())
    spec = f"{{default_image: archlinux, images: {{{listed}}}}}"
    world.repo.commit({"images.yaml": document("Executor", "name: exec-2", spec)})
    world.applied()
    yield world
    world.repo.commit({"images.yaml": None})
    world.applied()


def finished(world: World, text: str, forge: str, **more: Any) -> dict[str, Any]:
    """A manifest's job of jo's, once it has ended."""
    return world.ended(world.submit(text.replace("FORGE", forge), **more)["id"], 90)


def kept(world: World, job: dict[str, Any]) -> dict[str, bytes]:
    """The artifacts of a job by path, downloaded as a stranger who was told the address."""
    listed = world["jo"].get(f"/api/jobs/{job['id']}/artifacts").raise_for_status().json()
    assert listed["total"] == len(listed["results"])
    found = {each["path"]: world.nobody.get(each["url"]).content for each in listed["results"]}
    assert [each["size"] for each in listed["results"]] == [len(content) for content in found.values()]
    return found


def succeeded(world: World, job: dict[str, Any], *wanted: str) -> None:
    """It went well, and its tasks as given."""
    logs = [world.log(task["log"]) for task in job["tasks"] if task["status"] in ("success", "failed")]
    assert job["status"] == "success", (world.log(job["setup_log"]), states(job), logs[-1:])
    assert states(job) == list(wanted)


def members(content: bytes) -> set[str]:
    """The files in a packed tar."""
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        return {each.name.removeprefix("./") for each in packed if each.isfile()}


def test_a_program_in_c_with_autotools(world: World, forge: str) -> None:
    """Three sources at a tag, a branch and the head; the environment by types; packages that are only noted."""
    job = finished(world, AUTOTOOLS, forge)
    succeeded(world, job, *["success"] * 5)
    told = world.log(job["setup_log"])
    assert "packages are not installed: the image debian/stable has no `install`" in told
    assert f"==> source: {forge}/greet.git#v1.2" in told
    assert "checking for words... /home/steersman/vendor/libwords" in world.log(job["tasks"][1]["log"])
    assert "+ make -C greet check" in world.log(job["tasks"][3]["log"])
    (packed,) = kept(world, job).values()
    assert members(packed) == {"usr/bin/greet"}


def test_a_program_in_go(images: World, forge: str) -> None:
    """A list in the environment is an array; ~/.buildenv hands the path on; mail is for failures only."""
    job = finished(images, GOLANG, forge)
    succeeded(images, job, *["success"] * 4)
    assert job["runner"] == "exec-2"
    assert "ok test ./..." in images.log(job["tasks"][2]["log"])
    assert kept(images, job) == {
        "dist/worker-linux-amd64": b"linux amd64\n",
        "dist/worker-linux-arm64": b"linux arm64\n",
    }


def test_a_library_in_python_on_a_topic_branch(images: World, forge: str) -> None:
    """What comes after `complete-build` is skipped; artifacts are kept all the same."""
    job = finished(images, PYTHON, forge)
    succeeded(images, job, "success", "success", "success", "skipped", "skipped")
    assert images.log(job["tasks"][0]["log"]).splitlines()[-1] == "2"
    assert "not reached" not in images.log(job["tasks"][2]["log"])
    assert "greet/autogen.sh" in members(kept(images, job)["dist/greet.tar"])


def test_a_flake(images: World, forge: str) -> None:
    """Indented by one space, with a folded text and an empty variable."""
    job = finished(images, NIXOS, forge)
    succeeded(images, job, "success", "success", "success")
    assert kept(images, job) == {}


def test_a_static_site(world: World, forge: str) -> None:
    """A key as a file, a token of the job's own that the API knows, and no shell to stay in."""
    job = finished(world, SITE, forge)
    succeeded(world, job, "success", "success", "success")
    told = world.log(job["setup_log"])
    assert "==> oauth: OAUTH2_TOKEN, for pages.sr.ht/PAGES:RW" in told
    assert "no interactive shell" in told
    assert world.log(job["tasks"][2]["log"]).splitlines()[-1] == '"status":"running"'
    assert members(kept(world, job)["site.tar.gz"]) == {"index.html", "about.html"}
    without = finished(world, SITE, forge, secrets=False)
    assert (without["status"], states(without)) == ("failed", ["success", "failed", "pending"])


def test_a_package_for_alpine(images: World, forge: str) -> None:
    """In a root directory whose package manager gets repositories, then packages."""
    job = finished(images, ABUILD, forge)
    succeeded(images, job, "success", "success")
    told = images.log(job["setup_log"])
    assert "==> packages: alpine-sdk, lua5.4-dev" in told
    assert members(kept(images, job)["greet.apk"]) == {"greet/.PKGINFO"}


def test_a_lint_that_finds_something(world: World, forge: str) -> None:
    """The job fails where its task fails: later ones are not begun, nothing is kept."""
    job = finished(world, BROKEN, forge)
    assert (job["status"], states(job)) == ("failed", ["success", "failed", "pending", "pending"])
    assert "lint: one finding\n+ exit 3" in world.log(job["tasks"][1]["log"])
    assert world["jo"].get(job["tasks"][2]["log"]).status_code == 404
    assert kept(world, job) == {}


def test_a_build_in_a_container(images: World) -> None:
    """Of an image that podman runs, with its own package manager."""
    need_image()
    job = images.ended(images.submit(PODMAN)["id"], 90)
    succeeded(images, job, "success", "success", "success", "skipped")
    assert kept(images, job) == {"build/greet": f"job {job['id']}\n".encode()}
