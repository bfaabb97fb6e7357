"""Results on a disk or an object store, one record per key.

A record is one JSON file, `<key>.json`: the spec that made it, its metrics and predictions, and
where it was made, with a checksum over all of it. It is there whole or not at all; what is damaged is
named and set aside, never used; reading it never runs code.
"""

from wsnlib.store.records import AnyRecord, Integers, MeasurementRecord, Record, Summary, record_from_json
from wsnlib.store.stores import CheckpointFile, Failure, Remains, Store, StoreError, default_store, repository

__all__ = [
    "AnyRecord",
    "CheckpointFile",
    "Failure",
    "Integers",
    "MeasurementRecord",
    "Record",
    "Remains",
    "Store",
    "StoreError",
    "Summary",
    "default_store",
    "record_from_json",
    "repository",
]
