"""The pages of a TIFF as its file calls them: channels of a picture, slices of a volume, points in time."""

import io
import re
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from stages.lib.core.errors import UserError
from stages.lib.ingest import pieces
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.decoding import decode
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers import image
from stages.lib.ingest.readers.contract import Case, Inspected, Options, Rejected
from stages.lib.ingest.readers.pictures import tiff as tiff_pages
from stages.lib.params.ingest import IngestParams
from tests import hostile_files as hostile
from tests.ingest.readers.test_image import encoded, read, reason, tiff
from tests.raw_data import ingest

RNG = np.random.default_rng(0)
T, Z, C, H, W = 2, 4, 3, 9, 12
VOXELS = RNG.integers(0, 65536, (T, Z, C, H, W)).astype(np.uint16)


def volumes(content: bytes, **params: object) -> tuple[list[Case], list[np.ndarray]]:
    """The volumes of a file, (C, D, H, W), by the reader's three functions."""
    options = Options(IngestParams(frames="stack", **params), OPEN)  # type: ignore[arg-type]
    common, own = image.inspect(content, options)
    assembly = image.assemble([Inspected("a", b"", common, own)], [], options)
    for refusal in assembly.refused:
        raise Rejected(refusal.reason, refusal.detail)
    found = []
    for case in assembly.cases:
        blocks = [
            block
            for start in range(case.blocks)  # each alone, as several workers ask for them
            for block in image.read(case.files, case.recipe, start, start + 1, lambda file: content, options)
        ]
        assert {block.dtype.name for block in blocks} == {case.dtype}
        found.append(np.stack(blocks).reshape(case.shape))
    return assembly.cases, found


def refused(content: bytes, **params: object) -> Rejected:
    with pytest.raises(Rejected) as error:
        volumes(content, **params)
    return error.value


def ome(pixels: np.ndarray, axes: str, **metadata: object) -> bytes:
    return tiff(pixels, ome=True, photometric="minisblack", metadata={"axes": axes, **metadata})


def imagej(pixels: np.ndarray, axes: str, resolution=None, truncate=False, **metadata: object) -> bytes:
    stream = io.BytesIO()
    given = {"axes": axes, **metadata}
    tifffile.imwrite(stream, pixels, imagej=True, resolution=resolution, truncate=truncate, metadata=given)
    return stream.getvalue()


def told(pixels: np.ndarray, axes: str, **options: object) -> bytes:
    return tiff(pixels, photometric="minisblack", metadata={"axes": axes}, **options)


# Channels


@pytest.mark.parametrize("write", [ome, imagej, told])
def test_pages_that_a_file_calls_channels_are_channels_of_one_picture(write):
    pixels = RNG.integers(0, 256, (5, H, W)).astype(np.uint8)
    assert np.array_equal(read(write(pixels, "CYX")), pixels.transpose(1, 2, 0))
    pixels = RNG.normal(0, 1, (5, H, W)).astype(np.float32)
    assert np.array_equal(read(write(pixels, "CYX")), pixels.transpose(1, 2, 0))


@pytest.mark.parametrize("write", [ome, imagej, told])
def test_a_frame_has_all_of_its_channels(write):
    content = write(VOXELS, "TZCYX")
    assert reason(content) == "several_frames"
    assert np.array_equal(read(content, frames="first"), VOXELS[0, 0].transpose(1, 2, 0))
    assert np.array_equal(read(content, frame=5, frames="split"), VOXELS[1, 1].transpose(1, 2, 0))
    assert np.array_equal(read(content, frame=1, frames=3), VOXELS[0, 3].transpose(1, 2, 0))


@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "ZCTYX", "CTZYX", "CZTYX"])
def test_the_order_of_the_pages_is_that_of_the_ome_xml(axes):
    pixels = np.ascontiguousarray(VOXELS.transpose(["TZCYX".index(axis) for axis in axes]))
    _, found = volumes(ome(pixels, axes), split_4d="all")
    assert np.array_equal(
        sorted(found, key=lambda x: x.tolist()), sorted(VOXELS.swapaxes(1, 2), key=lambda x: x.tolist())
    )


def test_channels_of_several_sizes_or_depths_are_refused():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        description = "ImageJ=1.54f\nimages=2\nchannels=2\n"
        writer.write(VOXELS[0, 0, 0], description=description, metadata=None)
        writer.write(VOXELS[0, 0, 0, :-1], metadata=None)
    assert reason(stream.getvalue()) == "mixed_sizes"
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(VOXELS[0, 0, 0], description=description, metadata=None)
        writer.write(VOXELS[0, 0, 0].astype(np.float32), metadata=None)
    assert reason(stream.getvalue()) == "mixed_pixels"


# Volumes


