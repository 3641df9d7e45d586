"""The page about settings, made from their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from api.docs.tables import Schema, code, default, table, type_of
from reconciler.settings import HostCredentials, OidcProvider, Settings, Smtp

_NESTED: Mapping[str, type[BaseModel]] = {"credentials": HostCredentials, "oidc": OidcProvider, "smtp": Smtp}
_ABOUT = """\
# Settings

Made from the model that the daemon reads its settings with. They come from the file `steersman.toml` in the folder
where the daemon is started (or `--config FILE`), over it from the environment, over that from the flags of
`steersman serve`. In the environment a setting is `STEERSMAN_` and its name in capitals: `STEERSMAN_PORT=8090`; a part
of another one after two underscores: `STEERSMAN_OIDC__ISSUER`. Times are seconds, sizes bytes. An unknown setting is
an error.

```toml
repo = "https://git.example.org/team/specs.git"
data = "/var/lib/steersman"
external_url = "https://ci.example.org"
timezone = "Europe/Amsterdam"

[credentials."git.example.org"]
token_file = "/etc/steersman.git-token"
```

"""


def settings_page() -> str:
    """The page."""
    schema = Settings.model_json_schema()
    rows = [_row(name, field, schema) for name, field in schema["properties"].items()]
    parts = [_ABOUT + table(("setting", "what it may be", "default", "meaning"), rows)]
    for name, model in _NESTED.items():
        nested = model.model_json_schema()
        inner = [_row(each, field, nested) for each, field in nested["properties"].items()]
        about = " ".join((model.__doc__ or "").split())
        heading = f"## {code(name)}\n\n{about}"
        parts.append(f"{heading}\n\n{table(('field', 'what it may be', 'default', 'meaning'), inner)}")
    return "\n".join(parts)


def _row(name: str, field: Schema, schema: dict[str, Any]) -> tuple[str, str, str, str]:
    words = f"[{name}](#{name})" if name in _NESTED else type_of(field)
    what = default(field, required=name in schema.get("required", ()))
    if name == "data":  # the field makes it absolute, and so names a folder of this machine
        what = "`steersman-data`"
    if name.endswith("_bytes"):
        what = code(_size(field["default"]))
    return code(name), words, what, field.get("description", "")


def _size(count: int) -> str:
    """Bytes as settings' defaults are: whole MiB or GiB."""
    return f"{count >> 30} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
