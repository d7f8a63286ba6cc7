"""The part of a configuration that says what `mirabelle crawl` does. Touches nothing."""

from __future__ import annotations

from pydantic import Field

from mirabelle.config.section import Section


class Crawl(Section):
    """Photographs from a site."""

    site: str = Field(
        "commons",
        description="The site's description: its name in conf/sites, or a YAML file; `mirabelle crawl --explain`.",
    )
    contact: str | None = Field(
        None, description="Whom the site can write to, an address or a page; it is told with each request. Needed."
    )
    permission: str | None = Field(
        None,
        description="On what ground a site may be crawled whose terms forbid the use; kept in the run's manifest.",
    )
    start: tuple[str, ...] = Field((), description="Start addresses in place of the description's own.")
    delay_seconds: float = Field(
        1.0, ge=0, description="Between requests to a host, at least; robots.txt may ask for more."
    )
    timeout_seconds: float = Field(60, gt=0, description="For one request.")
    tries: int = Field(4, ge=1, le=10, description="Of each request that a busy site or a broken connection spoils.")
    retry_seconds: float = Field(1.0, ge=0, description="Before the second try; doubled before each further one.")
    max_pages: int = Field(100_000, ge=1, description="Pages in one crawl, at most.")
    max_images: int = Field(1_000_000, ge=1, description="Photographs in one crawl, at most.")
    max_depth: int = Field(10_000, ge=1, description="Pages of one list that follow one another, at most.")
    max_page_bytes: int = Field(10 * 2**20, ge=1, description="A larger page is a failure.")
    max_image_bytes: int = Field(50 * 2**20, ge=1, description="A larger picture is a failure.")
    canary_pages: int = Field(
        5, ge=1, description="List pages after which a site that is no longer as described is noticed, at most."
    )
    compare: bool = Field(True, description="Compare with the last good crawl, too, not with the description alone.")
    max_failure_share: float = Field(
        0.05, ge=0, le=1, description="A crawl that gets a larger share of its photographs not exits with 1."
    )
