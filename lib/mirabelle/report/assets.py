"""What goes into the page besides words: templates, styles, scripts, pictures. Pure; runs on the driver.

Files of the package are read through importlib.resources, for Spark ships the package as a zip. Jinja and vl-convert
are imported inside the functions, for they are heavy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

# What may start an encoded picture: WebP, PNG, JPEG.
_MAGIC = ((b"RIFF", "image/webp"), (b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


def resource(name: str) -> str:
    """The text of one file of this package, wherever the package lives."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def environment() -> Environment:
    """A Jinja environment that escapes everything, fails on a misspelt name and loads from this package."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script of about 0.9 MB; the Vega-Lite that Altair writes for."""
    import altair
    import vl_convert

    wanted = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    known = vl_convert.get_vegalite_versions()
    # Without a snippet the bundle sets window.vegaEmbed; the stub of vl-convert calls for one all the same.
    options: dict[str, Any] = {"vl_version": wanted if wanted in known else None}
    return str(vl_convert.javascript_bundle(**options))


def inline_script(source: str) -> str:
    """``source`` as it may stand between script tags: nothing in it ends the element or opens a comment."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"<(?=/script|!--)", r"\\x3c", source, flags=re.IGNORECASE)


def script_hash(source: str) -> str:
    """The source expression by which a Content-Security-Policy lets exactly this script run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def inline_json(value: Any) -> str:
    """``value`` as JSON that may stand in a script element: ASCII, and without ``<``, ``>`` and ``&``.

    Raises:
        ValueError: a number in it is NaN or infinite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(picture: bytes | None) -> str | None:
    """An encoded picture as a data URI, or ``None`` when there is none or it is not WebP, PNG or JPEG."""
    kind = next((kind for magic, kind in _MAGIC if picture and picture.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}" if picture and kind else None
