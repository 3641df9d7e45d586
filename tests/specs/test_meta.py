"""KEYs and names."""

from __future__ import annotations

import pytest

from specs.meta import (
    Key,
    deployment_name_fault,
    environment_name_fault,
    parse_key,
    plain_name_fault,
    project_name_fault,
    secret_name_fault,
    user_name_fault,
)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Build/shop/dev/web", Key("Build", "shop", "dev", "web")),
        ("Build/shop/_/web", Key("Build", "shop", None, "web")),
        ("Build/shop/dev/a/b@c", Key("Build", "shop", "dev", "a/b@c")),
        ("Project/shop", Key("Project", None, None, "shop")),
        ("Environment/shop/dev", Key("Environment", "shop", None, "dev")),
        ("Executor/local", Key("Executor", None, None, "local")),
        ("ServiceAccount/platform/deployer", Key("ServiceAccount", None, None, "deployer", team="platform")),
        ("Secret/~alice/_/k", Key("Secret", None, None, "k", owner="alice")),
        ("Secret/shop/prod/k", Key("Secret", "shop", "prod", "k")),
        ("Secret/_/_/k", Key("Secret", None, None, "k")),
        ("RoleBinding/_/_/n", Key("RoleBinding", None, None, "n")),
        ("RoleBinding/shop/_/n", Key("RoleBinding", "shop", None, "n")),
        ("Freeze/_/black-friday", Key("Freeze", None, None, "black-friday")),
        ("Deployment/shop/prod/shop/web", Key("Deployment", "shop", "prod", "shop/web")),
        ("Pipeline/shop/release", Key("Pipeline", "shop", None, "release")),
        ("User/a@b.org", Key("User", None, None, "a@b.org")),
        ("Team/platform", Key("Team", None, None, "platform")),
    ],
)
def test_a_key_is_read_and_written_alike(text: str, key: Key) -> None:
    """The name is raw to the end; _ stands for an absent part."""
    assert key == parse_key(text)
    assert text == str(key)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Buidl/shop/dev/web", '"Buidl" is not a kind'),
        ("Build/shop/web", "write Build/PROJECT/ENVIRONMENT (or _)/NAME"),
        ("Project/", "write Project/NAME"),
        ("Environment/_/dev", "always has a project"),
        ("", '"" is not a kind'),
        ("Build//dev/web", "is not a KEY of a Build"),
        (
            "Secret/~/_/k",
            "names no owner after ~; write Secret/PROJECT (or ~OWNER or _)/ENVIRONMENT (or _)/NAME",
        ),
        ("Secret/~alice/prod/k", "a Secret has no environment without a project"),
        ("RoleBinding/_/prod/n", "a RoleBinding has no environment without a project"),
        ("ServiceAccount/_/n", "a ServiceAccount always has a team; write ServiceAccount/TEAM/NAME"),
        ("Deployment/shop/_/web", "a Deployment always has an environment"),
        ("User", "is not a KEY of a User"),
    ],
)
def test_a_wrong_key_is_told(text: str, told: str) -> None:
    """The sentence shows the form."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_key(text)
    assert told in str(caught.value)


def test_names_follow_their_patterns() -> None:
    """escape-state, section 4."""
    assert [project_name_fault(name) for name in ("shop", "a1", "A-b_c")] == [None] * 3
    assert all(
        project_name_fault(name)
        for name in ("a", "namespaces", "__x", "a b", "-a", "a" * 201, "ab\n", "shöp")
    )
    assert [environment_name_fault(name) for name in ("d", "prod-2_x")] == [None] * 2
    assert all(environment_name_fault(name) for name in ("Dev", "1a", "", "a/b"))
    assert [plain_name_fault(name) for name in ("web", "1.x_-")] == [None] * 2
    assert all(plain_name_fault(name) for name in (".", "..", "-a", "", "a/b", "a" * 101))
    assert [deployment_name_fault(name) for name in ("web", "_", "shop/web", "a-b_c/D")] == [None] * 4
    assert all(deployment_name_fault(name) for name in ("", "1a", "a//b", "a/", "/a", "a.b", "a" * 201))
    assert [user_name_fault(name) for name in ("alice", "a@b.org", "a+b")] == [None] * 3
    assert all(user_name_fault(name) for name in ("admin", "", "@a", "a/b", "a b"))
    assert secret_name_fault("build--shop--dev--web--private-key") is None
    assert all(secret_name_fault(name) for name in ("", "a/b", "a" * 201, "~a"))
