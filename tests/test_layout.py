"""The shape of the project is tested: sizes, names, places of imports, tests beside code."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("chat_server", "memory")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST = 300
NO_NOUNS = ("utils", "helpers", "common", "base", "manager", "misc")
TOP_LEVEL = {
    "chat_server", "memory", "tests", "static", "bench", "docs", ".ci", "Procfile",
    "requirements.txt", "requirements-dev.txt", "config.toml", "pyproject.toml", "Makefile",
    "README.md", "CHANGELOG.md", "LICENSE", ".gitignore", ".gitattributes",
}  # fmt: skip
BOUNDARIES = {
    "chat_server/courier.py",  # one command of another process
    "chat_server/preparation.py",  # one draft
    "chat_server/reply.py",  # one reply
    "chat_server/supervision.py",  # long-lived tasks
    "chat_server/transfer.py",  # one import; its client is owed a last line
    "chat_server/turn.py",  # one turn
    "chat_server/websocket.py",  # one connection
    "chat_server/worker_line.py",  # one message of another process
    "memory/group_commit.py",  # one batch; who waits gets the error
    "memory/hot.py",  # one load; who waits gets the error
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_is_short_named_for_a_thing_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    assert not any(word in path.stem.split("_") for word in NO_NOUNS)
    assert ast.get_docstring(ast.parse(text)), "a module begins with what it is"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_stand_at_the_top_but_for_stated_reasons(path: Path) -> None:
    lines = path.read_text().splitlines()
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    assert "#" in lines[node.lineno - 1], (
                        f"line {node.lineno}: an import inside a function says why"
                    )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_everything_is_caught_only_at_the_stated_boundaries(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            wide = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert not wide or raises or relative(path) in BOUNDARIES


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_task_is_without_an_owner(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {
                "create_task",
                "ensure_future",
                "run_coroutine_threadsafe",
            }


def test_the_top_level_holds_what_belongs_there() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name.partition("/")[0] for name in listed} <= TOP_LEVEL


def test_each_module_with_behaviour_has_its_test_file() -> None:
    """Contracts, values and wiring are tested through what uses them."""
    elsewhere = {
        "chat_server": {
            "__init__", "__main__", "admin", "forwarded", "heir", "neighbourhood", "relay_upkeep",
            "app", "cli", "client_errors", "client_values", "desk", "finish",
            "http_routes", "placing", "reply", "reply_model", "security_headers", "server",
            "errands", "services", "session", "settings", "stages", "startup", "state", "stores",
            "terminal_chat", "children", "listener", "supervisor", "worker_messages",
            "worker_process", "workforce",
            "http_operations", "terminal_input", "terminal_reply", "turn", "websocket",
        },
        "memory": {
            "__init__", "__main__", "embedding", "long_term", "short_term", "recalled", "errors",
            "surroundings", "broker", "redis_calls", "redis_keys", "redis_runs", "redis_listener",
            "redis_messages",
        },
    }  # fmt: skip
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.stem not in elsewhere[package]:
                folder = ROOT / "tests" / path.relative_to(ROOT).parent
                assert (folder / f"test_{path.stem}.py").exists(), relative(path)
