"""What is taken, what is refused, and what becomes of files."""

import time

import httpx
import pytest
from PIL import Image

import limits
from conftest import SPACE
from limits import BadInput, open_one
from texts import LANGUAGES, TEXTS, explain


def reason(path):
    with pytest.raises(BadInput) as caught:
        open_one(str(path))
    return explain(caught.value, "en")


def test_every_bad_file_is_refused_with_its_reason(bad_files):
    for path, words in bad_files.items():
        assert words in reason(path)


def test_a_pixel_bomb_is_refused_before_it_is_decoded(bad_files, monkeypatch):
    from PIL import PngImagePlugin

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("it was decoded"))
    assert "pixels" in reason(next(path for path in bad_files if path.name == "bomb.png"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_becomes_rgb(tmp_path, mode):
    picture = Image.new("L", (60, 40), 255).convert(mode) if mode != "I;16" else Image.new(mode, (60, 40), 65535)
    picture.save(tmp_path / "picture.png")
    (frame,) = open_one(str(tmp_path / "picture.png")).frames
    assert (frame.mode, frame.size, frame.getpixel((0, 0))) == ("RGB", (60, 40), (255, 255, 255))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "bmp", "gif"])
def test_every_still_format_is_read(tmp_path, suffix):
    Image.new("RGB", (60, 40), "white").save(tmp_path / f"picture.{suffix}")
    (frame,) = open_one(str(tmp_path / f"picture.{suffix}")).frames
    assert (frame.mode, frame.size, frame.getpixel((5, 5))) == ("RGB", (60, 40), (255, 255, 255))


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_one(str(tmp_path / "clear.png")).frames[0].getpixel((5, 5)) == (255, 255, 255)


def test_a_photo_is_turned_upright_and_scaled_down(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (4000, 3000), "red").save(tmp_path / "photo.jpg", exif=exif)
    assert open_one(str(tmp_path / "photo.jpg")).frames[0].size == (768, 1024)


def test_a_video_gives_few_frames_and_their_rate():
    video = open_one(str(SPACE / "examples" / "moving.mp4"))
    assert video.kind == "video" and len(video.frames) == 4 and video.fps == pytest.approx(2)


def test_a_long_video_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(70):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    assert "lasts 70 seconds" in reason(tmp_path / "long.mp4")


@pytest.mark.parametrize("value", [None, "x", float("nan"), float("inf"), True, [], 1e400, -0.1, 1.1])
def test_bad_numbers_are_refused(value):
    with pytest.raises(BadInput):
        limits.check_number("alpha", value, 0, 1)


def test_every_text_is_there_in_both_languages():
    import string

    assert list(LANGUAGES) == ["en", "zh"]
    for key, (english, chinese) in TEXTS.items():
        gaps = [{gap for _, gap, _, _ in string.Formatter().parse(words) if gap} for words in (english, chinese)]
        assert english and chinese and gaps[0] == gaps[1], key


SOON = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import uploads
uploads.DELETED = (1, 2)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_uploads_are_deleted_after_a_while(run, pushed, tmp_path):
    (tmp_path / "soon.py").write_text(SOON)
    with run(pushed / "app.py", launcher=tmp_path / "soon.py") as space:
        files = {"files": ("visitor.txt", b"mine")}
        assert httpx.post(f"{space.url}/gradio_api/upload", files=files, timeout=60).status_code == 200
        for _ in range(600):
            if "visitor.txt" not in space.uploads():
                return
            time.sleep(0.1)
    pytest.fail("the file was left")


def test_stopping_the_app_takes_every_file_with_it(run, pushed):
    with run(pushed / "app.py") as space:
        files = {"files": ("visitor.txt", b"mine")}
        assert httpx.post(f"{space.url}/gradio_api/upload", files=files, timeout=60).status_code == 200
        assert "visitor.txt" in space.uploads()
    for _ in range(100):
        if not space.uploads():
            return
        time.sleep(0.1)
    pytest.fail("files were left")
