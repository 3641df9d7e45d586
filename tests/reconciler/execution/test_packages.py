"""Packages: the same tree makes the same bytes, and neither a checkout nor a package leads out of itself."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from reconciler.errors import NotFound
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.packages import PackageError, Packages, Packed
from reconciler.settings import Settings
from specs.plan import compile_plan

PLAN = """\
name: shop/web
version: "1.4.@"
build: ci/build.sh
deploy: {inline: echo}
smoke: {cmd: ./bin/smoke, args: [-v]}
errands: {backup: {script: ci/backup.sh}}
includes: ["deploy", "*.md"]
generates: ["dist/**"]
"""
FILES = {
    "web/ci/build.sh": "make",
    "web/ci/backup.sh": "dump",
    "web/ci/other.sh": "not named",
    "web/bin/smoke": "curl",
    "web/deploy/a/b.txt": "b",
    "web/deploy/c.txt": "c",
    "web/README.md": "# web",
    "web/dist/web.tar": "built",
    "web/src/main.c": "int main",
    "README.md": "# all",
}


def plan(text: str = PLAN, version: str = "1.4.12") -> dict[str, Any]:
    """A compiled plan with its version known."""
    found = compile_plan(text, "escape.yml").plan
    assert found is not None
    return {**found, "version": version}


def packages(tmp_path: Path, **settings: int) -> Packages:
    """With their own folder."""
    made = Settings(data=tmp_path / "data", **settings)  # type: ignore[arg-type]
    return Packages(made, AttachmentStore(tmp_path / "data/attachments", made.attachment_bytes))


def checkout(tmp_path: Path, name: str = "checkout") -> Path:
    """The files of a repository."""
    root = tmp_path / name
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "web/ci/build.sh").chmod(0o755)
    (root / "web/deploy/link").symlink_to("a/b.txt")
    return root


def files(folder: Path) -> dict[str, str]:
    """What lies below a folder."""
    return {
        str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if not path.is_dir()
    }


def test_a_package_holds_what_the_plan_names(tmp_path: Path) -> None:
    made, root, target = packages(tmp_path), checkout(tmp_path), tmp_path / "out"
    packed = made.pack(root, "web", plan(), {})
    made.unpack(packed.digest, target)
    found = files(target)
    assert json.loads(found.pop("plan.json")) == plan()
    assert found == {
        "ci/build.sh": "make",
        "ci/backup.sh": "dump",
        "bin/smoke": "curl",
        "deploy/a/b.txt": "b",
        "deploy/c.txt": "c",
        "deploy/link": "b",
        "README.md": "# web",
        "dist/web.tar": "built",
    }
    assert (target / "deploy/link").readlink() == Path("a/b.txt")
    assert os.access(target / "ci/build.sh", os.X_OK)
    assert not (target / "ci/backup.sh").stat().st_mode & 0o111
    assert made.plan_of(packed.digest) == plan()
    assert made.place(packed.digest).stat().st_size == packed.size


def test_the_same_tree_makes_the_same_bytes(tmp_path: Path) -> None:
    """Whoever checks it out, wherever and whenever."""
    made = packages(tmp_path)
    one, other = checkout(tmp_path), checkout(tmp_path, "other")
    for path in other.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o022)
    first = made.pack(one, "web", plan(), {})
    assert made.pack(other, "web", plan(), {}) == first
    assert made.pack(other, "web", plan(version="1.4.13"), {}) != first
    (other / "web/dist/web.tar").write_text("other")
    assert made.pack(other, "web", plan(), {}) != first


def test_a_fat_package_brings_what_it_depends_on(tmp_path: Path) -> None:
    made, root, target = packages(tmp_path), checkout(tmp_path), tmp_path / "out"
    lib = made.pack(root, "web", plan("name: shop/lib\nversion: '1'\nincludes: ['*.md']\n", "1"), {})
    packed = made.pack(root, "web", plan(), {"shop/lib-v1": lib})
    assert packed != made.pack(root, "web", plan(), {})
    other = packages(tmp_path / "elsewhere")
    assert kept(other, made.place(packed.digest).read_bytes()) == packed.digest
    other.unpack(packed.digest, target)
    with pytest.raises(NotFound):
        other.place(lib.digest)
    assert other.bundled(target) == {"shop/lib-v1": lib}
    assert other.plan_of(lib.digest)["application"] == "lib"


@pytest.mark.parametrize(
    ("change", "message", "missing"),
    [
        (lambda root: (root / "web/ci/build.sh").unlink(), "the script ci/build.sh is not there", True),
        (lambda root: (root / "web/deploy/out").symlink_to("../../../x"), "deploy/out leads out", False),
        (lambda root: (root / "web/deploy/out").symlink_to("/etc/passwd"), "deploy/out leads out", False),
        (lambda root: (root / "web/deploy/out").symlink_to("a/../../../x"), "leads out", False),
        (lambda root: os.mkfifo(root / "web/deploy/pipe"), "deploy/pipe is no regular file", False),
        (
            lambda root: (
                (root / "web/ci/build.sh").unlink(),
                (root / "web/ci/build.sh").symlink_to("/etc/passwd"),
            ),
            "the script ci/build.sh leads out of the checkout",
            False,
        ),
    ],
)
def test_what_cannot_be_packed_is_told(
    tmp_path: Path, change: Callable[[Path], object], message: str, missing: bool
) -> None:
    root = checkout(tmp_path)
    change(root)
    with pytest.raises(PackageError) as failed:
        packages(tmp_path).pack(root, "web", plan(), {})
    assert message in str(failed.value)
    assert failed.value.missing is missing
    assert list((tmp_path / "data/attachments/unfinished").iterdir()) == []


def test_the_plan_s_folder_lies_inside(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    (root / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(PackageError, match="outside of the checkout"):
        packages(tmp_path).pack(root, "elsewhere", plan(), {})


def test_a_script_may_be_a_link_inside_of_the_checkout(tmp_path: Path) -> None:
    made, root, target = packages(tmp_path), checkout(tmp_path), tmp_path / "out"
    (root / "web/ci").rename(root / "ci")
    (root / "web/ci").symlink_to("../ci")
    made.unpack(made.pack(root, "web", plan(), {}).digest, target)
    assert (target / "ci/build.sh").read_text() == "make"


def test_a_large_package_is_refused_with_the_setting(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    (root / "web/dist/large").write_bytes(os.urandom(5000))
    for limit in (4000, 5200):
        with pytest.raises(PackageError, match="attachment_bytes"):
            packages(tmp_path / str(limit), attachment_bytes=limit).pack(root, "web", plan(), {})


def hostile(made: Packages, *members: tuple[tarfile.TarInfo, bytes]) -> str:
    """The digest of a package that nobody has packed."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return kept(made, zstandard.compress(plain.getvalue()))


