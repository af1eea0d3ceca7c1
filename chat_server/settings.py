"""The settings: ``config.toml``, overlaid by the environment; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from limits import parse_many
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

PREFIX = "TANDEM_"
"""``TANDEM_SERVER__PORT`` sets ``server.port``."""

SECRET_KEYS = frozenset({("auth", "secret"), ("auth", "admin_token")})
"""Taken from the environment only: a configuration file is copied, shown and committed."""

DEFAULT_SYSTEM_PROMPT = (
    "You are Tandem, a helpful assistant with a long memory. Answer in the language of the "
    "user, briefly and concretely. Use what you remember about the user where it helps; when "
    "you do not know something, say so."
)


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and what was expected."""


class Section(BaseModel):
    """A table of the configuration file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _begins_with(*beginnings: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and not value.lower().startswith(beginnings):
            raise ValueError(f"an address begins with {' or '.join(beginnings)}")
        return value

    return AfterValidator(check)


def _is_a_limit(value: str) -> str:
    parse_many(value)
    return value


HttpAddress = Annotated[str, _begins_with("http://", "https://")]
RedisAddress = Annotated[str, _begins_with("redis://", "rediss://", "unix://", "/")]
HttpLimit = Annotated[str, AfterValidator(_is_a_limit)]


class ServerSettings(Section):
    """``[server]``: where it listens, and what it takes in."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: int = Field(1, ge=1, le=64, description="server processes, which share the children")
    max_frame_bytes: int = Field(
        65_536, ge=1024, le=1_048_576, description="largest inbound WebSocket frame"
    )
    max_text_bytes: int = Field(
        12_000, ge=1, le=12_000, description="longest message, in UTF-8 bytes"
    )
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="further web origins that may connect; the server's own always may",
    )
    max_connections: int = Field(
        10_000, ge=1, description="WebSockets of one process; more are answered 503"
    )
    max_connections_per_user: int = Field(
        50, ge=1, description="WebSockets of one user in one process; more are closed with 4504"
    )
    drain_s: float = Field(
        10.0, ge=0, le=600, description="how long running replies may go on after a stop signal"
    )


class RedisSettings(Section):
    """``[redis]``: short-term memory."""

    url: RedisAddress = Field("", description='Redis to use; "" starts a private one')
    key_prefix: str = Field("chat:", min_length=1, description="begins every key")
    ttl_active_s: int = Field(86_400, ge=1, description="life of an active user's windows")
    ttl_inactive_s: int = Field(3_600, ge=1, description="life of an inactive user's windows")
    active_within_s: int = Field(
        86_400, ge=1, description="a user is active when the last activity is less than this ago"
    )
    window_messages: int = Field(10, ge=1, le=200, description="messages kept of a conversation")
    timeout_s: float = Field(0.25, gt=0, le=30, description="longest wait for an answer")


class ChromaSettings(Section):
    """``[chroma]``: long-term memory."""

    url: HttpAddress = Field("", description='Chroma server to use; "" starts a private one')
    collection_prefix: str = Field(
        "user_", pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$", description="begins every collection's name"
    )
    placement: Literal["sharded", "per_user"] = Field(
        "sharded", description="a few collections for all users, or one for each"
    )
    shards: int = Field(1, ge=1, le=64, description='collections with placement "sharded"')
    timeout_s: float = Field(5.0, gt=0, le=120, description="longest wait for an answer")


class LimitSettings(Section):
    """``[limits]``: how much may be sent."""

    per_user: int = Field(30, ge=1, le=10_000, description="messages of one user per window")
    global_: int = Field(10_000, ge=1, alias="global", description="messages of all per window")
    window_s: int = Field(60, ge=1, le=86_400, description="length of the window")
    http: HttpLimit = Field(
        "600/minute", description='HTTP requests of one client, such as "20/second;600/minute"'
    )


class RecallSettings(Section):
    """``[recall]``: what is remembered for a reply."""

    max_results: int = Field(5, ge=0, le=50, description="memories that go into a prompt")
    hot_messages: int = Field(
        2_000,
        ge=10,
        description="newest messages of a user that a search waits for; older ones follow",
    )
    hot_bytes: int = Field(200_000_000, ge=1_000_000, description="RAM for all users' memories")
    context_tokens: int = Field(
        3_000, ge=200, description="budget of a prompt, without the reply's own"
    )


class EmbeddingSettings(Section):
    """``[embedding]``: what turns texts into vectors."""

    model: str = Field(
        "all-MiniLM-L6-v2", min_length=1, description="sentence-transformers model, name or folder"
    )
    backend: Literal["onnx", "torch"] = Field(
        "onnx", description='"onnx" serves all-MiniLM-L6-v2 in int8; "torch" any model'
    )
    threads: int = Field(1, ge=1, le=16, description="texts embedded at the same time")

    @model_validator(mode="after")
    def _is_served(self) -> Self:
        if self.backend == "onnx" and self.model.rpartition("/")[2] != "all-MiniLM-L6-v2":
            raise ValueError('backend "onnx" serves all-MiniLM-L6-v2 only; take "torch"')
        return self


class ModelSettings(Section):
    """``[model]``: what writes replies."""

    name: str = Field("gpt-4o-mini", min_length=1, description="language model for replies")
    base_url: HttpAddress = Field(
        "", description='OpenAI-compatible server; "": OPENAI_BASE_URL, or OpenAI with a key'
    )
    max_tokens: int = Field(150, ge=1, description="longest reply")
    temperature: float = Field(0.7, ge=0, le=2, description="0 is sober, 2 is wild")
    system_prompt: str = Field(
        DEFAULT_SYSTEM_PROMPT, min_length=1, description="who the assistant is"
    )
    first_token_timeout_s: float = Field(
        30.0, gt=0, description="longest wait for a reply to begin"
    )
    idle_timeout_s: float = Field(15.0, gt=0, description="longest pause within a reply")


class AuthSettings(Section):
    """``[auth]``: who may come in."""

    guests: bool = Field(default=True, description="whether anybody may start a session")
    secret: SecretStr = Field(
        SecretStr(""), description="signs sessions; made at first start where none is given"
    )
    admin_token: SecretStr = Field(
        SecretStr(""), description="opens /admin and /metrics; made at first start likewise"
    )


class Settings(BaseSettings):
    """All settings; see docs/configuration.md."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    data_dir: Path = Field(Path("data"), description="everything that lasts lies here")
    server: ServerSettings = Field(default_factory=ServerSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    chroma: ChromaSettings = Field(default_factory=ChromaSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    recall: RecallSettings = Field(default_factory=RecallSettings)
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)


CLIENT_VARIABLES = frozenset({"url", "token"})
"""``TANDEM_URL`` and ``TANDEM_TOKEN`` are read by the clients among the commands."""
