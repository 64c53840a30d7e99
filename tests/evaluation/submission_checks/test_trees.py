import numpy as np
import pytest
from PIL import Image


def painted(value, at=(0, 0)):
    """Give one pixel of an indexed or gray picture another value."""

    def change(image):
        changed = image.copy()
        changed.putpixel(at[::-1], value)
        return changed

    return change


def recolored(value, color):
    def change(image):
        colors = image.getpalette()
        colors[3 * value : 3 * value + 3] = color
        changed = image.copy()
        changed.putpalette(colors)
        return changed

    return change


TREES = {
    "ytvos_2018": ("Annotations/", "Annotations/<video>/<frame>.png"),
    "ytvos_2019": ("Annotations/", "Annotations/<video>/<frame>.png"),
    "mose": ("", "<video>/<frame>.png"),
    "davis_2017": ("", "<video>/<frame>.png"),
    "viposeg": ("Annotations/", "Annotations/<video>/<frame>.png"),
    "vspw": ("", "<video>/<frame>.png"),
    "vipseg": ("pan_pred/", "pred.json and pan_pred/<video>/<frame>.png"),
}


@pytest.mark.parametrize("name", list(TREES))
class TestEveryVideoTree:
    def test_missing_video(self, submit, name):
        submission = submit(name)
        for path in (submission.tree / TREES[name][0] / "dog").iterdir():
            path.unlink()
        folder = f"{TREES[name][0]}dog"
        assert submission.refusal() == f"no {folder}/, expected the pictures of video 'dog'"

    def test_missing_frame(self, submit, name):
        submission = submit(name)
        (submission.tree / TREES[name][0] / "dog/00005.png").unlink()
        entry = f"{TREES[name][0]}dog/00005.png"
        assert submission.refusal() == f"no {entry}; 1 of 3 pictures of video 'dog' are missing"

    def test_wrong_frame_name(self, submit, name):
        submission = submit(name)
        folder = submission.tree / TREES[name][0] / "dog"
        (folder / "00005.png").rename(folder / "00001.png")
        assert submission.refusal() == (
            f"{TREES[name][0]}dog/00001.png: unexpected name, "
            "expected those of video 'dog': '00000', '00005', '00010'"
        )

    def test_unknown_video(self, submit, name):
        submission = submit(name)
        prefix, layout = TREES[name]
        extra = submission.tree / prefix / "bird/00000.png"
        extra.parent.mkdir()
        extra.write_bytes((submission.tree / prefix / "cat/00000.png").read_bytes())
        assert submission.refusal() == (
            f"{prefix}bird/00000.png: unexpected folder '{prefix}bird', "
            f"expected {layout}: one of '{prefix}cat', '{prefix}dog'"
        )

    def test_folder_level(self, submit, name):
        submission = submit(name)
        prefix, layout = TREES[name]
        (submission.tree / prefix / "dog").rename(submission.tree / "dog_")
        (submission.tree / prefix / "more/level").mkdir(parents=True)
        (submission.tree / "dog_").rename(submission.tree / prefix / "more/level/dog")
        assert submission.refusal() == (
            f"{prefix}more/level/dog/00000.png: unexpected folder level, "
            f"expected {layout} from the top of the zip"
        )

    def test_other_file(self, submit, name):
        submission = submit(name)
        prefix, layout = TREES[name]
        (submission.tree / prefix / "cat/.DS_Store").write_bytes(b"x")
        assert submission.refusal() == f"{prefix}cat/.DS_Store: unexpected file, expected only {layout}"

    def test_wrong_size(self, submit, name):
        submission = submit(name)
        entry = f"{TREES[name][0]}cat/00000.png"
        submission.repaint(entry, lambda image: image.resize((16, 12), Image.Resampling.NEAREST))
        assert submission.refusal() == f"{entry}: 12x16 pixels (height x width), expected 6x8"

    def test_picture_that_is_not_readable(self, submit, name):
        submission = submit(name)
        entry = f"{TREES[name][0]}cat/00000.png"
        path = submission.tree / entry
        path.write_bytes(path.read_bytes()[:50])
        assert submission.refusal() == f"{entry}: is not a readable PNG; write it again"

    def test_other_picture_format(self, submit, name):
        submission = submit(name)
        entry = f"{TREES[name][0]}cat/00000.png"
        path = submission.tree / entry
        with Image.open(path) as image:
            gray = image.convert("L")
        gray.save(path, "BMP")
        assert submission.refusal() == f"{entry}: is a BMP picture, expected a PNG"

    def test_other_mode(self, submit, name):
        submission = submit(name)
        entry = f"{TREES[name][0]}cat/00000.png"
        submission.repaint(entry, lambda image: image.convert("RGBA"))
        assert submission.refusal().startswith(f"{entry}: mode RGBA, expected ")


INDEXED = {name: TREES[name][0] for name in ("ytvos_2018", "ytvos_2019", "mose", "davis_2017", "viposeg")}


@pytest.mark.parametrize("name", list(INDEXED))
class TestIndexedMasks:
    def test_gray_png(self, submit, name):
        submission = submit(name)
        entry = f"{INDEXED[name]}cat/00000.png"
        submission.repaint(entry, lambda image: Image.fromarray(np.asarray(image), "L"))
        assert submission.refusal() == (
            f"{entry}: mode L, expected P: an indexed PNG whose values are object ids"
        )

    def test_id_that_was_not_given(self, submit, name):
        submission = submit(name)
        entry = f"{INDEXED[name]}dog/00010.png"
        submission.repaint(entry, painted(5))
        assert submission.refusal() == (
            f"{entry}: id 5 is not given, expected 0 and those of video 'dog': 3, 7"
        )


