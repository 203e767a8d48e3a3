"""The garbage collector of a replica."""

import gc

from cascade.serving.replica.garbage import freeze_loaded_objects


def test_what_is_loaded_is_no_longer_looked_at():
    loaded = [[number] for number in range(1000)]
    try:
        freeze_loaded_objects()
        assert gc.get_freeze_count() > len(loaded)
        assert not any(each is loaded for each in gc.get_objects())
    finally:
        gc.unfreeze()
