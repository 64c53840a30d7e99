import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import Finding, ItemError
from preprocessing.masks import encode_mask
from preprocessing.sources.source import FileRange, SourceVideo
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


def warnings_of(video):
    return [(finding.code, finding.message) for finding in validate(video).findings]


def test_validate_sound_video_returns_the_stored_bytes(video):
    valid = validate(video)
    assert valid.frame_bytes == tuple(path.read_bytes() for path in video.frame_paths)
    assert valid.record == video.record
    assert valid.findings == ()


def test_validate_png_named_jpg_records_what_it_is(video):
    video.frame_paths[1].write_bytes(encode_image(image_format="PNG"))
    assert [frame.extension for frame in validate(video).record.frames] == ["jpg", "png", "jpg"]


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("1", "PNG")],
)
def test_validate_mode_other_than_rgb_is_w106_once_per_item(video, mode, image_format):
    for path in video.frame_paths[1:]:
        path.write_bytes(encode_image(mode=mode, image_format=image_format))
    assert validate(video).frame_bytes == tuple(path.read_bytes() for path in video.frame_paths)
    assert warnings_of(video) == [("W106", f"bear/00001.jpg: mode {mode} (and 1 more like it)")]


def test_validate_bad_frame_is_located_relative_to_the_source(video):
    video.frame_paths[2].write_bytes(b"")
    with pytest.raises(ItemError) as caught:
        validate(video, video.frame_paths[0].parents[1])
    assert caught.value.file == f"{video.frame_paths[0].parent.name}/00002.jpg"


def test_validate_frame_in_a_tar_is_read_and_located_in_it(video, tmp_path):
    tar = tmp_path / "sa_000000.tar"
    content = encode_image()
    tar.write_bytes(b"head" + content + b"tail")
    parts = [
        FileRange(path=tar, name=f"./{index}.jpg", offset=4, size=size)
        for index, size in enumerate([len(content), len(content), len(content) - 60])
    ]
    inside = replace(video, frame_paths=(parts[0], parts[1], parts[0]))
    assert validate(inside, tmp_path).frame_bytes == (content,) * 3
    with pytest.raises(ItemError) as caught:
        validate(replace(video, frame_paths=tuple(parts)), tmp_path)
    assert (caught.value.code, caught.value.file, caught.value.pointer) == (
        "E102",
        "sa_000000.tar",
        "./2.jpg",
    )
    past_end = replace(parts[2], offset=len(content))
    with pytest.raises(ItemError, match=r"\./2\.jpg unreadable: sa_000000\.tar ends at 8 of"):
        validate(replace(video, frame_paths=(*parts[:2], past_end)), tmp_path)


def test_validate_folder_in_place_of_a_frame_is_e102(video):
    video.frame_paths[2].unlink()
    video.frame_paths[2].mkdir()
    assert rejection(video) == ("E102", "bear/00002.jpg: 00002.jpg unreadable: Is a directory")


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
            assert error.code in {"E102", "E104"}  # noqa: PT017 - a pass is fine too


def test_validate_every_frame_of_other_size_is_e103(video):
    for path in video.frame_paths:
        path.write_bytes(encode_image(HEIGHT, WIDTH + 1))
    assert rejection(video) == ("E103", "bear/00000.jpg: image 31x20; expected 30x20 (w x h)")


def test_validate_one_frame_of_other_size_is_e104(video):
    video.frame_paths[2].write_bytes(encode_image(HEIGHT, WIDTH + 1))
    expected = "bear/00002.jpg: frame 2 is 31x20, those before it 30x20 (w x h)"
    assert rejection(video) == ("E104", expected)


def encode_turned(height, width, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [3, 6])
def test_validate_exif_orientation_on_the_annotated_raster_is_w105(video, orientation):
    video.frame_paths[1].write_bytes(encode_turned(HEIGHT, WIDTH, orientation))
    assert warnings_of(video) == [
        ("W105", f"bear/00001.jpg: EXIF orientation {orientation}, annotation fits the stored raster")
    ]


