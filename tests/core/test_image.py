"""Reading pictures of every kind, refusing what is none, and writing them."""

import hashlib
import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from f2d_core import image
from f2d_core.errors import ImageError, OutputError
from f2d_core.image import image_from_bytes, read_image, rgb_sha256, scaled, to_rgb_u8, write_png


def picture(width: int = 24, height: int = 18) -> np.ndarray:
    """Different in every corner and every channel, so that any turn or channel swap shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 10, y * 14, (x * 3 + y * 5) % 256], axis=-1).astype(np.uint8)


def save(path, rgb, mode="RGB", **options):
    Image.fromarray(rgb).convert(mode).save(path, **options)
    return path


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and "expected" in text.lower()
    return text


# --- kinds of files ---


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_files_come_back_as_they_were(tmp_path, suffix):
    path = save(tmp_path / f"a picture – Ä.{suffix}", picture())
    assert np.array_equal(read_image(path), picture())
    assert np.array_equal(read_image(str(path)), picture())


def test_lossless_webp(tmp_path):
    assert np.array_equal(read_image(save(tmp_path / "a.webp", picture(), lossless=True)), picture())


def test_the_content_counts_and_not_the_name(tmp_path):
    path = save(tmp_path / "photo.jpg", picture(), format="PNG")
    assert np.array_equal(read_image(path), picture())


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette(tmp_path, mode):
    stored = Image.fromarray(picture()).convert(mode)
    stored.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.asarray(stored.convert("RGB")))


def test_sixteen_bit_grey_is_rounded_to_the_nearest_level(tmp_path):
    values = np.tile(np.array([0, 128, 129, 257, 32767, 32896, 65406, 65407, 65535], np.uint16), (16, 2))
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    expected = np.rint(values / 257).astype(np.uint8)
    for name in ("a.png", "a.tif"):
        rgb = read_image(tmp_path / name)
        assert (rgb == expected[..., None]).all()


def sixteen_bit_rgb_png(rgb16: np.ndarray) -> bytes:
    """Pillow cannot write these; PNG specification, 4 and 11."""
    height, width = rgb16.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb16)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_sixteen_bit_colour(tmp_path):
    rgb16 = picture().astype(np.uint16) * 257
    (tmp_path / "a.png").write_bytes(sixteen_bit_rgb_png(rgb16))
    assert np.array_equal(read_image(tmp_path / "a.png"), picture())


def test_cmyk_jpeg(tmp_path):
    flat = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    rgb = read_image(save(tmp_path / "a.jpg", flat, "CMYK", quality=100))
    assert np.abs(rgb.astype(int) - flat).max() <= 3


def rgba_picture() -> np.ndarray:
    rgba = np.full((20, 20, 4), (200, 100, 50, 255), np.uint8)
    rgba[:, 10:, 3] = 0
    rgba[10:, :10, 3] = 128
    return rgba


def test_transparency_is_laid_over_white(tmp_path):
    Image.fromarray(rgba_picture()).save(tmp_path / "a.png")
    for rgb in (read_image(tmp_path / "a.png"), to_rgb_u8(rgba_picture())):
        assert rgb[5, 5].tolist() == [200, 100, 50]
        assert rgb[5, 15].tolist() == [255, 255, 255]
        assert rgb[15, 5].tolist() == [227, 177, 152]  # 128/255 of the colour, the rest white, rounded


def test_transparent_grey_and_transparent_palette_entries(tmp_path):
    grey = np.full((16, 16, 2), (90, 255), np.uint8)
    grey[8:, :, 1] = 0
    Image.fromarray(grey).save(tmp_path / "la.png")
    palette = Image.fromarray(np.tile(np.array([0, 1], np.uint8), (16, 8)))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=1)
    palette.save(tmp_path / "p.gif", transparency=1)
    rgb = read_image(tmp_path / "la.png")
    assert (rgb[:8] == 90).all() and (rgb[8:] == 255).all()
    for name in ("p.png", "p.gif"):
        rgb = read_image(tmp_path / name)
        assert (rgb[:, ::2] == (10, 20, 30)).all() and (rgb[:, 1::2] == 255).all()


def test_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == (255, 0, 0)).all()


def test_converted_in_bands_alike(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", picture())
    monkeypatch.setattr(image, "_BAND_PIXELS", 50)
    assert np.array_equal(read_image(path), picture())
    assert np.array_equal(to_rgb_u8(picture() / 255), picture())


# --- EXIF ---

STORED_AS = {  # orientation -> how an upright picture is stored, by the EXIF table "row 0 is, column 0 is"
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_exif_rotation_is_applied(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED_AS[orientation](picture()))
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
    rgb = read_image(path)
    assert np.array_equal(rgb, picture())
    assert rgb.flags.c_contiguous


def test_exif_rotation_of_a_photo(tmp_path, golden):
    upright = read_image(golden / "images" / "0.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: row 0 of the file is the right side
    save(tmp_path / "turned.jpg", np.rot90(upright), exif=exif, quality=98)
    assert np.abs(read_image(tmp_path / "turned.jpg").astype(int) - upright).mean() < 1.5


@pytest.mark.parametrize("metadata", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"])
def test_unreadable_metadata_does_not_lose_the_photo(tmp_path, metadata):
    path = save(tmp_path / "a.jpg", picture(), quality=95, exif=metadata)
    assert read_image(path).shape == picture().shape


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_leave_the_photo(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(save(tmp_path / "a.png", picture(), exif=exif)), picture())


# --- sizes ---


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds nothing."""
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + b"IHDR" + data + struct.pack(">I", zlib.crc32(b"IHDR" + data))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1000) + b"IDAT"


