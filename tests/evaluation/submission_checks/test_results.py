import math

import pytest

VIS = ("ytvis_2019", "ytvis_2021", "ytvis_2022", "ovis")


def with_row(position, **changes):
    """Change fields of one row; a field that is set to ``...`` goes."""

    def change(rows):
        row = {**rows[position], **changes}
        rows[position] = {key: value for key, value in row.items() if value is not ...}
        return rows

    return change


@pytest.mark.parametrize("name", VIS)
class TestYouTubeVis:
    def test_results_in_a_folder(self, submit, name):
        submission = submit(name)
        (submission.tree / "deep").mkdir()
        (submission.tree / "results.json").rename(submission.tree / "deep/results.json")
        assert submission.refusal() == (
            "deep/results.json: expected results.json at the top of the zip, not in a folder"
        )

    def test_other_name(self, submit, name):
        submission = submit(name)
        (submission.tree / "results.json").rename(submission.tree / "result.json")
        assert submission.refusal() == (
            "result.json: unexpected file, expected results.json at the top and nothing else"
        )

    def test_file_beside_it(self, submit, name):
        submission = submit(name)
        (submission.tree / "zzz.txt").write_text("x")
        assert submission.refusal() == (
            "zzz.txt: unexpected file, expected results.json at the top and nothing else"
        )

    def test_no_list(self, submit, name):
        submission = submit(name)
        submission.rewrite("results.json", lambda rows: {"annotations": rows})
        assert submission.refusal() == "results.json: holds a dict, expected a list of results"

    def test_truncated_json(self, submit, name):
        submission = submit(name)
        path = submission.tree / "results.json"
        path.write_bytes(path.read_bytes()[:100])
        assert submission.refusal().startswith("results.json: 100 bytes that are not whole JSON (")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"video_id": "1"}, "results.json[1]: 'video_id' is '1', expected int"),
            ({"video_id": True}, "results.json[1]: 'video_id' is True, expected int"),
            ({"video_id": 7}, "results.json[1]: 'video_id' is 7, expected one of the 3 of valid.json"),
            ({"video_id": ...}, "results.json[1]: no 'video_id', expected int"),
            (
                {"category_id": 0},
                "results.json[1]: 'category_id' is 0, expected one of the 2 categories, 4..9",
            ),
            ({"category_id": 4.0}, "results.json[1]: 'category_id' is 4.0, expected int"),
            ({"score": math.nan}, "results.json[1]: 'score' is nan, expected a finite number"),
            ({"score": math.inf}, "results.json[1]: 'score' is inf, expected a finite number"),
            ({"score": "0.5"}, "results.json[1]: 'score' is '0.5', expected int or float"),
            ({"score": True}, "results.json[1]: 'score' is True, expected a finite number"),
            ({"score": ...}, "results.json[1]: no 'score', expected int or float"),
            ({"segmentations": ...}, "results.json[1]: no 'segmentations', expected list"),
            (
                {"segmentations": [None, None]},
                "results.json[1]: 'segmentations' has 2 entries, expected 3: one per frame, "
                "null where nothing is visible",
            ),
            (
                {"segmentations": [None, [1, 2, 3, 4], None]},
                "results.json[1]: segmentations[1]: no 'size', expected list",
            ),
            (
                {"segmentations": [None, None, {"size": [8, 6], "counts": "n0"}]},
                "results.json[1]: segmentations[2]: 'size' is [8, 6], expected [6, 8] (height, width)",
            ),
            (
                {"segmentations": [None, None, {"size": [6, 8], "counts": [48]}]},
                "results.json[1]: segmentations[2]: 'counts' is a list of numbers, expected compressed text",
            ),
            (
                {"segmentations": [None, None, {"size": [6, 8], "counts": "5"}]},
                "results.json[1]: segmentations[2]: the runs cover 5 pixels, expected 6 x 8 = 48",
            ),
            (
                {"segmentations": [None, None, {"size": [6, 8], "counts": "~~"}]},
                "results.json[1]: segmentations[2]: the runs are no run lengths, expected 6 x 8 = 48",
            ),
        ],
    )
    def test_wrong_row(self, submit, name, changes, message):
        submission = submit(name)
        submission.rewrite("results.json", with_row(1, **changes))
        assert submission.refusal() == message

    def test_row_that_is_no_object(self, submit, name):
        submission = submit(name)
        submission.rewrite("results.json", lambda rows: [*rows, 5])
        assert submission.refusal() == "results.json[4]: no 'video_id', expected int"

    def test_more_keys_do_not_matter(self, submit, name):
        submission = submit(name)
        submission.rewrite("results.json", with_row(0, height=6, width=8))
        assert "fits" in submission.check()

    def test_no_track_at_all_is_fine(self, submit, name):
        submission = submit(name)
        submission.rewrite("results.json", lambda rows: [])
        assert "3 videos (3 without a track), 0 tracks" in submission.check()


