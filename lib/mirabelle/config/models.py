"""Every key of the configuration, its meaning and its default. Touches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, model_validator

from mirabelle.config.classifying import Classify
from mirabelle.config.crawling import Crawl
from mirabelle.config.engines import Engine
from mirabelle.config.exploring import Explore
from mirabelle.config.finetuning import Finetune
from mirabelle.config.section import Patterns, Section, is_section
from mirabelle.config.submission import Submit

SECRET_WORDS = ("secret", "password", "passwd", "token", "credential", "access.key", "accesskey", "access_key")


def _rgb(value: Any) -> Any:
    """``"#rrggbb"`` as well as ``[r, g, b]``."""
    if isinstance(value, str):
        if not re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
            raise ValueError("write a colour as '#ffffff' or as [255, 255, 255]")
        return tuple(bytes.fromhex(value.removeprefix("#")))
    return value


def _formats(value: Any) -> Any:
    """Names in any letters, and as files are called."""
    called = {"heic": "heif", "jpg": "jpeg", "jp2": "jpeg2000", "tif": "tiff"}
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value.strip())
    if isinstance(value, list):
        names = [name.lower() if isinstance(name, str) else name for name in value]
        return tuple(called.get(name, name) if isinstance(name, str) else name for name in names)
    return value


Format = Literal["jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "heif", "jpeg2000", "ppm", "tga", "ico"]
Formats = Annotated[tuple[Format, ...], Field(min_length=1), BeforeValidator(_formats)]
Channel = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[tuple[Channel, Channel, Channel], BeforeValidator(_rgb)]


class Images(Section):
    """Which pictures, and what their paths tell."""

    root: str = Field(
        "", description="Folder of pictures, of any depth, or s3://bucket/prefix. Needed unless a manifest is given."
    )
    manifest: str | None = Field(
        None,
        description="Instead of listing the root: a Parquet or CSV file, or a folder of Parquet files, with a column"
        " path and, if you like, size_bytes, modified, etag and labels; or the manifest.json of an S3 Inventory."
        " Paths are whole, or below the root.",
    )
    layout: str | None = Field(
        None,
        description="Template that reads labels from the path below the root: `{split}/{label}/{name}`. Each field is"
        " one part of the path; `**` stands for any folders; `{label}` and `{split}` are known, any other name becomes"
        " a label column, `{name}` is the file's name and is not kept.",
    )
    include: Patterns = Field(("*",), description="Which files to take: patterns as in .gitignore, `*.jpg` or `a/**`.")
    exclude: Patterns = Field(
        (),
        description="Which of those to leave out. Hidden files and folders, what systems leave (Thumbs.db, __MACOSX)"
        " and outputs of Mirabelle are never listed.",
    )


class Labels(Section):
    """Labels that a table tells."""

    table: str | None = Field(
        None, description="CSV or Parquet file that tells labels: a column of paths or file names, and label columns."
    )
    key: str | None = Field(
        None, description="That column. Default: the first of path, file_name, filename, file, image, name."
    )
    label: str = Field("label", description="The table's column that becomes `label`.")
    split: str = Field("split", description="The table's column that becomes `split`, if it is there.")

    def column(self, name: str) -> str:
        """The column that a label is in, by the name that it has where it comes from."""
        return "label" if name == self.label else name


class Decode(Section):
    """From a file's bytes to a picture."""

    ground: Colour = Field((255, 255, 255), description="Colour under transparent pixels: '#ffffff' or [255,255,255].")
    orient: bool = Field(True, description="Turn pictures the way their EXIF orientation says.")
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        description="Pictures of more to decode are rejected by their header, so that none takes 2 s or 1 GiB. JPEGs"
        " decoded at a fraction (`exact`) count for what comes out, and may have four times as many; kinds that take"
        " longer to decode than JPEG and HEIF may have half, 25 million.",
    )
    max_bytes: int = Field(100 * 2**20, ge=1, description="Larger files are rejected, unread.")
    accept_truncated: bool = Field(False, description="Embed what is left of files that were cut short.")
    exact: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Pixels to the bit as Keras has them. never: JPEGs of at least four times the network's side are"
        " decoded at 1/2, 1/4 or 1/8 of their size and all are resized by a faster library, up to five times faster;"
        " features of photographs keep a cosine of 0.999 to the exact ones, those of small print or fine patterns do"
        " not. auto: exact with float32, not with bf16 and int8.",
    )
    formats: Formats = Field(
        ("jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "heif"),
        description="What is decoded, known by content and not by name; the rest is rejected. jpeg2000, ppm, tga and"
        " ico can be added. heif (iPhones' HEIC) needs pillow-heif on the workers: the extra heif.",
    )


class Backbone(Section):
    """The network."""

    name: str = Field("resnet50", description="The network: `mirabelle inspect --backbones` lists them.")
    weights: str = Field(
        "imagenet",
        description="`imagenet`; a `.weights.h5` or `.keras` file, here or s3://; or `random:<seed>` for tests and"
        " benchmarks.",
    )
    input_px: int | None = Field(
        None, ge=1, le=4096, description="Side of the square the network sees. Default: its own."
    )
    layer: str | None = Field(None, description="Layer whose output is taken. Default: the last before the top.")
    pooling: Literal["avg", "max", "flatten"] = Field(
        "avg", description="How the layer's height and width are folded away; flatten keeps all of it."
    )


class Extract(Section):
    """How the work is cut."""

    chunk_seconds: float = Field(
        120, gt=0, description="Work under way at any time, in seconds: about what a killed run loses."
    )
    chunk_images: int = Field(200_000, ge=1, description="Pictures in a chunk, at most, however fast they go.")
    task_images: int = Field(
        4096,
        ge=1,
        description="Pictures in a Spark task, at most; a task writes one file. Tasks of 20 s are aimed at, of less"
        " towards the end of a run.",
    )
    full: bool = Field(False, description="Embed every picture again, whatever was done before; --full says the same.")


class Reduce(Section):
    """PCA."""

    variance: float = Field(
        0.80, gt=0, le=1, description="PCA keeps the fewest components that reach this share of variance."
    )
    components: int | None = Field(None, ge=1, description="Or exactly this many; then `variance` does not count.")
    fit_split: str | None = Field(
        None,
        description="Fit on the rows of this split alone. Default: all rows. Name the training split when the accuracy"
        " must owe nothing to the test pictures.",
    )


class Limits(Section):
    """When a run has failed its own bar."""

    max_reject_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A run that rejects a larger share of its pictures keeps its work and exits with 1.",
    )
    executor_wait_seconds: float = Field(
        300, gt=0, description="A run to which the cluster has sent no executor for so long says so and exits with 2."
    )