def test_too_large_is_refused_before_decoding(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(20000, 20000))  # decoding it would fail in another way
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert "20000 x 20000 px" in one_line(error) and "134 megapixels" in str(error.value)


def test_a_long_strip_is_read(tmp_path):
    Image.new("RGB", (20000, 200), (1, 2, 3)).save(tmp_path / "strip.png")
    rgb = read_image(tmp_path / "strip.png")
    assert rgb.shape == (200, 20000, 3) and (rgb == (1, 2, 3)).all()


def test_pillows_own_guard_neither_interferes_nor_is_changed(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", picture(100, 80))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # Image.open would warn above this, refuse above 6000
    monkeypatch.setattr(image, "_BAND_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert read_image(path).shape == (80, 100, 3)
    assert Image.MAX_IMAGE_PIXELS == 3000


@pytest.mark.parametrize("size", [(1, 1), (15, 100), (100, 15)])
def test_too_small_is_refused(tmp_path, size):
    path = save(tmp_path / "a.png", np.zeros((*size, 3), np.uint8))
    with pytest.raises(ImageError, match="at least 16 px"):
        read_image(path)
    with pytest.raises(ImageError, match="at least 16 px"):
        to_rgb_u8(np.zeros((*size, 3), np.uint8))


# --- what is no picture ---


def test_no_picture_at_all(tmp_path):
    for content in (b"", b"P", b"\0" * 100, b"<html>", b"%PDF-1.4", b"GIF89a", os.urandom(3000)):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(ImageError) as error:
            read_image(tmp_path / "a.jpg")
        assert "a.jpg" in one_line(error)


def test_readers_that_start_other_programs_are_not_used(tmp_path):
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n")
    with pytest.raises(ImageError, match="not a picture"):
        read_image(tmp_path / "a.eps")


@pytest.mark.parametrize("name", ["folder", "missing.jpg", "bad\0name.jpg"])
def test_folders_missing_files_and_impossible_names(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / name)
    one_line(error)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "gif"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files(tmp_path, suffix, part):
    rng = np.random.default_rng(0)
    whole = io.BytesIO()
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    data = whole.getvalue()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / f"a.{suffix}")
    assert f"a.{suffix}" in one_line(error)


def test_damaged_bytes_give_a_picture_or_a_clear_error(tmp_path):
    rng = np.random.default_rng(1)
    outcomes = set()
    for suffix in ("jpeg", "png", "gif", "bmp", "webp"):
        whole = io.BytesIO()
        Image.fromarray(picture()).save(whole, suffix)
        for _ in range(60):
            data = bytearray(whole.getvalue())
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(256)
            (tmp_path / "a").write_bytes(data)
            try:
                outcomes.add(read_image(tmp_path / "a").dtype)
            except ImageError as error:
                assert "\n" not in str(error)
                outcomes.add("refused")
    assert outcomes == {np.dtype(np.uint8), "refused"}


def test_values_of_unknown_range(tmp_path):
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.full((20, 20), 100000, np.int32)).save(tmp_path / "i.tif")
    for name in ("f.tif", "i.tif"):
        with pytest.raises(ImageError, match="8 or 16 bits"):
            read_image(tmp_path / name)


