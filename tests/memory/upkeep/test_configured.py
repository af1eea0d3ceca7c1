from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import UpkeepRefused
from memory.upkeep.configured import configured


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with no configuration, and an environment without."""
    monkeypatch.chdir(tmp_path)
    for key in ("DATA_DIR", "CONFIG", "CHROMA__URL", "CHROMA__COLLECTION_PREFIX"):
        monkeypatch.delenv(f"TANDEM_{key}", raising=False)
    return tmp_path


def test_without_a_word_it_is_the_server_s_default() -> None:
    place = configured()
    assert (place.data_dir, place.url, place.prefix) == (Path("data"), "", "user_")


def test_the_file_is_read_the_environment_goes_before_and_the_options_before_both(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'data_dir = "kept"\n[chroma]\nurl = "http://there:8000"\ncollection_prefix = "u-"\n'
    (elsewhere / "config.toml").write_text(text)
    place = configured()
    assert (place.data_dir, place.url, place.prefix) == (Path("kept"), "http://there:8000", "u-")
    monkeypatch.setenv("TANDEM_DATA_DIR", "/srv/kept")
    monkeypatch.setenv("TANDEM_CHROMA__URL", "http://other:8000")
    place = configured()
    assert (place.data_dir, place.url) == (Path("/srv/kept"), "http://other:8000")
    assert configured(url="http://third:8000").url == "http://third:8000"
    assert configured(prefix="x_").prefix == "x_"


def test_who_names_a_folder_means_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CHROMA__URL", "http://there:8000")
    place = configured(data_dir=Path("mine"))
    assert place.files_for("nothing", "nothing") == Path("mine")
    with pytest.raises(UpkeepRefused, match="not both"):
        configured(data_dir=Path("mine"), url="http://there:8000")


def test_files_that_are_elsewhere_are_refused_with_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TANDEM_CHROMA__URL", "http://there:8000")
    with pytest.raises(UpkeepRefused, match=r"http://there:8000 .*no copying; do export"):
        configured().files_for("no copying", "do export")


def test_a_configuration_that_cannot_be_read_is_an_error_not_a_default(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "config.toml").write_text("[chroma\n")
    with pytest.raises(UpkeepRefused, match=r"config\.toml cannot be read"):
        configured()
    monkeypatch.setenv("TANDEM_CONFIG", "missing.toml")
    with pytest.raises(UpkeepRefused, match="no such configuration file"):
        configured()
