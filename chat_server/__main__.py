"""``python -m chat_server``."""

from chat_server.cli import cli

if __name__ == "__main__":
    cli()