def kept(made: Packages, content: bytes) -> str:
    """The digest of a file that is kept as a package."""
    incoming = made._store.receive()
    try:
        incoming.add(content)
        return incoming.finish()[0]
    finally:
        incoming.close()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(member("../evil"), b"x")],
        [(member("/tmp/evil"), b"x")],
        [(member("a/../../evil"), b"x")],
        [(member("a//b"), b"x")],
        [(member("link", tarfile.SYMTYPE, "/etc"), b"")],
        [(member("a/link", tarfile.SYMTYPE, "../../x"), b"")],
        [(member("link", tarfile.SYMTYPE, "a/../.."), b"")],
        [(member("hard", tarfile.LNKTYPE, "/etc/passwd"), b"")],
        [(member("device", tarfile.CHRTYPE), b"")],
        [(member("pipe", tarfile.FIFOTYPE), b"")],
        [(member("in", tarfile.SYMTYPE, "."), b""), (member("in/file"), b"x")],
        [(member("file"), b"x"), (member("file/below"), b"x")],
    ],
)
def test_a_hostile_package_puts_nothing_outside(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    made = packages(tmp_path)
    (tmp_path / "around").mkdir()
    with pytest.raises(PackageError):
        made.unpack(hostile(made, *members), tmp_path / "around/target")
    assert {path.name for path in (tmp_path / "around").iterdir()} == {"target"}
    assert not Path("/tmp/evil").exists()


def test_links_inside_and_rights_of_a_package_are_plain(tmp_path: Path) -> None:
    made, target = packages(tmp_path), tmp_path / "out"
    members = (
        (member("plan.json"), b"[]"),
        (member("bin/tool", mode=0o6755), b"x"),
        (member("bin/link", tarfile.SYMTYPE, "../bin/tool"), b""),
        (member("bin/tool"), b"again"),
    )
    digest = hostile(made, *members)
    made.unpack(digest, target)
    assert (target / "bin/link").read_text() == "x"
    assert (target / "bin/tool").stat().st_mode & 0o7000 == 0
    with pytest.raises(PackageError, match="no plan"):
        made.plan_of(digest)


def test_a_bomb_and_damage_are_told(tmp_path: Path) -> None:
    made = packages(tmp_path, attachment_bytes=100_000)
    with pytest.raises(PackageError, match="attachment_bytes"):
        made.unpack(hostile(made, (member("zeros"), bytes(200_000))), tmp_path / "out")
    digest = kept(made, b"no archive")
    for read in (lambda: made.unpack(digest, tmp_path / "other"), lambda: made.plan_of(digest)):
        with pytest.raises(PackageError, match="cannot be"):
            read()
    with pytest.raises(NotFound):
        made.unpack("0" * 64, tmp_path / "third")


def numbered(made: Packages, tmp_path: Path, number: int) -> Packed:
    """Packages of a thousand bytes each."""
    root = tmp_path / f"n{number}"
    root.mkdir()
    (root / "x.md").write_bytes(os.urandom(1000))
    return made.pack(root, "", plan("name: shop/lib\nversion: '1'\nincludes: ['*.md']\n"), {})


def test_what_is_not_used_for_longest_leaves_the_cache_first(tmp_path: Path) -> None:
    made = packages(tmp_path, package_cache_bytes=3000)
    first, second, third = (numbered(made, tmp_path, number) for number in range(3))
    made.keep("shop/a-v1", first)
    time.sleep(0.01)
    made.keep("shop/b-v1", second)
    time.sleep(0.01)
    assert made.cached("shop/a-v1") == first
    time.sleep(0.01)
    made.keep("shop/c-v1", third)
    assert [made.cached(f"shop/{name}-v1") for name in "abc"] == [first, None, third]


def test_what_a_killed_daemon_left_half_made_goes_at_the_next_start(tmp_path: Path) -> None:
    """What is whole stays."""
    made = packages(tmp_path)
    made.clear_unfinished()  # there is no cache yet
    one = numbered(made, tmp_path, 1)
    made.keep("shop/a-v1", one)
    (tmp_path / "data/packages/tmpx").write_bytes(b"half")
    made.clear_unfinished()
    assert not (tmp_path / "data/packages/tmpx").exists()
    assert made.cached("shop/a-v1") == one


def test_a_cached_package_outlives_the_kept_one(tmp_path: Path) -> None:
    """Another one under its name takes its place."""
    made = packages(tmp_path)
    one, other = numbered(made, tmp_path, 1), numbered(made, tmp_path, 2)
    made.keep("shop/a-v1", one)
    made.keep("shop/a-v1", one)
    made._store.open(one.digest).unlink()
    made.unpack(one.digest, tmp_path / "out")
    assert (tmp_path / "out/x.md").is_file()
    made.keep("shop/a-v1", other)
    assert made.cached("shop/a-v1") == other
    with pytest.raises(NotFound):
        made.place(one.digest)
    assert made.cached("shop/unknown-v1") is None