@pytest.mark.parametrize("name", ["ytvos_2018", "ytvos_2019", "davis_2017"])
def test_other_palette_than_that_of_the_given_masks(submit, name):
    submission = submit(name)
    entry = f"{INDEXED[name]}cat/00000.png"
    with Image.open(submission.tree / entry) as image:
        given = tuple(image.getpalette()[9:12])
    submission.repaint(entry, recolored(200, [1, 2, 3]))
    assert "fits" in submission.check()
    submission.repaint(entry, recolored(3, [1, 2, 3]))
    assert submission.refusal() == (
        f"{entry}: palette has (1, 2, 3) for id 3, expected {given} as in the given masks"
    )


@pytest.mark.parametrize("name", ["mose", "viposeg"])
def test_palette_that_nobody_asks_for_does_not_matter(submit, name):
    submission = submit(name)
    submission.repaint(f"{INDEXED[name]}cat/00000.png", recolored(3, [1, 2, 3]))
    assert "fits" in submission.check()


@pytest.mark.parametrize("name", ["ytvos_2018", "ytvos_2019", "viposeg"])
def test_object_that_is_drawn_before_it_is_given(submit, name):
    submission = submit(name)
    entry = f"{INDEXED[name]}cat/00000.png"
    submission.repaint(entry, painted(7, (3, 3)))
    assert submission.refusal() == f"{entry}: id 7 is drawn before frame 00005, which gives it"


@pytest.mark.parametrize("split", ["", "test-dev"])
def test_davis_takes_the_chosen_list(submit, split):
    submission = submit("davis_2017")
    (submission.gt / "ImageSets/2017/val.txt").write_text("cat\n")
    assert "2 videos" in submission.check(split)
    with pytest.raises(ValueError, match="dog/00000.png: unexpected folder 'dog'"):
        submission.check("val")
    with pytest.raises(ValueError, match=r"no ImageSets/2017/train\.txt, which lists the videos"):
        submission.check("train")


class TestExpressions:
    def test_missing_expression(self, submit):
        submission = submit("refytvos")
        for path in (submission.tree / "Annotations/dog/1").iterdir():
            path.unlink()
        assert submission.refusal() == (
            "no Annotations/dog/1/, expected the pictures of expression '1' of video 'dog'"
        )

    def test_missing_frame(self, submit):
        submission = submit("refytvos")
        (submission.tree / "Annotations/dog/1/00010.png").unlink()
        assert submission.refusal() == (
            "no Annotations/dog/1/00010.png; 1 of 3 pictures of expression '1' of video 'dog' are missing"
        )

    def test_no_top_folder(self, submit):
        submission = submit("refytvos")
        for path in (submission.tree / "Annotations").iterdir():
            path.rename(submission.tree / path.name)
        assert submission.refusal() == (
            "cat/0/00000.png: unexpected folder level, "
            "expected Annotations/<video>/<expression>/<frame>.png from the top of the zip"
        )

    def test_unknown_expression(self, submit):
        submission = submit("refytvos")
        folder = submission.tree / "Annotations/cat"
        (folder / "1").rename(folder / "2")
        assert submission.refusal().startswith(
            "Annotations/cat/2/00000.png: unexpected folder 'Annotations/cat/2', expected Annotations/"
        )

    def test_other_values(self, submit):
        submission = submit("refytvos")
        submission.repaint("Annotations/cat/0/00000.png", painted(1))
        assert submission.refusal() == "Annotations/cat/0/00000.png: value 1, expected 0 and 255 only"

    def test_palette(self, submit):
        submission = submit("refytvos")
        submission.repaint("Annotations/cat/0/00000.png", lambda image: image.convert("P"))
        assert submission.refusal() == (
            "Annotations/cat/0/00000.png: mode P, expected L: a gray PNG of 8 bits with 0 and 255"
        )

    def test_one_bit_is_fine(self, submit):
        submission = submit("refytvos")
        submission.repaint("Annotations/cat/0/00000.png", lambda image: image.convert("1"))
        assert "fits" in submission.check()

    def test_video_of_the_test_set_is_not_asked_for(self, submit):
        submission = submit("refytvos")
        (submission.gt / "meta_expressions/test/meta_expressions.json").unlink()
        with pytest.raises(ValueError, match=r"meta_expressions\.json: video 'later': no 'frames'"):
            submission.check()

    def test_without_images_sizes_are_not_checked_and_that_is_said(self, submit):
        submission = submit("refytvos")
        (submission.gt / "valid").rename(submission.gt / "elsewhere")
        assert "; sizes are not checked: no JPEGImages in --gt" in submission.check()


class TestClassMaps:
    def test_vspw_class_out_of_range(self, submit):
        submission = submit("vspw")
        submission.repaint("cat/00000.png", painted(2))
        assert submission.refusal() == "cat/00000.png: class 2, expected 0..1"

    def test_ade20k_class_out_of_range(self, submit):
        submission = submit("ade20k")
        submission.repaint("ADE_test_00000000.png", painted(151))
        assert submission.refusal() == "ADE_test_00000000.png: class 151, expected 0..150"

    def test_ade20k_missing_image(self, submit):
        submission = submit("ade20k")
        (submission.tree / "ADE_test_00000001.png").unlink()
        assert submission.refusal() == "no ADE_test_00000001.png; 1 of 2 pictures of the split are missing"

    def test_ade20k_in_a_folder(self, submit):
        submission = submit("ade20k")
        (submission.tree / "x").mkdir()
        (submission.tree / "ADE_test_00000001.png").rename(submission.tree / "x/ADE_test_00000001.png")
        assert submission.refusal() == (
            "x/ADE_test_00000001.png: unexpected folder level, expected <image>.png from the top of the zip"
        )
