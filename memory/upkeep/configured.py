"""Where the store is that a command works on: the options, the environment, ``config.toml``.

The server reads its settings in full and refuses what is wrong in them; the commands want three
of them and may run where the server does not, so they read these three themselves.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from memory.errors import UpkeepRefused

DEFAULT_FOLDER: Final = Path("data")
DEFAULT_PREFIX: Final = "user_"

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="The server's data folder; by default the configured one.",
        show_default=False,
    ),
]
"""The option that all commands have."""


class StorePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is: in the files of *data_dir*, or on the Chroma server at *url*."""

    data_dir: Path
    url: str
    prefix: str

    def files_for(self, doing: str, instead: str) -> Path:
        """The folder, if the store is in its files.

        Raises:
            UpkeepRefused: it is on another server; *doing* says what cannot be done there and
                *instead* what can.
        """
        if self.url:
            raise UpkeepRefused(
                f"the store is on the Chroma server {self.url} (chroma.url), whose files are not "
                f"at hand: {doing}; {instead}"
            )
        return self.data_dir


def configured(
    *, data_dir: Path | None = None, url: str | None = None, prefix: str | None = None
) -> StorePlace:
    """What the options say, else the environment, else ``config.toml`` (``TANDEM_CONFIG``).

    Who names a folder means its files, whatever ``chroma.url`` is.

    Raises:
        UpkeepRefused: the configuration file cannot be read, or both places were named.
    """
    if data_dir is not None and url:
        raise UpkeepRefused("give --data-dir or --url, not both")
    file = Path(os.environ.get("TANDEM_CONFIG", "config.toml"))
    content = _content(file)
    chroma = content.get("chroma")
    section: Mapping[str, object] = chroma if isinstance(chroma, dict) else {}
    found_url = os.environ.get("TANDEM_CHROMA__URL", _text(section, "url", ""))
    return StorePlace(
        data_dir=data_dir
        or Path(os.environ.get("TANDEM_DATA_DIR", _text(content, "data_dir", str(DEFAULT_FOLDER)))),
        url=url or ("" if data_dir is not None else found_url),
        prefix=prefix
        or os.environ.get(
            "TANDEM_CHROMA__COLLECTION_PREFIX",
            _text(section, "collection_prefix", DEFAULT_PREFIX),
        ),
    )


def _content(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        if "TANDEM_CONFIG" in os.environ:
            raise UpkeepRefused(f"{file}: no such configuration file") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UpkeepRefused(f"{file} cannot be read: {error}") from error


def _text(section: Mapping[str, object], key: str, default: str) -> str:
    value = section.get(key, default)
    return value if isinstance(value, str) else default
