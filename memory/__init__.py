"""Storing and finding what was said; knows nothing of sockets, prompts or models.

Callers use :class:`memory.dual_memory.DualMemory`. The back ends stand behind two
contracts, :mod:`memory.long_term` (the truth) and :mod:`memory.short_term` (what is
going on right now, may be lost at any time).
"""

__version__ = "0.1.0"  # chat_server's as well; a test holds them together