# --- arrays ---


def test_arrays_of_every_layout_and_type():
    rgb = picture()
    assert np.array_equal(to_rgb_u8(rgb), rgb)
    assert np.array_equal(to_rgb_u8(rgb.astype(np.uint16) * 257), rgb)
    for dtype in (np.float16, np.float32, np.float64):
        assert np.array_equal(to_rgb_u8((rgb / 255).astype(dtype)), rgb)
    grey = rgb[..., 0]
    for array in (grey, grey[..., None], np.asfortranarray(grey / 255)):
        assert np.array_equal(to_rgb_u8(array), np.repeat(grey[..., None], 3, axis=2))
    opaque = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)
    assert np.array_equal(to_rgb_u8(opaque), rgb)
    assert np.array_equal(to_rgb_u8(opaque / 255), rgb)


def test_the_result_is_a_copy():
    rgb = picture()
    out = to_rgb_u8(rgb)
    out[:] = 0
    assert np.array_equal(rgb, picture())


def test_slight_overshoot_is_cut_and_levels_are_rounded():
    values = np.tile([-0.2, 0.0, 0.001, 0.003, 0.5, 0.999, 1.0, 1.4], (16, 2))
    assert to_rgb_u8(values)[0, :8, 0].tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad):
    values = np.full((20, 20, 3), 0.5, np.float32)
    values[19, 19, 2] = bad
    with pytest.raises(ImageError) as error:
        to_rgb_u8(values)
    assert "NaN or infinite" in one_line(error)


@pytest.mark.parametrize("low, high", [(0, 255), (-1, 1), (0, 1.6)])
def test_floats_of_another_range(low, high):
    with pytest.raises(ImageError, match="expected 0 to 1"):
        to_rgb_u8(np.linspace(low, high, 400).reshape(20, 20))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(20, np.uint8),
        np.zeros((20, 20, 2), np.uint8),
        np.zeros((1, 20, 20, 3), np.uint8),
        np.zeros((20, 20, 3), np.int64),
        np.zeros((20, 20, 3), bool),
        np.zeros((20, 20, 3), complex),
        np.full((20, 20, 3), "x"),
    ],
)
def test_other_arrays(array):
    with pytest.raises(ImageError) as error:
        to_rgb_u8(array)
    one_line(error)


# --- hash, scaling, writing ---


def test_the_hash_is_that_of_the_golden_pictures(golden):
    cases = json.loads((golden / "cases.json").read_text())["cases"]
    for case in cases:
        assert rgb_sha256(read_image(golden / case["source"]["file"])) == case["rgb_sha256"]


def test_the_hash_is_of_the_bytes_row_by_row():
    rgb = picture()
    assert rgb_sha256(rgb) == hashlib.sha256(rgb.tobytes()).hexdigest()
    assert rgb_sha256(rgb[:, ::-1]) == hashlib.sha256(rgb[:, ::-1].tobytes()).hexdigest() != rgb_sha256(rgb)


def test_scaled_pictures_show_the_same():
    ramp = np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    small = scaled(ramp, 50, 20)
    assert small.shape == (20, 50, 3)
    assert np.abs(small[10, :, 0] - np.linspace(2, 253, 50)).max() < 2
    assert scaled(ramp, 200, 100) is ramp


def test_write_png_and_read_it_back(tmp_path):
    path = write_png(tmp_path / "out.png", picture()[:, ::-1])
    assert np.array_equal(read_image(path), picture()[:, ::-1])
    write_png(path, picture())
    assert np.array_equal(read_image(path), picture())
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_png(tmp_path / "out.png", picture())

    def full_disk(self, fp, **_):
        fp.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_png(path, 255 - picture())
    assert np.array_equal(read_image(path), picture())
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_unwritable_places(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as error:
        write_png(tmp_path / "file" / "out.png", picture())
    assert "\n" not in str(error.value)


def test_the_content_of_a_file_is_read_like_the_file(tmp_path):
    rgb = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)
    data = write_png(tmp_path / "a.png", rgb).read_bytes()
    assert np.array_equal(image_from_bytes(data, "from a server"), rgb)
    with pytest.raises(ImageError, match=r"from a server is damaged or incomplete"):
        image_from_bytes(data[: len(data) // 2], "from a server")