def test_validate_annotation_on_the_turned_image_is_e105(video):
    for path in video.frame_paths:
        path.write_bytes(encode_turned(WIDTH, HEIGHT, 6))
    assert rejection(video) == (
        "E105",
        "bear/00000.jpg: EXIF orientation 6, image stored as 20x30; annotation is for 30x20 (w x h); "
        "store the image turned",
    )


def test_validate_exif_upright_or_damaged_is_no_warning(video):
    video.frame_paths[0].write_bytes(encode_turned(HEIGHT, WIDTH, 1))
    content = encode_turned(HEIGHT, WIDTH, 6)
    video.frame_paths[1].write_bytes(content.replace(b"MM\0*", b"MMMM"))
    assert warnings_of(video) == []


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


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("boxes", ((0.0, 0.0, 1.0, 1.0),), "1 boxes, 3 frames"),
        ("areas", (1.0, None), "2 areas, 3 frames"),
        ("polygons", (None,) * 4, "4 polygons, 3 frames"),
    ],
)
def test_validate_official_list_of_other_length_is_e110(video, name, values, found):
    assert rejection(with_track(video, **{name: values})) == ("E110", f"bear: object 7: {found}")


@pytest.mark.parametrize(
    ("code", "changes", "found"),
    [
        ("E110", {"boxes": ((0, 1.5, "3", 4), None, None)}, "'3'"),
        ("E110", {"areas": (True, None, 2.5)}, "True"),
        ("E117", {"polygons": (None, None, ((1, 2, 3, 4, "5", 6),))}, "'5'"),
    ],
)
def test_validate_official_number_that_is_none_is_refused(video, code, changes, found):
    assert rejection(with_track(video, **changes)) == (code, f"bear: object 7: {found} is not a number")


def test_validate_category_without_a_label_space_is_e123(video):
    expected = "bear: object 7: category_id 3 without a label space"
    assert rejection(with_track(video, category_id=3)) == ("E123", expected)


def test_validate_extra_beyond_the_limit_is_e160(video):
    validate(with_track(video, extra="x" * 65536))
    expected = "bear: object 7: 65537 bytes of extra fields; expected at most 65536"
    assert rejection(with_track(video, extra="x" * 65537)) == ("E160", expected)


def with_frame(video, position, **changes):
    frames = list(video.record.frames)
    frames[position] = replace(frames[position], **changes)
    return replace(video, record=replace(video.record, frames=tuple(frames)))


def test_validate_frame_index_out_of_order_is_e110(video):
    expected = "bear: frame 00001.jpg has index 2 at place 1"
    assert rejection(with_frame(video, 1, index=2)) == ("E110", expected)


@pytest.mark.parametrize("name", ["../00001.jpg", "/etc/passwd", "C:\\a.jpg", ""])
def test_validate_frame_name_that_leaves_the_source_is_e190(video, name):
    expected = f"bear: {name!r}; expected a path inside the dataset"
    assert rejection(with_frame(video, 1, name=name)) == ("E190", expected)


def test_validate_region_shorter_than_the_video_is_e110(video):
    region = Region(kind="void", rles=(None,))
    record = replace(video.record, regions=(region,))
    expected = "bear: void region: 1 masks, 3 frames"
    assert rejection(replace(video, record=record)) == ("E110", expected)


def test_validate_single_frame_video_is_w150(video):
    track = replace(video.record.objects[0], states="V", rles=(square_rle(),))
    record = replace(video.record, frames=video.record.frames[:1], objects=(track,))
    single = SourceVideo(record=record, frame_paths=video.frame_paths[:1])
    expected = "bear: kept; training clips of several frames repeat it"
    assert warnings_of(single) == [("W150", expected)]
    assert warnings_of(replace(single, record=replace(record, kind="image"))) == []


def test_validate_keeps_the_findings_of_the_reader(video):
    finding = Finding(code="W138", message="bear: object 9", file="a.json", pointer="/objects/9")
    assert validate(replace(video, findings=(finding,))).findings == (finding,)


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
