"""For tests with a clock in them."""

import functools
import time


def thrice(test):
    """A test that may fail twice: what it times can be late on a busy machine, but not always."""

    @functools.wraps(test)
    def tried(*args, **options):
        for _ in range(2):
            try:
                return test(*args, **options)
            except AssertionError:
                time.sleep(2)
        return test(*args, **options)

    return tried
