import signal
import sys

import pytest

from jobs.waiting import interrupts_are_raised


def _end_as_ray_does():
    with interrupts_are_raised():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(0)


def test_end_of_the_process_on_an_interrupt_is_raised_as_one_and_the_handler_restored():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _end_as_ray_does()
    assert signal.getsignal(signal.SIGINT) == before


def test_handler_is_restored_when_all_went_well():
    before = signal.getsignal(signal.SIGINT)
    with interrupts_are_raised():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGINT) == before