def test_file_of_the_split_may_be_given_itself(submit):
    submission = submit("ovis")
    (submission.gt / "test.json").write_bytes((submission.gt / "valid.json").read_bytes())
    with pytest.raises(ValueError, match=r"holds test\.json, valid\.json; pass the file of your split"):
        submission.check()
    gt = submission.gt / "valid.json"
    assert "fits" in type(submission)(name="ovis", gt=gt, tree=submission.tree).check()


def test_folder_without_the_file_of_the_split_is_told(submit):
    submission = submit("ovis")
    (submission.gt / "valid.json").unlink()
    with pytest.raises(ValueError, match=r"^--gt .*: no JSON that lists the videos, expected one of"):
        submission.check()


class TestCocoInstances:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image_id": 9}, "'image_id' is 9, expected one of the 2 of image_info_test-dev2017.json"),
            ({"category_id": 1}, "'category_id' is 1, expected one of the 2 categories, 4..9"),
            ({"score": math.nan}, "'score' is nan, expected a finite number"),
            ({"segmentation": [[1, 2, 3, 4]]}, "'segmentation' is [[1, 2, 3, 4]], expected dict"),
            (
                {"segmentation": {"size": [5, 9], "counts": "n0"}},
                "segmentation: 'size' is [5, 9], expected [6, 8] (height, width)",
            ),
        ],
    )
    def test_wrong_row(self, submit, changes, message):
        submission = submit("coco_instances")
        submission.rewrite("results.json", with_row(0, **changes))
        assert submission.refusal() == f"results.json[0]: {message}"

    def test_any_name_will_do_but_not_in_a_folder(self, submit):
        submission = submit("coco_instances")
        path = submission.tree / "detections_test-dev2017_univs_results.json"
        (submission.tree / "results.json").rename(path)
        assert "fits" in submission.check()
        (submission.tree / "x").mkdir()
        path.rename(submission.tree / "x" / path.name)
        assert submission.refusal() == (
            f"x/{path.name}: expected {path.name} at the top of the zip, not in a folder"
        )


class TestBurst:
    def change(self, submission, change):
        submission.rewrite("results.json", lambda body: change(body) or body)
        return submission.refusal()

    def test_missing_sequence(self, submit):
        assert self.change(submit("burst"), lambda body: body["sequences"].pop(0) and None) == (
            "results.json: no sequence 'AVA/cat', expected those of all_classes.json"
        )

    def test_unknown_sequence(self, submit):
        submission = submit("burst")

        def add(body):
            body["sequences"].append({**body["sequences"][0], "seq_name": "bird"})

        assert self.change(submission, add) == (
            "results.json: unknown sequence 'AVA/bird', expected those of all_classes.json"
        )

    def test_wrong_number_of_frames(self, submit):
        assert self.change(
            submit("burst"), lambda body: body["sequences"][0]["segmentations"].pop() and None
        ) == ("results.json: AVA/cat: 'segmentations' has 2 entries, expected 3 annotated frames")

    def test_class_that_is_none(self, submit):
        assert self.change(
            submit("burst"), lambda body: body["sequences"][0]["track_category_ids"].update({"1": 5})
        ) == ("results.json: AVA/cat: track_category_ids: '1' is 5, expected one of the 2 categories")

    def test_track_without_a_class(self, submit):
        assert self.change(
            submit("burst"), lambda body: body["sequences"][0]["track_category_ids"].pop("1") and None
        ) == (
            "results.json: AVA/cat: segmentations[0], track '1': is not in track_category_ids, "
            "expected its class there"
        )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"score": math.nan}, "'score' is nan, expected a finite number"),
            ({"rle": "5"}, "the runs cover 5 pixels, expected 6 x 8 = 48"),
            ({"rle": {"counts": "5"}}, "'rle' is {'counts': '5'}, expected str"),
        ],
    )
    def test_wrong_mask(self, submit, changes, message):
        assert self.change(
            submit("burst"), lambda body: body["sequences"][0]["segmentations"][0]["1"].update(changes)
        ) == (f"results.json: AVA/cat: segmentations[0], track '1': {message}")

    def test_no_sequences(self, submit):
        submission = submit("burst")
        submission.rewrite("results.json", lambda body: body["sequences"])
        assert submission.refusal() == "results.json: no 'sequences', expected list"
