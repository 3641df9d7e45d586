"""Whatever the history, an updated tree equals one grown afresh from the same files."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from specs.document import ParsedFile
from specs.loader import parse_file
from specs.tree import Tree

SEALED = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOQ=="
HEAD = "apiVersion: steersman/v1\nkind: "
DOCUMENTS = [
    "Project\nmetadata: {name: shop}\n",
    "Project\nmetadata: {name: shop}\nspec: {environment_order: [dev]}\n",
    "Project\nmetadata: {name: shop}\nspec: {defaults: {Build: {timeout_seconds: 60, tags: ['v*']}}}\n",
    "Project\nmetadata: {name: shop}\nspec: {defaults: {Build: {timeout_seconds: x}}}\n",
    "Project\nmetadata: {name: shop}\nspec: {defaults: {Build: {tasks: [{name: d, run_file: d.sh}]}}}\n",
    "Environment\nmetadata: {name: dev, project: shop}\n",
    "Environment\nmetadata: {name: dev, project: shop}\nspec: {defaults: {Build: {branches: [main]}}}\n",
    "Environment\nmetadata: {name: dev, project: shop}\nspec: {protected: true}\n",
    "Repository\nmetadata: {name: web, project: shop}\nspec: {url: 'https://e.org/x'}\n",
    "Repository\nmetadata: {name: web, project: shop}\nspec: {url: ''}\n",
    "Build\nmetadata: {name: one, project: shop}\nspec: {repo: web, tasks: [{name: a, run: x}]}\n",
    "Build\nmetadata: {name: one, project: shop}\nspec: {repo: web, branch: b, tasks: [{name: a, run_file: a.sh}]}\n",
    "Build\nmetadata: {name: two, project: shop, environment: dev}\nspec: {tasks: [{name: a, run: x}]}\n",
    "Build\nmetadata: {name: two, project: shop, environment: dev}\nspec: {repo: web}\n",
    "Build\nmetadata: {name: two}\nspec: {repo: web}\n",
    "Build\nmetadata: {name: one, project: shop}\n"
    "spec: {triggers: [{type: build, builds: [two]}], tasks: [{name: a, run: x}]}\n",
    "Build\nmetadata: {name: two, project: shop}\n"
    "spec: {triggers: [{type: build, builds: [one]}], tasks: [{name: a, run: x}]}\n",
    "Build\nmetadata: {name: two, project: shop, environment: dev}\n"
    "spec: {triggers: [{type: build, builds: [one, two]}], tasks: [{name: a, run: x}]}\n",
    "Build\nmetadata: {name: one, project: shop}\nspec: {priority: x, tasks: [{name: a, run: x}]}\n",
    "Executor\nmetadata: {name: local}\n",
    "Executor\nmetadata: {name: local}\nspec: {max_load: x}\n",
    "Project\nmetadata: {name: shop}\nspec: {namespaces: [{name: aa}], logo_file: d.sh}\n",
    "Project\nmetadata: {name: other}\nspec: {namespaces: [{name: aa}, {name: bb}]}\n",
    "Project\nmetadata: {name: shop}\nspec: {defaults: {Build: {steps_from_yml: "
    "true, repo: web}, Deployment: {follow: dev}}}\n",
    "Environment\nmetadata: {name: prod, project: shop}\nspec: {inputs: {a: {secret_ref: k}}}\n",
    "Team\nmetadata: {name: t}\nspec: {members: [alice]}\n",
    "User\nmetadata: {name: alice}\n",
    "User\nmetadata: {name: alice}\nspec: {disabled: x}\n",
    "ServiceAccount\nmetadata: {name: bot, team: t}\n",
    "ServiceAccount\nmetadata: {name: bot, team: u}\n",
    "RoleBinding\nmetadata: {name: b}\nspec: {role: read, subjects: "
    "[{kind: User, name: alice}, {kind: Team, name: t}]}\n",
    f"Secret\nmetadata: {{name: k, project: shop, environment: dev}}\nspec: {{sealed: {SEALED}}}\n",
    f"Secret\nmetadata: {{name: k}}\nspec: {{sealed: {SEALED}}}\n",
    "Secret\nmetadata: {name: k, owner: alice}\nspec: {}\n",
    "Build\nmetadata: {name: two, project: shop, environment: dev}\n"
    "spec: {repo: web, steps: [{}], release: {namespace: aa, version: '1'}, run_on: {secrets: [k]}}\n",
    "Deployment\nmetadata: {name: aa/web, project: shop}\nspec: {environments: {dev: {follow: prod}, prod: {}}}\n",
    "Deployment\nmetadata: {name: aa/web, project: shop}\n"
    "spec: {environments: {dev: {follow: prod}, prod: {follow: dev, version: 1}}}\n",
    "Deployment\nmetadata: {name: aa/web, project: shop, environment: prod}\n"
    "spec: {follow: dev, inputs: {a: {secret_ref: k}}, providers: {x: aa/db}}\n",
    "Deployment\nmetadata: {name: aa/web, project: shop, environment: "
    "dev}\nspec: {scripts: {deploy: {inline_file: a.sh}}}\n",
    "Pipeline\nmetadata: {name: p, project: shop}\nspec: {service_account_name: bot, phases: [{name: a, steps: ["
    "{type: deploy, environment: dev, deployment: aa/web, update_version: latest-version},"
    "{type: build, environment: dev, build: two}, {type: tag-release, tag: x, namespace: aa, application: web}]}]}\n",
    "Freeze\nmetadata: {name: f, project: shop}\nspec: {reason: x, "
    "environments: [dev], recurrence: [{days_of_week: sat}]}\n",
    "Notification\nmetadata: {name: n, project: shop}\nspec: "
    "{keys: [Build/shop/**], webhook: {url: 'https://e.org', secret_ref: k}}\n",
    "Nothing\nmetadata: {name: x}\n",
    "Executor\nmetadata: [\n",
]
CONTENTS = st.lists(st.sampled_from(DOCUMENTS), max_size=5).map(
    lambda bodies: "---\n".join(HEAD + body for body in bodies)
)
PATHS = st.sampled_from(
    ["a.yaml", "b.yaml", "c/d.yaml", "projects/shop/x.yaml", "projects/shop/environments/dev/y.yaml"]
)
TEXT_PATHS = st.sampled_from(["a.sh", "d.sh", "c/a.sh", "projects/shop/d.sh"])
STEPS = st.lists(
    st.tuples(
        st.dictionaries(PATHS, st.none() | CONTENTS, max_size=3),
        st.dictionaries(TEXT_PATHS, st.none() | st.sampled_from(["echo 1\n", "echo 2\n", ""]), max_size=2),
    ),
    min_size=1,
    max_size=6,
)
GOOD: dict[str, dict[str, Any]] = {
    "Project/shop": {"defaults": {"Build": {"timeout_seconds": 77}}},
    "Repository/shop/web": {"url": "https://e.org/x"},
    "Environment/shop/dev": {"defaults": {}},
    "Project/other": {"namespaces": [{"name": "aa"}]},
    "Team/t": {"members": []},
    "ServiceAccount/u/bot": {},
    "Deployment/shop/prod/aa/web": {"follow": "dev", "inputs": {}, "providers": {}},
    "Build/shop/_/one": {"triggers": [{"type": "build", "builds": ["two"]}]},
}
IN_FORCE = st.sets(st.sampled_from(sorted(GOOD))).map(lambda keys: {key: GOOD[key] for key in keys})


@settings(max_examples=100, deadline=None)
@given(STEPS, IN_FORCE)
def test_an_updated_tree_equals_a_fresh_one(
    steps: list[tuple[dict[str, str | None], dict[str, str | None]]], in_force: dict[str, dict[str, Any]]
) -> None:
    """Same resources, same errors, same opaque files; and `changed` holds all that differs."""
    tree, files, disk = Tree.empty(), dict[str, ParsedFile](), dict[str, str | None]()
    for contents, writes in steps:
        disk |= writes
        changes = {
            path: None if text is None else parse_file(text.encode()) for path, text in contents.items()
        }
        files = {path: parsed for path, parsed in {**files, **changes}.items() if parsed is not None}
        wanted = tree.wanted_texts(changes) | (tree.texts() & set(writes))
        before = tree
        tree = tree.update(changes, {path: disk.get(path) for path in wanted}, in_force)
        fresh = Tree.empty()
        fresh = fresh.update(files, {path: disk.get(path) for path in fresh.wanted_texts(files)}, in_force)
        assert fresh.errors == tree.errors
        assert fresh.declared == tree.declared
        assert fresh.opaque == tree.opaque
        keys = set(before.declared) | set(tree.declared)
        assert {key for key in keys if before.declared.get(key) != tree.declared.get(key)} <= tree.changed
