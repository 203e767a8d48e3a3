"""The garbage collector of a replica."""

import gc

__all__ = ["freeze_loaded_objects"]


def freeze_loaded_objects() -> None:
    """Exempts what is loaded from garbage collection; called once a replica has started.

    Libraries and models are some 300,000 objects. A full collection, which comes now and then under load, looks at all
    of them and stops the replica for a few tenths of a second.
    """
    gc.collect()
    gc.freeze()
