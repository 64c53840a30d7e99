"""Whatever is wrong with a JSON file, the complaint is one line of ours, never an error of Python's."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import user_message

FILES = {
    "ytvis_2021": "results.json",
    "coco_instances": "results.json",
    "burst": "results.json",
    "vipseg": "pred.json",
    "coco_panoptic": "panoptic.json",
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**40),
    st.floats(),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.just([[1]]),
    st.just({"size": [6, 8], "counts": "0"}),
)


def places(node, path=()):
    """List the places of all values of a JSON body, without the body itself."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def replaced(body, path, value):
    changed = copy.deepcopy(body)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", list(FILES))
def test_any_value_anywhere_is_accepted_or_refused_in_one_line(submit, name):
    submission = submit(name)
    file = submission.tree / FILES[name]
    good = json.loads(file.read_text())
    everywhere = list(places(good))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(path=st.sampled_from(everywhere), value=VALUES)
    def judge(path, value):
        file.write_text(json.dumps(replaced(good, path, value)))
        try:
            line = submission.check()
        except ValueError as error:
            line = user_message(error)
        assert line is not None
        assert "\n" not in line
        assert line.startswith(str(submission.zip))

    judge()
