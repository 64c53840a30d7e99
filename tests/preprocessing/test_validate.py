import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError
from preprocessing.masks import encode_mask
from preprocessing.sources.source import SourceVideo
from preprocessing.validate import check_annotation, validate
from univs.schema import Expression, Frame, ObjectTrack, Region, VideoRecord

HEIGHT, WIDTH = 20, 30


def encode_image(height=HEIGHT, width=WIDTH, image_format="JPEG", mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, image_format)
    return stream.getvalue()


def square_rle():
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[2:5, 3:9] = True
    return encode_mask(mask)


@pytest.fixture
def video(tmp_path):
    paths = tuple(tmp_path / f"{index:05d}.jpg" for index in range(3))
    for path in paths:
        path.write_bytes(encode_image())
    rle = square_rle()
    track = ObjectTrack(object_id=1, source_id="7", category_id=None, states="VAV", rles=(rle, None, rle))
    record = VideoRecord(
        dataset="davis_2017",
        split="val",
        item_id="bear",
        kind="video",
        height=HEIGHT,
        width=WIDTH,
        label_space=None,
        frames=tuple(Frame(index=i, name=path.name, extension="jpg") for i, path in enumerate(paths)),
        objects=(track,),
        expressions=(Expression(expression_id="0", text="a square", object_ids=(1,)),),
    )
    return SourceVideo(record=record, frame_paths=paths)


def with_track(video, **changes):
    track = replace(video.record.objects[0], **changes)
    return replace(video, record=replace(video.record, objects=(track,)))


def rejection(video):
    with pytest.raises(ItemError) as caught:
        validate(video)
    return caught.value.code, caught.value.message


def test_validate_sound_video_returns_the_stored_bytes(video):
    valid = validate(video)
    assert valid.frame_bytes == tuple(path.read_bytes() for path in video.frame_paths)
    assert valid.record == video.record


def test_validate_png_named_jpg_records_what_it_is(video):
    video.frame_paths[1].write_bytes(encode_image(image_format="PNG"))
    assert [frame.extension for frame in validate(video).record.frames] == ["jpg", "png", "jpg"]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_validate_gray_or_cmyk_jpeg_is_accepted(video, mode):
    video.frame_paths[1].write_bytes(encode_image(mode=mode))
    assert validate(video).record == video.record


def test_validate_missing_frame_is_e101(video):
    video.frame_paths[2].unlink()
    place = f"{video.frame_paths[2].parent.name}/00002.jpg"
    assert rejection(video) == ("E101", f"bear/00002.jpg: {place} not found; unpack the images completely")


def test_validate_empty_frame_is_e102(video):
    video.frame_paths[2].write_bytes(b"")
    assert rejection(video) == ("E102", "bear/00002.jpg: 00002.jpg has 0 bytes")


def test_validate_text_instead_of_image_is_e102(video):
    video.frame_paths[0].write_bytes(b"<html>404</html>")
    assert rejection(video) == ("E102", "bear/00000.jpg: 00000.jpg has 16 bytes: not an image")


def test_validate_gif_frame_is_e102(video):
    video.frame_paths[0].write_bytes(encode_image(image_format="GIF"))
    assert rejection(video) == ("E102", "bear/00000.jpg: 00000.jpg holds GIF data; expected JPEG or PNG")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_validate_frame_truncated_anywhere_is_e102(video, image_format):
    content = encode_image(image_format=image_format)
    for size in range(1, len(content) - 30, 13):
        video.frame_paths[1].write_bytes(content[:size])
        code, message = rejection(video)
        assert code == "E102"
        assert message.startswith(f"bear/00001.jpg: 00001.jpg has {size} bytes: ")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_validate_frame_with_flipped_bytes_is_accepted_or_rejected_but_never_crashes(video, image_format):
    content = encode_image(image_format=image_format)
    generator = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), 4):
            damaged[position] = generator.integers(0, 256)
        video.frame_paths[1].write_bytes(bytes(damaged))
        try:
            validate(video)
        except ItemError as error:
            assert error.code in {"E102", "E103"}  # noqa: PT017 - a pass is fine too


def test_validate_frame_of_other_size_is_e103(video):
    video.frame_paths[1].write_bytes(encode_image(HEIGHT, WIDTH + 1))
    assert rejection(video) == ("E103", "bear/00001.jpg: image 31x20; expected 30x20 (w x h)")


def test_validate_no_frames_is_e110(video):
    empty = SourceVideo(record=replace(video.record, frames=()), frame_paths=())
    assert rejection(empty) == ("E110", "bear: 0 files for 0 frames")


def test_validate_states_shorter_than_frames_is_e110(video):
    assert rejection(with_track(video, states="VA")) == (
        "E110",
        "bear: object 7: 2 states, 3 masks, 3 frames",
    )


def test_validate_visible_without_mask_is_e110(video):
    code, message = rejection(with_track(video, rles=(None, None, square_rle())))
    assert (code, message) == ("E110", "bear: object 7 frame 0: state 'V' with mask None")


def test_validate_unknown_state_letter_is_e110(video):
    assert rejection(with_track(video, states="VxV"))[1] == "bear: object 7 frame 1: state 'x' with mask None"


def test_validate_mask_of_other_size_is_e112(video):
    rle = encode_mask(np.ones((HEIGHT, WIDTH - 1), dtype=np.bool_))
    code, message = rejection(with_track(video, rles=(rle, None, rle)))
    assert (code, message) == ("E112", "bear: object 7 frame 0: runs sum to 580, expected 20 x 30 = 600")


def test_validate_empty_mask_is_e113(video):
    rle = encode_mask(np.zeros((HEIGHT, WIDTH), dtype=np.bool_))
    assert rejection(with_track(video, rles=(rle, None, rle))) == ("E113", "bear: object 7 frame 0: area 0")


def test_validate_object_ids_with_a_gap_is_e110(video):
    assert rejection(with_track(video, object_id=2)) == ("E110", "bear: object ids [2] are not 1..1")


def test_validate_expression_of_missing_object_is_e140(video):
    lost = Expression(expression_id="4", text="a dog", object_ids=(1, 7))
    record = replace(video.record, expressions=(lost,))
    assert rejection(replace(video, record=record)) == ("E140", "bear: expression 4 names object 7")


def test_check_annotation_partition_with_a_hole_is_e139(video):
    mask = np.ones((HEIGHT, WIDTH), dtype=np.bool_)
    mask[2:5, 3:9] = False
    whole = Region(kind="void", rles=(encode_mask(mask), encode_mask(np.ones_like(mask)), encode_mask(mask)))
    record = replace(video.record, is_partition=True, regions=(whole,))
    check_annotation(record)
    mask[0, 0] = False
    holed = replace(whole, rles=(encode_mask(mask), *whole.rles[1:]))
    with pytest.raises(ItemError, match=r"E139 .*: bear: frame 00000.jpg: 599 pixels of 600$"):
        check_annotation(replace(record, regions=(holed,)))
