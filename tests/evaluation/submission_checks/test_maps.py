from PIL import Image


def painted(image):
    changed = image.copy()
    changed.putpixel((0, 0), (5, 0, 0))
    return changed


class TestVipseg:
    def change(self, submission, change):
        submission.rewrite("pred.json", lambda body: change(body["annotations"]) or body)
        return submission.refusal()

    def test_no_index(self, submit):
        submission = submit("vipseg")
        (submission.tree / "pred.json").unlink()
        assert submission.refusal() == "no pred.json at the top, expected it beside pan_pred/"

    def test_video_that_is_not_listed(self, submit):
        assert self.change(submit("vipseg"), lambda rows: rows.pop(0) and None) == (
            "pred.json: no video 'cat', expected all 2"
        )

    def test_frame_that_is_not_listed(self, submit):
        assert self.change(submit("vipseg"), lambda rows: rows[0]["annotations"].pop() and None) == (
            "pred.json: video 'cat' lists no frame '00010', expected all of its frames"
        )

    def test_class_that_is_none(self, submit):
        def change(rows):
            rows[1]["annotations"][2]["segments_info"][0]["category_id"] = 5

        assert self.change(submit("vipseg"), change) == (
            "pred.json: dog/00010: segments_info[0]: 'category_id' is 5, expected one of the 2 categories"
        )

    def test_id_that_is_listed_twice(self, submit):
        def change(rows):
            infos = rows[0]["annotations"][0]["segments_info"]
            infos.append(infos[0])

        assert self.change(submit("vipseg"), change) == (
            "pred.json: cat/00000: an id is listed twice, expected one entry per segment"
        )

    def test_id_that_is_drawn_but_not_listed(self, submit):
        submission = submit("vipseg")
        submission.repaint("pan_pred/cat/00000.png", painted)
        assert submission.refusal() == (
            "pan_pred/cat/00000.png: id 5 is drawn, but the JSON does not list it"
        )

    def test_id_that_is_listed_but_not_drawn(self, submit):
        submission = submit("vipseg")
        submission.repaint("pan_pred/cat/00000.png", lambda image: Image.new("RGB", image.size))
        assert submission.refusal() == "pan_pred/cat/00000.png: id 2 is listed in the JSON, but not drawn"

    def test_gray_map(self, submit):
        submission = submit("vipseg")
        submission.repaint("pan_pred/cat/00000.png", lambda image: image.convert("L"))
        assert submission.refusal() == (
            "pan_pred/cat/00000.png: mode L, expected RGB whose colors are ids R + 256 G + 65536 B"
        )

    def test_index_without_annotations(self, submit):
        submission = submit("vipseg")
        submission.rewrite("pred.json", lambda body: body["annotations"])
        assert submission.refusal() == "pred.json: no 'annotations', expected list"


class TestCocoPanoptic:
    def change(self, submission, change):
        submission.rewrite("panoptic.json", lambda body: change(body["annotations"]) or body)
        return submission.refusal()

    def test_any_name_will_do_if_json_and_folder_agree(self, submit):
        submission = submit("coco_panoptic")
        (submission.tree / "panoptic.json").rename(submission.tree / "mine.json")
        assert submission.refusal() == (
            "panoptic/000000000001.png: unexpected folder 'panoptic', "
            "expected mine.json and mine/<image>.png: one of 'mine'"
        )
        (submission.tree / "panoptic").rename(submission.tree / "mine")
        assert "fits" in submission.check()

    def test_no_index(self, submit):
        submission = submit("coco_panoptic")
        (submission.tree / "panoptic.json").unlink()
        assert submission.refusal() == (
            "0 JSON files at the top, expected one NAME.json and NAME/<image>.png"
        )

    def test_image_that_is_not_listed(self, submit):
        assert self.change(submit("coco_panoptic"), lambda rows: rows.pop() and None) == (
            "panoptic.json: not listed: '000000000002'; expected every image"
        )

    def test_image_that_is_none(self, submit):
        assert self.change(submit("coco_panoptic"), lambda rows: rows[1].update(image_id=7)) == (
            "panoptic.json: annotations[1]: 'image_id' is 7, expected one of 2 images"
        )

    def test_other_file_name(self, submit):
        assert self.change(submit("coco_panoptic"), lambda rows: rows[0].update(file_name="1.png")) == (
            "panoptic.json: annotations[0]: 'file_name' is '1.png', expected '000000000001.png'"
        )

    def test_image_that_is_not_drawn(self, submit):
        submission = submit("coco_panoptic")
        (submission.tree / "panoptic/000000000001.png").unlink()
        assert submission.refusal() == (
            "no panoptic/000000000001.png; 1 of 2 pictures of the split are missing"
        )

    def test_class_that_is_none(self, submit):
        def change(rows):
            rows[0]["segments_info"][0]["category_id"] = 5

        assert self.change(submit("coco_panoptic"), change) == (
            "panoptic.json: annotations[0]: segments_info[0]: 'category_id' is 5, "
            "expected one of the 2 categories"
        )
