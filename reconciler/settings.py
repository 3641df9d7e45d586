"""Settings of one installation: defaults < steersman.toml < environment (STEERSMAN_…) < flags (design 10).

Read once by `api.cli` and handed down as a value; nothing else reads the environment or the file.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DEFAULT_FILE = Path("steersman.toml")
WriteMode = Literal["direct", "branch", "read-only"]
Subject = Annotated[str, Field(pattern=r"^(User/[^/\s]+|ServiceAccount/[^/\s]+/[^/\s]+)$")]
_DATABASES = ("postgresql", "postgres", "sqlite")


class HostCredentials(BaseModel):
    """How to fetch from one Git host: a key file for SSH, or a token (or a file that holds it) for HTTPS."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    username: str = "git"

    def secret(self) -> str | None:
        """The token in clear, read from its file where one is named."""
        if self.token_file is not None:
            return self.token_file.read_text(encoding="utf-8").strip()
        return self.token.get_secret_value() if self.token is not None else None


class Smtp(BaseModel):
    """The server that takes our mail."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str = Field(min_length=1)
    port: int = Field(default=25, ge=1, le=65535)
    security: Literal["none", "starttls", "tls"] = "none"
    username: str | None = None
    password: SecretStr | None = None
    password_file: FilePath | None = None
    sender: str = Field(default="steersman@localhost", pattern=r"^[^\s<>@]+@[^\s<>@]+$")

    def secret(self) -> str | None:
        """The password in clear, read from its file where one is named."""
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").strip()
        return self.password.get_secret_value() if self.password is not None else None


class OidcProvider(BaseModel):
    """The identity provider at which people sign in (OpenID Connect); without a secret we are a public client.

    `match_email`: a User without `oidc_subject` is also who has its address there, verified.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    issuer: str
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    client_secret_file: FilePath | None = None
    scopes: str = "openid email profile"
    match_email: bool = False

    @field_validator("issuer")
    @classmethod
    def _address(cls, value: str) -> str:
        if not is_safe_address(value) or set("?#@") & set(value):
            raise ValueError(
                "must be https://…, as the provider itself writes it; http only on this machine's loopback"
            )
        return value

    @field_validator("scopes")
    @classmethod
    def _with_openid(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("must hold `openid`, without which nobody's identity is told")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> OidcProvider:
        if self.client_secret is not None and self.client_secret_file is not None:
            raise ValueError("give either `client_secret` or `client_secret_file`")
        return self

    def secret(self) -> str | None:
        """The client's secret in clear, read from its file where one is named."""
        if self.client_secret_file is not None:
            return self.client_secret_file.read_text(encoding="utf-8").strip()
        return self.client_secret.get_secret_value() if self.client_secret is not None else None


class Settings(BaseSettings):
    """Everything an operator can set. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix="STEERSMAN_", extra="forbid", frozen=True, env_nested_delimiter="__"
    )
    toml_file: ClassVar[Path | None] = None

    # the source
    repo: str = Field(default=".", description="spec repository: a local path or a URL")
    branch: str = Field(default="main", description="branch of the spec repository that is followed")
    path: str = Field(default=".", description="folder of the spec repository that holds the specs")
    poll_seconds: float = Field(default=60, gt=0, description="how often a remote source is fetched")
    resync_seconds: float = Field(default=600, gt=0, description="slow full pass over everything")

    # the server
    data: Path = Field(default=Path("steersman-data"), description="data directory of the daemon")
    database: str | None = Field(
        default=None, description="postgresql://… instead of SQLite in the data directory"
    )
    object_store: str | None = Field(
        default=None,
        pattern=r"^(s3|gs|az|file)://",
        description="s3://BUCKET/PREFIX, gs://…, az://… or file:///FOLDER, for attachments and finished logs",
    )
    object_store_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="options of the object store by name, such as `endpoint`; else its environment variables",
    )
    executors: tuple[str, ...] = Field(
        default=("*",), description="names of the executors whose trials this process runs; `*`: all of them"
    )
    max_load: float | None = Field(
        default=None, gt=0, description="the greatest load on this machine, instead of the executors' own"
    )
    lease_seconds: float | None = Field(
        default=None,
        ge=5,
        description="scripts end when the database has not heard of this process for so long; 10 for workers",
    )
    worker_name: str | None = Field(
        default=None, min_length=1, description="how this process is shown to people; else its host's name"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    external_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+$",
        description="address of this server for people, scripts and links; else http://HOST:PORT",
    )
    internal_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+$",
        description="address at which the other daemons reach this one; else http://HOST:PORT",
    )
    timezone: str = Field(default="UTC", description="of schedules that name none, and of scripts")
    admin_token: SecretStr | None = Field(
        default=None, description="the administrator's token, instead of a random one"
    )
    oidc: OidcProvider | None = Field(default=None, description="identity provider at which people sign in")
    sign_in_hours: float = Field(default=12, gt=0, le=8760, description="how long a sign-in is good")
    wrong_credentials_per_minute: int = Field(
        default=60, gt=0, description="by address and by name; beyond, a minute's wait"
    )
    insecure_no_auth: bool = Field(
        default=False, description="everybody is the administrator; for a closed loopback only"
    )
    anonymous_read: tuple[Literal["builds.sr.ht", "pdc", "sqedule"], ...] = Field(
        default=(), description="dialects whose public pages are read without a token"
    )
    anonymous_as: dict[Literal["pdc", "sqedule"], Subject] = Field(
        default_factory=dict,
        description="by dialect, the subject (`User/alice`) that requests without credentials act as",
    )
    log_format: str = Field(
        default="auto",
        pattern="^(auto|console|json)$",
        description="console, json, or auto: by whether it is a terminal",
    )

    # writing to the source
    write_mode: WriteMode = Field(
        default="direct",
        description="API writes of declared things: direct, branch (to be merged) or read-only",
    )
    write_modes: dict[str, WriteMode] = Field(
        default_factory=dict, description="the same by project, where it differs"
    )
    project_creation: Literal["administrators", "any"] = Field(
        default="administrators", description="who may add projects through an API"
    )
    committer_name: str = Field(default="Steersman", description="committer of commits that API writes make")
    committer_email: str = Field(default="steersman@localhost", description="the committer's address")
    signing_key: Path | None = Field(default=None, description="SSH private key that signs these commits")

    # safety
    allow_local_repositories: bool = Field(
        default=False, description="let specs name repositories of this machine by path"
    )
    key_file: Path | None = Field(
        default=None, description="the server's key, to which secrets are sealed; else server.key in `data`"
    )
    accept_key: bool = Field(
        default=False, description="take the key file although the store knows another, which is lost"
    )
    allow_unsandboxed: bool = Field(
        default=False, description="run scripts without bubblewrap where it is absent or switched off"
    )
    webhook_secret: SecretStr | None = Field(default=None, description="secret that signs push webhooks")
    credentials: dict[str, HostCredentials] = Field(
        default_factory=dict, description="fetch credentials by Git host"
    )
    private_addresses: bool = Field(
        default=False, description="let webhooks that others ask for reach addresses that are not public"
    )
    smtp: Smtp | None = Field(default=None, description="the mail server, for those who ask for mail")

    # limits
    file_bytes: int = Field(default=1 << 20, gt=0, description="largest specification file")
    body_bytes: int = Field(default=8 << 20, gt=0, description="largest request body")
    webhook_bytes: int = Field(default=1 << 20, gt=0, description="largest webhook body")
    log_bytes: int = Field(default=100 << 20, gt=0, description="largest log of a script")
    attachment_bytes: int = Field(default=1 << 30, gt=0, description="largest attachment")
    cache_bytes: int = Field(default=10 << 30, gt=0, description="disk that caches of tasks may take in all")
    package_cache_bytes: int = Field(
        default=2 << 30, gt=0, description="disk that the cache of packages of releases may take in all"
    )
    disk_reserve_bytes: int = Field(
        default=1 << 30, ge=0, description="disk that stays free: what takes most is ended before"
    )
    retention_days: int = Field(
        default=90, gt=0, description="how long finished jobs, their logs and attachments are kept"
    )
    manifest_timeout_seconds: int = Field(
        default=45 * 60, gt=0, description="how long a job of a manifest may run in all"
    )
    dispatch_timeout_seconds: int = Field(
        default=30 * 60,
        gt=0,
        description="how long a triggered job of a project configuration may wait for an executor",
    )
    stop_grace_seconds: float = Field(
        default=30, ge=0, description="between TERM and KILL when a script is stopped"
    )

    @field_validator("data", "key_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("external_url")
    @classmethod
    def _normal(cls, value: str | None) -> str | None:
        """As browsers write an origin: in lower case, without the port that goes without saying."""
        if value is None:
            return None
        parts = urlsplit(value.lower())
        if "@" in parts.netloc:
            raise ValueError("must be an address without a name or password")
        usual = {"http": 80, "https": 443}[parts.scheme]
        return f"{parts.scheme}://{parts.netloc.removesuffix(f':{usual}')}"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {value!r}; use a name such as Europe/Amsterdam") from error
        return value

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is not None and value.partition("://")[0].partition("+")[0] not in _DATABASES:
            raise ValueError(
                "must begin with postgresql://; without it, SQLite in the data directory is taken"
            )
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, the environment over the file."""
        file = cls.toml_file or DEFAULT_FILE
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file))

    @property
    def address(self) -> str:
        """Where it listens, for who is on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}"

    @property
    def url(self) -> str:
        """Where people, scripts and links reach this server, without a slash at the end."""
        return self.external_url or self.address

    @property
    def key_path(self) -> Path:
        """Where the server's key lies."""
        return self.key_file or self.data / "server.key"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the store."""
        if self.database is None:
            return f"sqlite:///{self.data / 'steersman.db'}"
        scheme, _, rest = self.database.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else self.database


def is_safe_address(url: str) -> bool:
    """Does nobody on the way read or change what goes there: https, or http that does not leave this machine?"""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    try:
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def load(flags: dict[str, Any], file: Path | None = None) -> Settings:
    """Settings from all places; `flags` holds only what the caller was given explicitly."""
    if file is not None:
        if not file.is_file():
            raise FileNotFoundError(f"settings file {file} does not exist")
        chosen = type("Settings", (Settings,), {"toml_file": file, "__module__": __name__})
        return chosen(**flags)  # type: ignore[no-any-return]
    return Settings(**flags)


def forget_environment() -> None:
    """Take all settings out of this process's environment: some are secrets, and what it starts needs none."""
    names = tuple(f"STEERSMAN_{name.upper()}" for name in Settings.model_fields)
    for name in [each for each in os.environ if each.upper().partition("__")[0] in names]:
        del os.environ[name]
