import errno

import numpy as np
import pytest

from jobs.errors import UserError, mistakes_travel, user_message
from jobs.session import ClusterConfig


def caught(call) -> BaseException:
    with pytest.raises((OSError, ValueError)) as error:
        call()
    return error.value


def test_value_refused_by_us_is_a_mistake_and_one_of_a_library_a_bug():
    ours = caught(lambda: ClusterConfig(num_cpus=-1))
    assert user_message(ours).startswith("UNIVS_NUM_CPUS must be at least 0")
    assert user_message(caught(lambda: np.ones(2) + np.ones(3))) is None
    assert user_message(caught(lambda: int("x"))) is None


def test_full_disk_says_what_to_do():
    error = OSError(errno.ENOSPC, "No space left on device", "/data/x.tar")
    assert user_message(error) == (
        "/data/x.tar: No space left on device; free space or choose another --out, and run again"
    )


def test_mistake_of_several_lines_is_shown_as_one():
    assert user_message(UserError("first\n  second")) == "first second"


def test_mistake_travels_from_a_worker_and_a_bug_stays_what_it_is(tmp_path):
    def work(call) -> None:
        with mistakes_travel():
            call()

    refused = caught(lambda: work(lambda: ClusterConfig(num_cpus=-1)))
    assert type(refused) is UserError
    missing = caught(lambda: work((tmp_path / "nothing").read_bytes))
    assert type(missing) is UserError
    assert str(missing) == f"{tmp_path}/nothing: No such file or directory"
    assert type(caught(lambda: work(lambda: np.ones(2) + np.ones(3)))) is ValueError
