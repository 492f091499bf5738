"""Label images as different programs write them, and folders."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdcpc_ros.datasets import image_files
from sdcpc_ros.datasets.image_files import found_in, id_table, list_images, read_image
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import IGNORE


def read_ids(path: Path) -> np.ndarray:
    """Every id as it is on disk."""
    return image_files.read_ids(path, id_table({value: value for value in range(256)}), "all")


def png(pixels: np.ndarray, bits: int, *, palette: bool) -> bytes:
    """A PNG file of (H, W) uint8 values below 2 ** bits, grey or with a palette, by the letter of the standard."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape
    values = np.unpackbits(pixels[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
    rows = np.packbits(values, axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, 0)
    random_colours = np.random.default_rng(0).integers(0, 256, (1 << bits, 3), np.uint8).tobytes()
    extra = chunk(b"PLTE", random_colours) + chunk(b"tRNS", b"\x00\x80") if palette else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@st.composite
def palette_images(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    bits = draw(st.sampled_from([1, 2, 4, 8]))
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    return draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, (1 << bits) - 1))), bits


@given(palette_images())
def test_the_indices_of_a_palette_image_are_its_ids(tmp_path_factory: pytest.TempPathFactory, image: tuple) -> None:
    ids, bits = image
    path = tmp_path_factory.getbasetemp() / "palette.png"
    path.write_bytes(png(ids, bits, palette=True))
    np.testing.assert_array_equal(read_ids(path), ids)


def test_a_grey_image_holds_its_ids(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "grey.png").write_bytes(png(ids, 8, palette=False))
    np.testing.assert_array_equal(read_ids(tmp_path / "grey.png"), ids)
    assert cv2.imwrite(str(tmp_path / "opencv.png"), ids)
    np.testing.assert_array_equal(read_ids(tmp_path / "opencv.png"), ids)


@pytest.mark.parametrize("cut", [30, 60, 90])
def test_a_palette_image_cut_short(tmp_path: Path, cut: int) -> None:
    content = png(np.zeros((4, 4), np.uint8), 2, palette=True)
    (tmp_path / "cut.png").write_bytes(content[:cut])
    with pytest.raises(DatasetError, match=r"cut.png' is not an image that can be decoded"):
        read_ids(tmp_path / "cut.png")


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_an_image_cut_short(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"image{ending}"
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DatasetError, match=rf"image{ending}' is not an image that can be decoded: it is cut short"):
        read_image(path)


def test_a_header_that_claims_gigabytes(tmp_path: Path) -> None:
    content = bytearray(png(np.zeros((4, 4), np.uint8), 8, palette=False))
    content[16:24] = struct.pack(">II", 1 << 20, 1 << 20)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "huge.png").write_bytes(bytes(content))
    with pytest.raises(DatasetError, match=r"huge.png' is 1048576x1048576; at most 67108864 pixels"):
        read_ids(tmp_path / "huge.png")


def test_an_image_is_read_as_stored_whatever_its_exif_says(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    assert cv2.imwrite(str(path), np.zeros((16, 32, 3), np.uint8))
    turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter
    exif = b"Exif\0\0" + turned
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    assert cv2.imread(str(path)).shape == (32, 16, 3)  # what OpenCV does by itself
    assert read_image(path).shape == (16, 32, 3)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_any_bytes_are_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, magic: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.png"
    path.write_bytes(magic + rest)
    for read in (read_ids, read_image):
        # Hypothesis also tries constants of the package, as the beginning of a Git LFS pointer.
        with pytest.raises(DatasetError, match=r"bytes.png' is (not an image that can be decoded|a Git LFS pointer)"):
            read(path)


@given(st.dictionaries(st.integers(0, 255), st.sampled_from([*range(5), IGNORE]), min_size=1))
def test_ids_are_translated_and_strays_named(tmp_path_factory: pytest.TempPathFactory, ids: dict[int, int]) -> None:
    path, table = tmp_path_factory.getbasetemp() / "ids.png", id_table(ids)
    known = np.array(list(ids), np.uint8)[None]
    assert cv2.imwrite(str(path), known)
    np.testing.assert_array_equal(image_files.read_ids(path, table, "few"), [list(ids.values())])
    stray = next((value for value in range(256) if value not in ids), None)
    if stray is not None:
        assert cv2.imwrite(str(path), np.append(known, np.uint8(stray))[None])
        message = rf"ids.png' holds id {stray} \(first at x {len(ids)}, y 0\); few are all"
        with pytest.raises(DatasetError, match=message):
            image_files.read_ids(path, table, "few")


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "._a.png", "notes.txt"):
        (tmp_path / name).touch()
    assert set(list_images(tmp_path)) == {"a", "b"}


def test_what_lies_in_a_folder_or_above_it(tmp_path: Path) -> None:
    assert found_in(tmp_path / "no" / "such") == f"'{tmp_path}' holds nothing"
    for number in range(10):
        (tmp_path / f"{number}").touch()
    assert found_in(tmp_path).endswith("holds 0, 1, 2, 3, 4, 5, 6, 7 and 2 more")
