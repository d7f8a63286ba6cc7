"""Bytes of a picture in, uint8 RGB out.

May touch Pillow, numpy, fast_image_resize and, where it is installed, pillow_heif, and nothing outside the process: no
file, no network, no environment; from mirabelle only ``mirabelle.errors``. Runs on executors (and on the driver when
the report makes thumbnails). It fails only with ``DecodeError``.

What the pixels are:

- For an ordinary RGB or grey file exactly what Keras's ``load_img(path, target_size=(s, s), interpolation="bilinear")``
  gives: Pillow's ``convert("RGB")``, then a bilinear resize that stretches. ICC profiles are left alone, as Keras
  leaves them (an XYB JPEG looks odd).
- Without ``DecodeOptions.exact``, resizing may be off by one grey level, and large JPEGs are read at a fraction of
  their size, which changes pixels a little.
- HEIF files say how they are to be turned, and libheif does it whatever ``DecodeOptions.orient`` says.
- Unlike Keras: EXIF orientation is applied, transparent pixels are laid over a ground colour, and grey deeper than 8
  bits is scaled instead of clipped. Of several frames or pages the first is taken.

Thread-safe but for one thing: Pillow's switch for truncated files is a module global. It is on only while a truncated
file is read again under ``accept_truncated``, and another thread's decode can see it then; workers decode on one
thread there.

Inside: ``formats`` tells from bytes alone what kind of file they are and whether it ends early, ``headers`` and
``jpeg2000`` what some of them say of themselves, ``limits`` refuses what would cost too much, ``mending`` puts an end
to JPEGs that lack theirs alone, ``opening`` has Pillow open the rest, ``colour`` makes RGB of any mode, ``resizing``
makes that a square, and ``picture`` puts these together.
"""

from __future__ import annotations

from mirabelle.decode.picture import PREPROCESSING_VERSION, DecodedImage, DecodeOptions, decode, thumbnail

__all__ = ["PREPROCESSING_VERSION", "DecodeOptions", "DecodedImage", "decode", "thumbnail"]