class Report(Section):
    """The page."""

    title: str | None = Field(None, description="Heading of the page. Default: the pictures' folder.")
    points: int = Field(
        1500, ge=1, le=5000, description="Pictures in the scatter plot, at most: each carries its thumbnail."
    )
    queries: int = Field(6, ge=0, le=50, description="Pictures whose nearest neighbours are shown.")


class S3(Section):
    """How buckets are reached. AWS's own environment variables and files come first; credentials only from there."""

    endpoint: str | None = Field(
        None, pattern=r"^https?://[^/@\s]+$", description="Of a store other than AWS: http://host:9000."
    )
    region: str | None = Field(None, description="Of the buckets. Default: us-east-1.")
    path_style: bool | None = Field(
        None, description="Put the bucket into the path, not into the host's name. Default: as the endpoint suggests."
    )
    profile: str | None = Field(None, description="Profile of AWS's files, where AWS_PROFILE names none.")
    anonymous: Patterns = Field((), description="Buckets to read without credentials; `*` for all.")
    requester_pays: bool = Field(False, description="Accept the costs of reading buckets that ask for it.")
    reads_at_once: int = Field(16, ge=1, le=256, description="Objects each worker reads at the same time.")
    attempts: int = Field(10, ge=1, description="For each request: throttling, resets and the like are tried again.")
    timeout_seconds: float = Field(30, gt=0, description="For one attempt, so that a stalled read ends.")


class Config(Section):
    """A whole configuration, validated and frozen."""

    images: Images
    labels: Labels = Labels()
    decode: Decode = Decode()
    backbone: Backbone = Backbone()
    engine: Engine = Engine()
    extract: Extract = Extract()
    reduce: Reduce = Reduce()
    classify: Classify = Classify()
    finetune: Finetune = Finetune()
    limits: Limits = Limits()
    report: Report = Report()
    s3: S3 = S3()
    submit: Submit = Submit()
    crawl: Crawl = Crawl()
    explore: Explore = Explore()
    output: str = Field(min_length=1, description="Folder for everything a run makes, or s3://bucket/prefix.")
    cache: str = Field("~/.cache/mirabelle", description="Folder on the driver for weights and converted networks.")
    spark: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="Spark properties, `spark.driver.memory: 4g`. What spark-submit was told wins over them, and the"
        " driver's memory must be told to it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _join_spark_keys(cls, value: Any) -> Any:
        """``--set spark.driver.memory=4g`` arrives nested, as every dotted key does; join it again."""
        if isinstance(value, dict) and isinstance(value.get("spark"), dict):
            return {**value, "spark": dict(_dotted(value["spark"], "spark"))}
        return value

    def masked(self) -> dict[str, Any]:
        """As plain values for the manifest, with anything that looks like a secret replaced by ``***``."""
        dumped = self.model_dump(mode="json")
        dumped["spark"] = {k: "***" if is_secret(k) or is_secret(str(v)) else v for k, v in dumped["spark"].items()}
        return dumped


# What is written with an indent below it.
SECTIONS = (*(name for name, field in Config.model_fields.items() if is_section(field.annotation)), "spark")


def keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every key, depth first, as (dotted name, type, default, meaning), from the models above."""
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from keys(field.annotation, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else yaml_inline(field.get_default(call_default_factory=True))
        yield f"{prefix}{name}", _type_name(field.annotation), default, field.description or ""


def _dotted(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        # Written out in full under ``spark`` it means the same.
        name = str(key) if f"{key}.".startswith(f"{prefix}.") else f"{prefix}.{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, name)
        else:
            yield name, value


def is_secret(key: str) -> bool:
    """Whether a name sounds like that of a secret."""
    return any(word in key.lower() for word in SECRET_WORDS)


def yaml_inline(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("...").strip()


def _type_name(annotation: Any) -> str:
    text = str(annotation) if not isinstance(annotation, type) else annotation.__name__
    text = re.sub(r"typing\.|Annotated\[|pydantic\.\S+", "", text)
    choices = re.search(r"Literal\[(.*?)\]", text)
    if choices:
        return choices[1].replace("'", "").replace(", ", " | ")
    return "colour" if "Channel" in text or "FieldInfo" in text else text.replace(" | None", "")