@pytest.mark.parametrize("write", [ome, imagej, told])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_slices_become_a_volume(write, dtype):
    pixels = (VOXELS[0, :, 0] // 256).astype(dtype)
    (case,), (found,) = volumes(write(pixels, "ZYX"))
    assert case.shape == (1, Z, H, W) and case.dtype == dtype
    assert np.array_equal(found[0], pixels)


@pytest.mark.parametrize("write", [ome, imagej, told])
def test_slices_of_several_channels_become_a_volume_of_these_channels(write):
    (case,), (found,) = volumes(write(VOXELS[0], "ZCYX"))
    assert case.shape == (C, Z, H, W)
    assert np.array_equal(found, VOXELS[0].swapaxes(0, 1))


def test_pages_of_which_nothing_is_said_are_slices():
    (case,), (found,) = volumes(tiff(VOXELS[0, :, 0], photometric="minisblack", metadata=None))
    assert case.spacing_mm is None and case.noted == ("spacing_unknown",)
    assert np.array_equal(found[0], VOXELS[0, :, 0])


def test_pages_in_colour_become_a_volume_in_colour():
    pixels = RNG.integers(0, 256, (Z, H, W, 3)).astype(np.uint8)
    _, (found,) = volumes(tiff(pixels, photometric="rgb", metadata=None))
    assert np.array_equal(found, pixels.transpose(3, 0, 1, 2))


def test_frames_of_an_animation_are_slices_too():
    frames = [Image.fromarray((VOXELS[0, z, 0] // 256).astype(np.uint8)) for z in range(Z)]
    _, (found,) = volumes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.array_equal(found[0], [np.asarray(frame) for frame in frames])


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_big_tiled_and_packed_stacks_are_read(tile, compression, bigtiff):
    pixels = RNG.integers(0, 65536, (Z, 40, 50)).astype(np.uint16)
    content = tiff(pixels, photometric="minisblack", tile=tile, compression=compression, bigtiff=bigtiff)
    _, (found,) = volumes(content)
    assert np.array_equal(found[0], pixels)


def test_points_in_time_are_phases():
    content = ome(VOXELS, "TZCYX")
    error = refused(content)
    assert error.reason == "several_at_a_place" and "ingest.split_4d can be all" in error.detail
    expected = VOXELS.swapaxes(1, 2)
    cases, found = volumes(content, split_4d="all")
    assert [dict(case.attributes)["phase"] for case in cases] == ["0", "1"]
    assert len({case.case for case in cases}) == 2 and len({case.patient for case in cases}) == 1
    assert np.array_equal(found, expected)
    assert np.array_equal(volumes(content, split_4d=1)[1], expected[1:])
    assert np.array_equal(volumes(content, split_4d="first")[1], expected[:1])
    mean = np.rint(expected.mean(axis=0)).astype(np.uint16)
    assert np.array_equal(volumes(content, split_4d="mean")[1], [mean])
    assert refused(content, split_4d=2).reason == "several_at_a_place"


def test_points_in_time_of_single_pictures_are_no_volume():
    error = refused(imagej(VOXELS[:, 0, 0], "TYX"), split_4d="all")
    assert error.reason == "single_slice" and "2 points in time, as ImageJ says" in error.detail
    assert refused(tiff(VOXELS[0, 0, 0])).reason == "single_slice"
    assert refused(encoded(np.zeros((8, 8), np.uint8), "PNG")).reason == "single_slice"


@pytest.mark.parametrize("axes", ["YX", "CYX"])
def test_a_stack_that_imagej_wrote_behind_one_page_is_read_where_the_file_holds_it(axes):
    for dtype in ("uint8", "uint16", "float32"):
        pixels = (VOXELS[0, :, 0] // 256 if axes == "YX" else VOXELS[0] // 256).astype(dtype)
        content = imagej(pixels, "Z" + axes, truncate=True)
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert len(file.pages) == 1
        _, (found,) = volumes(content)
        assert np.array_equal(found, pixels[None] if axes == "YX" else pixels.swapaxes(0, 1))
        assert np.array_equal(read(content, frame=2, frames="split"), np.atleast_3d(pixels[2].T).swapaxes(0, 1))
        assert refused(content[: -pixels[0].nbytes]).reason == "truncated"


def test_what_tifffile_wrote_behind_one_page_is_read_too():
    for written in (VOXELS[0, :, 0], VOXELS[0, :, 0].astype(np.float64)):
        content = tiff(written, photometric="minisblack", truncate=True)
        assert reason(content) == "several_frames"
        _, (found,) = volumes(content)
        assert np.array_equal(found[0], written)


def lsm(pixels: np.ndarray, slices: int, times: int, scan: int, number: int = 0x00400494C) -> bytes:
    """Zeiss' LSM: each picture with a thumbnail behind it."""
    channels, height, width = pixels.shape[1:]
    sizes = struct.pack("<8i", width, height, slices, channels, times, 2, 8, 8)
    info = struct.pack("<2I", number, 512) + sizes + struct.pack("<6d", 2e-7, 3e-7, 1e-6, 0, 0, 0)
    info = (info + struct.pack("<H", scan)).ljust(512, b"\0")
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for i, picture in enumerate(pixels):
            tags = [(34412, 1, len(info), info, True)] if i == 0 else []
            options = {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}
            writer.write(picture, extratags=tags, **options)
            writer.write(picture[:, ::2, ::2], subfiletype=1, **options)
    return stream.getvalue()


def test_an_lsm_says_itself_which_of_its_pages_are_slices_and_which_points_in_time():
    pixels = VOXELS.reshape(T * Z, C, H, W)
    content = lsm(pixels, slices=Z, times=T, scan=6)
    cases, found = volumes(content, split_4d="all")
    assert np.array_equal(found, VOXELS.swapaxes(1, 2))
    assert cases[0].spacing_mm == pytest.approx((1e-3, 3e-4, 2e-4))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert np.array_equal(file.series[0].asarray(), VOXELS)
    assert np.array_equal(read(content, frame=5, frames="split"), pixels[5].transpose(1, 2, 0))
    assert refused(lsm(pixels, slices=1, times=T * Z, scan=3), split_4d="all").reason == "single_slice"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"slices": Z, "times": T + 1, "scan": 6}, "unsupported_format"),
        ({"slices": Z, "times": T, "scan": 2}, "unsupported_format"),
        ({"slices": Z, "times": T, "scan": 6, "number": 1}, "malformed"),
    ],
)
def test_an_lsm_of_which_nothing_is_certain_is_refused(given, expected):
    assert refused(lsm(VOXELS.reshape(T * Z, C, H, W), **given), split_4d="all").reason == expected


# Spacing


@pytest.mark.parametrize(
    ("unit", "mm"),
    [
        *(("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("nm", 1e-6), ("mm", 1), ("inch", 25.4)),
        *(("Microns", 1e-3), ("micrometre", 1e-3), ("Micrometers", 1e-3), ("MM", 1), ("millimeter", 1), ("UM", 1e-3)),
        *(("\\u03BCm", 1e-3), ("inches", 25.4), ("centimetres", 10), ("m", 1e3)),
    ],
)
def test_imagejs_spacing_is_converted_to_millimetres(unit, mm):
    content = imagej(VOXELS[0, :, 0], "ZYX", resolution=(4, 2), spacing=1.5, unit=unit)
    (case,), _ = volumes(content)
    assert case.spacing_mm == pytest.approx((1.5 * mm, 0.5 * mm, 0.25 * mm))
    assert case.noted == ()


@pytest.mark.parametrize(("unit", "mm"), [("µm", 1e-3), ("nm", 1e-6), ("mm", 1.0), ("Å", 1e-7)])
def test_the_spacing_of_ome_is_converted_to_millimetres(unit, mm):
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.5}
    units = {f"{name}Unit": unit for name in sizes}
    (case,), _ = volumes(ome(VOXELS[0, :, 0], "ZYX", **sizes, **units))
    assert case.spacing_mm == pytest.approx((1.5 * mm, 0.5 * mm, 0.25 * mm))
    (case,), _ = volumes(ome(VOXELS[0, :, 0], "ZYX", **sizes))
    assert case.spacing_mm == pytest.approx((1.5e-3, 0.5e-3, 0.25e-3)), "OME's default unit"


@pytest.mark.parametrize(
    "content",
    [
        imagej(VOXELS[0, :, 0], "ZYX", resolution=(4, 2), spacing=1.5, unit="pixel"),
        imagej(VOXELS[0, :, 0], "ZYX", resolution=(4, 2), unit="um"),
        imagej(VOXELS[0, :, 0], "ZYX", resolution=(4, 2), spacing=0, unit="um"),
        ome(VOXELS[0, :, 0], "ZYX", PhysicalSizeX=1, PhysicalSizeY=1),
        ome(VOXELS[0, :, 0], "ZYX", PhysicalSizeX=1, PhysicalSizeY=1, PhysicalSizeZ=1, PhysicalSizeZUnit="pixel"),
    ],
)
def test_a_spacing_that_is_not_wholly_known_is_unknown_and_counted(content):
    (case,), _ = volumes(content)
    assert case.spacing_mm is None and case.noted == ("spacing_unknown",)
    (case,), _ = volumes(content, spacing_mm=(3.0, 2.0, 1.0))
    assert case.spacing_mm is not None and case.noted == ()


def by_imagej(unit: bytes, spacing: bytes = b"") -> bytes:
    """As ImageJ itself writes it, which leaves a depth of 1 out."""
    stream = io.BytesIO()
    description = b"ImageJ=1.54f\nimages=4\nslices=4\nunit=" + unit + b"\n" + spacing + b"loop=false\n"
    tags = [(270, 2, len(description), description, True)]
    with tifffile.TiffWriter(stream) as writer:
        for z in range(Z):
            writer.write(VOXELS[0, z, 0], metadata=None, resolution=(4, 2), extratags=tags if z == 0 else [])
    return stream.getvalue()


@pytest.mark.parametrize("unit", [b"\xb5m", "µm".encode(), b"micron"])
def test_imagej_leaves_out_a_depth_of_one(unit):
    (case,), _ = volumes(by_imagej(unit))
    assert case.spacing_mm == pytest.approx((1e-3, 0.5e-3, 0.25e-3))
    (case,), _ = volumes(by_imagej(unit, b"spacing=2.0\n"))
    assert case.spacing_mm == pytest.approx((2e-3, 0.5e-3, 0.25e-3))
    assert volumes(by_imagej(b"pixel"))[0][0].spacing_mm is None


def test_the_params_say_the_spacings_that_a_file_does_not_and_no_others():
    content = imagej(VOXELS[0, :, 0], "ZYX", resolution=(4, 2), unit="mm")  # tifffile leaves out what it wasn't given
    assert volumes(content)[0][0].spacing_mm is None
    assert volumes(content, spacing_mm=(3.0, 2.0, 1.0))[0][0].spacing_mm == (3.0, 0.5, 0.25)


def test_a_spacing_that_the_file_says_counts_more_than_the_params():
    content = imagej(VOXELS[0, :, 0], "ZYX", resolution=(4, 2), spacing=1.5, unit="mm")
    (case,), _ = volumes(content, spacing_mm=(3.0, 2.0, 1.0))
    assert case.spacing_mm == (1.5, 0.5, 0.25)


# What else a file says of its pages


@pytest.mark.parametrize("axes", ["ZCYXS", "ZSCYX", "SZCYX"])
def test_an_axis_of_one_number_beside_the_others_changes_nothing(axes):
    pixels = np.expand_dims(VOXELS[0], axes.index("S"))
    (case,), (found,) = volumes(told(pixels, axes))
    assert case.shape == (C, Z, H, W) and np.array_equal(found, VOXELS[0].swapaxes(0, 1))


@pytest.mark.parametrize("axes", ["YXZC", "ZYXC", "ZCXY", "XYZC", "YXZ", "XYZ", "YZX", "XZY"])
@pytest.mark.parametrize("frames", ["stack", "split", "first"])
def test_rows_and_columns_that_are_no_y_and_x_are_refused(axes, frames):
    pixels = VOXELS[0] if len(axes) == 4 else VOXELS[0, :, 0]
    assert reason(told(pixels, axes), frames=frames) == "malformed"
    error = refused(told(pixels, axes))
    assert "write the array with Y, X last" in error.detail and axes not in error.detail


def test_a_picture_of_columns_by_rows_is_refused():
    assert reason(told(VOXELS[0, 0, 0], "XY")) == "malformed"


@pytest.mark.parametrize("axes", ["PZYX", "QZYX", "RZYX", "EZYX", "SZYX", "QQYX", None])
def test_two_volumes_in_one_array_are_not_stacked_into_one(axes):
    pixels = VOXELS[:, :, 0]
    content = told(pixels, axes) if axes else tiff(pixels, photometric="minisblack")
    error = refused(content)
    assert error.reason == "several_frames" and "write it with axes of T, Z, C, Y and X" in error.detail
    assert np.array_equal(read(content, frames="split", frame=5)[..., 0], pixels.reshape(-1, H, W)[5])


@pytest.mark.parametrize("axes", ["PYX", "EYX", "HYX"])
def test_pages_that_a_file_calls_something_else_than_slices_are_none(axes):
    assert refused(told(VOXELS[0, :, 0], axes)).reason == "several_frames"


def test_channels_beside_positions_are_channels_of_a_frame():
    content = told(VOXELS[0], "PCYX")
    assert np.array_equal(read(content, frames="split", frame=2), VOXELS[0, 2].transpose(1, 2, 0))


def test_arrays_that_were_written_one_after_the_other_are_not_one_volume():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for t in range(T):
            writer.write(VOXELS[t], photometric="minisblack", metadata={"axes": "ZCYX"})
    content = stream.getvalue()
    error = refused(content)
    assert error.reason == "several_frames" and "2 images" in error.detail
    assert np.array_equal(read(content, frames="split", frame=5), VOXELS[1, 1].transpose(1, 2, 0))


def test_pages_that_were_written_one_by_one_are_slices():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for z in range(Z):
            writer.write(VOXELS[0, z, 0], photometric="minisblack")
    assert np.array_equal(volumes(stream.getvalue())[1][0][0], VOXELS[0, :, 0])


def test_an_array_that_is_larger_than_the_file_is_refused():
    content = edited(told(VOXELS[0, :, 0], "ZYX"), r'"shape": \[4', '"shape": [9')
    assert refused(content).reason == "malformed"


def test_descriptions_that_lie_over_each_other_are_not_parsed_again_and_again():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for text in ('{"shape": [1, 9, 12]}' + " " * 50_000, "short", "short"):
            writer.write(VOXELS[0, 0, 0], description=text, metadata=None)
    content = stream.getvalue()
    assert reason(content) == "several_frames"
    first, *others = re.findall(struct.pack("<HH", 270, 2) + b".{8}", content, re.DOTALL)
    for entry in others:
        content = content.replace(entry, first)
    error = refused(content)
    assert error.reason == "corrupt" and "descriptions" in error.detail


@pytest.mark.parametrize(("axes", "order"), [("Channel,Z", "ZC"), ("Z,Channel", "CZ")])
def test_imagej2_says_the_order_of_its_pages(axes, order):
    pixels = VOXELS[0] if order == "ZC" else VOXELS[0].swapaxes(0, 1)
    head = f"SCIFIO=0.46\naxes=X,Y,{axes}\nimages=12\nchannels=3\nslices=4\nhyperstack=true\nunit=um\n"
    content = tiff(pixels.reshape(-1, H, W), photometric="minisblack", description=head, metadata=None)
    (case,), (found,) = volumes(content)
    assert np.array_equal(found, VOXELS[0].swapaxes(0, 1)) and case.spacing_mm is None


def test_axes_of_imagej2_that_are_not_read_are_refused():
    head = "SCIFIO=0.46\naxes=X,Y,Lifetime,Z\nimages=12\nslices=4\nhyperstack=true\n"
    content = tiff(VOXELS[0].reshape(-1, H, W), photometric="minisblack", description=head, metadata=None)
    assert refused(content).reason == "malformed"


@pytest.mark.parametrize(
    "options",
    [
        {"software": "SI.VERSION_MAJOR = 2020\nSI.hChannels.channelSave = [1;2]"},
        {"description": "state.configPath=x"},
        {"description": "frameNumbers = 1\nscanimage.SI.hChannels.channelSave = [1;2]"},
        {"software": "PerkinElmer-QPI"},
        {"software": "IndicaLabsImageWriter v1"},
        {"extratags": [(34362, 4, 1, 0, True)]},
        {"extratags": [(33560, 4, 1, 0, True)]},
        {"extratags": [(51123, 2, 2, "{}", True)]},
    ],
)
@pytest.mark.parametrize("frames", ["stack", "split"])
def test_what_software_says_in_a_way_that_is_not_read_is_refused_by_its_name(options, frames):
    content = tiff(VOXELS[0, :, 0], photometric="minisblack", metadata=None, **options)
    assert reason(content, frames=frames) == "unsupported_format"
    assert "export it as OME-TIFF" in refused(content).detail
    alone = tiff(VOXELS[0, 0, 0], photometric="minisblack", metadata=None, **options)
    assert np.array_equal(read(alone)[..., 0], VOXELS[0, 0, 0]), "one page is a picture, whatever wrote it"


@pytest.mark.parametrize(
    "options",
    [
        {"description": "Aperio Image Library"},
        {"description": "<?xml?><scn></scn>"},
        {"software": "Philips DP v1.0"},
        {"extratags": [(65420, 4, 1, 0, True)]},
    ],
)
def test_pages_of_a_whole_slide_are_no_slices(options):
    content = tiff(VOXELS[0, :, 0], photometric="minisblack", metadata=None, **options)
    assert refused(content).reason == "several_frames"
    assert np.array_equal(read(content, frames="first")[..., 0], VOXELS[0, 0, 0])


def test_pages_that_are_all_called_smaller_copies_are_pages():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for z in range(Z):
            writer.write(VOXELS[0, z, 0], photometric="minisblack", metadata=None, subfiletype=1)
    assert reason(stream.getvalue()) == "several_frames"
    assert np.array_equal(volumes(stream.getvalue())[1][0][0], VOXELS[0, :, 0])


def test_the_detail_says_which_numbers_of_an_ome_xml_do_not_fit():
    error = refused(edited(ome(VOXELS[0, :, 0], "ZYX"), 'SizeZ="4"', 'SizeZ="3"'))
    assert error.reason == "malformed" and "3 along Z" in error.detail and "4 pages" in error.detail


# How long it takes


class Untouched(bytes):
    """A content that may be neither compared nor hashed as a whole, which takes longer the longer it is."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("the whole file is compared")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_run_of_slices_parses_the_directories_once_and_compares_no_whole_file(monkeypatch, dtype):
    pixels = VOXELS[0, :, 0].astype(dtype)
    content = Untouched(tiff(pixels, photometric="minisblack", compression="zlib"))
    options = Options(IngestParams(frames="stack"), OPEN)
    common, own = image.inspect(content, options)
    (case,) = image.assemble([Inspected("a", b"", common, own)], [], options).cases
    parsed = []
    of = tiff_pages.File.directories.func
    monkeypatch.setattr(tiff_pages.File.directories, "func", lambda file: parsed.append(file) or of(file))
    found = list(image.read(case.files, case.recipe, 0, Z, lambda file: content, options))
    assert np.array_equal(found, pixels) and len(parsed) == 1


@pytest.mark.parametrize("rows", [1, 2, 4, H])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_in_any_number_of_strips_are_read_as_tifffile_reads_them(rows, byteorder, compression):
    pixels = np.stack([VOXELS[0, :, channel] for channel in range(3)], axis=-1)  # (Z, H, W, 3)
    for values, kind in ((pixels, "rgb"), (pixels[..., 0], "minisblack"), (pixels[..., 0] / 7, "minisblack")):
        content = tiff(values, photometric=kind, rowsperstrip=rows, byteorder=byteorder, compression=compression)
        (found,) = volumes(content)[1]
        expected = tifffile.imread(io.BytesIO(content)).reshape(Z, H, W, -1).transpose(3, 0, 1, 2)
        assert np.array_equal(found, expected.astype(found.dtype))


@pytest.fixture
def decodings(monkeypatch):
    """The pages that were decoded so far."""
    found: list[int] = []
    decode_page = image._pixels
    monkeypatch.setattr(image, "_pixels", lambda *given: found.append(given[1].page) or decode_page(*given))
    return found


@pytest.mark.parametrize("colour", ["auto", "grey_mean"])
@pytest.mark.parametrize("small", [True, False])
def test_a_page_in_colour_is_decoded_once_for_all_its_channels(tmp_path, monkeypatch, decodings, colour, small):
    pixels = VOXELS[:2].transpose(0, 1, 3, 4, 2)
    for name, volume in zip("ab", pixels, strict=True):
        (tmp_path / "raw" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "raw" / name / "x.tif", volume, photometric="rgb", compression="zlib")
    if not small:
        monkeypatch.setattr(pieces, "SMALL_PIECE_BYTES", 1)
        monkeypatch.setattr(pieces, "RUN_BYTES", 1)
    made = ingest(tmp_path / "raw", tmp_path / "out", frames="stack", colour=colour)
    assert sorted(decodings) == sorted(2 * [*range(Z)])
    if colour == "auto":
        expected = {volume.transpose(3, 0, 1, 2).tobytes() for volume in pixels}
        assert {found.tobytes() for found in made.pixels} == expected


def test_pages_of_a_volume_in_colour_that_would_take_much_memory_are_not_kept(monkeypatch, decodings):
    pixels = VOXELS[0].transpose(0, 2, 3, 1)
    content = tiff(pixels, photometric="rgb", compression="zlib")
    monkeypatch.setattr(image, "KEPT_BYTES", pixels.nbytes - 1)
    ((case,), (found,)) = volumes(content)
    assert image.unpacked_bytes(case.recipe) == 0 and len(decodings) == Z * C
    assert np.array_equal(found, pixels.transpose(3, 0, 1, 2))


# What is refused


def edited(content: bytes, pattern: str, replacement: str) -> bytes:
    """With other text of the same length in its description."""
    found = re.search(pattern.encode(), content)
    assert found and len(found[0]) >= len(replacement.encode())
    return content.replace(found[0], replacement.encode().ljust(len(found[0])), 1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (edited(imagej(VOXELS[0], "ZCYX"), "images=12", "images=13"), "malformed"),
        (edited(imagej(VOXELS[0], "ZCYX"), "slices=4", "slices=5"), "malformed"),
        (edited(imagej(VOXELS[0], "ZCYX"), "slices=4", "slices=x"), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), 'SizeZ="4"', 'SizeZ="5"'), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), 'SizeZ="4"', 'SizeZ="1"'), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), 'DimensionOrder="XYCZT"', 'DimensionOrder="XYCZZ"'), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), "<Pixels ", "<Pixel  "), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), "</Image>", "</Imag>"), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), 'PlaneCount="12"', 'PlaneCount="99"'), "malformed"),
        (edited(ome(VOXELS[0], "ZCYX"), 'IFD="0"', 'IFD="1"'), "malformed"),
    ],
)
def test_a_description_that_contradicts_itself_or_the_pages_is_refused(content, expected):
    error = refused(content)
    assert error.reason == expected and ("again" in error.detail or "OME-XML" in error.detail)


def test_a_page_that_the_description_does_not_tell_of_is_not_left_out():
    stream = io.BytesIO(ome(VOXELS[0, :, 0], "ZYX"))
    tifffile.imwrite(stream, VOXELS[1, 0, 0], append="force", metadata=None)
    error = refused(stream.getvalue())
    assert error.reason == "malformed" and "1 pages of the TIFF are none that the OME-XML tells of" in error.detail
    stream = io.BytesIO(ome(VOXELS[0, :, 0], "ZYX"))
    tifffile.imwrite(stream, VOXELS[1, 0, 0, ::2, ::2], append="force", metadata=None, subfiletype=1)
    assert np.array_equal(volumes(stream.getvalue())[1][0][0], VOXELS[0, :, 0]), "a smaller copy is no page"


@pytest.mark.parametrize(
    ("uuid", "names", "is_read"),
    [
        ("", ["", ""], True),
        ("urn:a", ["urn:a", "urn:a"], True),
        ("", ["urn:a", "urn:a"], True),  # as Micro-Manager writes it
        ("urn:a", ["urn:a", "urn:b"], False),
        ("urn:a", ["urn:b", "urn:b"], False),
        ("", ["urn:a", "urn:b"], False),
    ],
)
def test_pages_in_other_files_are_refused(uuid, names, is_read):
    told = "".join(
        f'<TiffData IFD="{2 * i}" FirstZ="{2 * i}" PlaneCount="2">{f"<UUID>{name}</UUID>" if name else ""}</TiffData>'
        for i, name in enumerate(names)
    )
    content = with_xml(told, f' UUID="{uuid}"' if uuid else "")
    if is_read:
        assert np.array_equal(volumes(content)[1][0][0], VOXELS[0, :, 0])
    else:
        assert "other files" in refused(content).detail


def with_xml(told: str, attributes: str = "", more: str = "") -> bytes:
    """Four pages, and an OME-XML that tells of them as four slices."""
    sizes = 'SizeX="12" SizeY="9" SizeZ="4" SizeC="1" SizeT="1" DimensionOrder="XYZCT"'
    text = f"<?xml version='1.0'?><OME{attributes}><Image><Pixels {sizes}>{told}</Pixels></Image>{more}</OME>"
    return tiff(VOXELS[0, :, 0], photometric="minisblack", description=text, metadata=None)


def test_an_image_that_lies_in_another_file_altogether_is_a_case_of_that_file():
    other = (
        "<Image><Pixels SizeZ='9' SizeC='1' SizeT='1' DimensionOrder='XYZCT'><TiffData><UUID>urn:b</UUID></TiffData>"
    )
    content = with_xml(
        "<TiffData PlaneCount='4'><UUID>urn:a</UUID></TiffData>", " UUID='urn:a'", f"{other}</Pixels></Image>"
    )
    assert np.array_equal(volumes(content)[1][0][0], VOXELS[0, :, 0])


def test_definitions_in_the_xml_are_refused_before_they_are_parsed():
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + "x" * 1000 + '">]><OME>' + "&a;" * 100 + "</OME>"
    content = tiff(VOXELS[0, :, 0], photometric="minisblack", description=bomb, metadata=None)
    assert "definitions" in refused(content).detail
    assert reason(content) == "malformed"


def test_several_images_of_one_ome_tiff_are_frames_and_no_stack():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, ome=True) as writer:
        for t in range(T):
            writer.write(VOXELS[t], photometric="minisblack", metadata={"axes": "ZCYX"})
    content = stream.getvalue()
    assert refused(content).reason == "several_frames"
    assert np.array_equal(read(content, frame=5, frames="split"), VOXELS[1, 1].transpose(1, 2, 0))


def test_slices_that_differ_are_refused_and_the_first_that_does_is_named():
    def stack(*pages: np.ndarray) -> bytes:
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            for page in pages:
                writer.write(page, photometric="minisblack", metadata=None)
        return stream.getvalue()

    page = VOXELS[0, 0, 0]
    error = refused(stack(page, page, page[:-1]))
    assert error.reason == "mixed_sizes" and "slice 3 has 12x8 pixels, and the first 12x9" in error.detail
    error = refused(stack(page, page.astype(np.uint8)))
    assert error.reason == "mixed_pixels" and "slice 2 has 1 channels of uint8, the first 1 of uint16" in error.detail
    error = refused(stack(page, page.astype(np.complex64)))
    assert error.reason == "unsupported_depth" and error.detail.startswith("slice 2: ")


def test_the_refusal_of_several_pages_names_stack_as_a_way():
    options = Options(IngestParams(), OPEN)
    with pytest.raises(Rejected, match="stack"):
        image.inspect(tiff(VOXELS[0, :, 0], photometric="minisblack"), options)


# Hostile files


def test_pages_with_pixels_in_common_are_refused():
    assert refused(hostile.tiff(pages=300)).reason == "corrupt"
    description = b"ImageJ=1.54f\nimages=300\nchannels=300\n\0"
    content = hostile.tiff(pages=300)
    at = len(content)
    for frames in ("reject", "first", "split", "stack"):
        told = hostile.tiff(pages=300, tags=[(270, hostile.ASCII, len(description), at + 300 * 12)], tail=description)
        assert reason(told, frames=frames) == "corrupt"


def test_more_voxels_than_allowed_are_refused_before_they_are_decoded(monkeypatch):
    content = imagej(VOXELS[0], "ZCYX")
    monkeypatch.setattr(tifffile, "TiffFile", None)
    assert refused(content, max_voxels=Z * C * H * W - 1).reason == "too_large"


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.54f\nimages=999999999\nslices=999999999\n",
        "ImageJ=1.54f\nimages=9999999999999999999\nslices=999999999\n",
        '{"shape": [999999999, 999999999, 9, 12], "truncated": true}',
    ],
)
def test_a_page_that_claims_to_stand_for_very_many_pictures_is_refused(description):
    content = tiff(VOXELS[0, 0, 0], description=description, metadata=None)
    assert refused(content).reason in ("too_large", "malformed")


@pytest.mark.parametrize("times", [1, 3])
def test_a_dataset_of_stacks_is_one_of_volumes_and_counts_those_without_a_spacing(tmp_path, capsys, times):
    for i in range(4):
        (tmp_path / "raw" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (times, Z, H, W)).astype(np.uint8)
        spacing = {"spacing": 2.0, "unit": "um"} if i else {}
        content = imagej(pixels, "TZYX", resolution=(4, 4), **spacing)
        (tmp_path / "raw" / "ab"[i % 2] / f"{i}.tif").write_bytes(content)
    found = ingest(tmp_path / "raw", tmp_path / "out", frames="stack", split_4d="all")
    assert found.axes == "CDHW" and len(found.pixels) == 4 * times
    assert found.counts["spacing_unknown"] == times
    assert found.counts["groups"] == 4
    assert f"{times} of {4 * times} volumes have no spacing" in capsys.readouterr().out
    assert set(found.table["spacing_z_mm"]) == {"", "0.002"}


def test_volumes_of_another_number_of_channels_than_most_are_refused(tmp_path):
    for i in range(5):
        (tmp_path / "raw" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = VOXELS[0] + i if i else VOXELS[0, :, :2]
        (tmp_path / "raw" / "ab"[i % 2] / f"{i}.tif").write_bytes(imagej(pixels, "ZCYX"))
    found = ingest(tmp_path / "raw", tmp_path / "out", frames="stack", workers=2)
    assert found.counts["rejected"] == {"unsupported_colours": 1}
    assert found.rejected["detail"].tolist() == ["2 channels, where the data set has 3 (save all with the same ones)"]
    expected = sorted((VOXELS[0] + i).swapaxes(0, 1).tobytes() for i in range(1, 5))
    assert sorted(pixels.tobytes() for pixels in found.pixels) == expected


@pytest.mark.parametrize(("second", "told"), [(["DAPI", "Jane Doe"], False), (["Jane Doe", "DAPI"], True)])
def test_channels_in_another_order_are_told_and_their_names_stand_nowhere(tmp_path, capsys, second, told):
    for i in range(4):
        (tmp_path / "raw" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        names = second if i == 3 else ["DAPI", "Jane Doe"]
        content = ome(VOXELS[0, 0, :2] + i, "CYX", Channel={"Name": names})
        (tmp_path / "raw" / "ab"[i % 2] / f"{i}.tif").write_bytes(content)
    ingest(tmp_path / "raw", tmp_path / "out")
    printed = capsys.readouterr().out
    assert ("names or another order from file to file (3, 1 cases)" in printed) == told
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"Jane" in content or b"DAPI" in content for content in written) and "Jane" not in printed


def test_hounsfield_units_are_the_users_word_for_stacks_and_no_units_of_pictures(tmp_path):
    (tmp_path / "raw" / "a").mkdir(parents=True)
    (tmp_path / "raw" / "a" / "0.tif").write_bytes(imagej(VOXELS[0, :, 0], "ZYX"))
    assert ingest(tmp_path / "raw", tmp_path / "stack", frames="stack", intensity="hu").units == "HU"
    with pytest.raises(UserError, match="1 no_hounsfield_units"):
        ingest(tmp_path / "raw", tmp_path / "pictures", frames="split", intensity="hu")


@pytest.mark.parametrize("colour", ["auto", "grey_mean", "grey_luminance", "rgb"])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_stacks_in_colour_and_in_grey_are_made_alike_as_pictures_are_where_it_is_asked_for(tmp_path, colour, workers):
    rng = np.random.default_rng(0)  # its own: others may lie halfway between two numbers
    grey = rng.integers(0, 256, (Z, H, W)).astype(np.uint8)
    rgb = rng.integers(0, 256, (Z, H, W, 3)).astype(np.uint8)
    (tmp_path / "raw" / "a").mkdir(parents=True)
    (tmp_path / "raw" / "a" / "grey.tif").write_bytes(tiff(grey, photometric="minisblack", metadata=None))
    (tmp_path / "raw" / "a" / "rgb.tif").write_bytes(tiff(rgb, photometric="rgb", metadata=None))
    found = ingest(tmp_path / "raw", tmp_path / "out", workers, frames="stack", colour=colour)
    if colour == "auto":
        assert "ingest.colour can be grey_mean" in found.rejected["detail"][0]
        assert [pixels.shape[0] for pixels in found.pixels] == [1], "of as many, the fewer channels"
        return
    weights = {"grey_mean": (1 / 3, 1 / 3, 1 / 3), "grey_luminance": (0.2126, 0.7152, 0.0722)}
    if colour == "rgb":
        expected = [np.stack([grey] * 3), rgb.transpose(3, 0, 1, 2)]
    else:
        expected = [grey[None], np.rint(rgb @ np.array(weights[colour])).astype(np.uint8)[None]]
    assert not len(found.rejected)
    assert sorted(pixels.tobytes() for pixels in found.pixels) == sorted(pixels.tobytes() for pixels in expected)
    again = ingest(tmp_path / "raw", tmp_path / "out", workers, frames="stack", colour="rgb")
    assert {pixels.shape for pixels in again.pixels} == {(3, Z, H, W)}, "nothing of the former colours is kept"


@pytest.mark.parametrize(("channels", "wanted"), [(3, 1), (1, 3)])
def test_any_run_of_slices_in_other_colours_is_that_of_the_volume(channels, wanted):
    content = tiff(
        VOXELS[0].transpose(0, 2, 3, 1)[..., :channels], photometric="rgb" if channels == 3 else "minisblack"
    )
    options = Options(IngestParams(frames="stack", colour="grey_mean" if wanted == 1 else "rgb"), OPEN)
    common, own = image.inspect(content, options)
    (case,) = image.assemble([Inspected("a", b"", common, own)], [], options).cases
    template = Template("image", case.with_channels(wanted))
    blocks = template.case.blocks
    assert blocks == wanted * Z
    whole = list(decode(template, 0, blocks, lambda file: content, options))
    for start in range(blocks):
        for stop in range(start + 1, blocks + 1):
            run = list(decode(template, start, stop, lambda file: content, options))
            assert np.array_equal(run, whole[start:stop])


def test_pages_of_which_nothing_is_said_are_channels_where_they_are_called_so(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4000, (5, 9, 11)).astype(np.uint16)
    (tmp_path / "raw" / "a").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "raw" / "a" / "as_an_array.tif", pixels)
    with tifffile.TiffWriter(tmp_path / "raw" / "a" / "page_by_page.tif") as writer:
        for page in pixels + 1:
            writer.write(page, photometric="minisblack", metadata=None)
    made = ingest(tmp_path / "raw", tmp_path, frames="channels")
    assert made.axes == "CHW"
    assert {found.tobytes() for found in made.pixels} == {pixels.tobytes(), (pixels + 1).tobytes()}


def test_pages_that_a_file_calls_slices_are_no_channels(tmp_path):
    (tmp_path / "raw" / "a").mkdir(parents=True)
    pixels = np.zeros((5, 9, 11), np.uint16)
    tifffile.imwrite(tmp_path / "raw" / "a" / "x.tif", pixels, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "raw" / "a" / "y.tif", pixels[0])
    made = ingest(tmp_path / "raw", tmp_path, frames="channels")
    assert made.reason("a/x.tif") == "several_frames"
    assert len(made.pixels) == 1
