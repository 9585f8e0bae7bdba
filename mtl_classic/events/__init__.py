"""What happened: the event log, labels made from it, and history features that never look ahead."""

from mtl_classic.events._log import EventLog

__all__ = ["EventLog"]
