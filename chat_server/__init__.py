"""The chat server: sockets, limits, turns and wiring."""

__version__ = "0.1.0"
