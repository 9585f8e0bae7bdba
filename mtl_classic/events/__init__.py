"""What happened: the event log, labels made from it, and history features that never look ahead."""

from mtl_classic.events._aggregate import Aggregate
from mtl_classic.events._history import HistoryFeatures
from mtl_classic.events._labels import label_from_events
from mtl_classic.events._log import EventLog

__all__ = ["Aggregate", "EventLog", "HistoryFeatures", "label_from_events"]
