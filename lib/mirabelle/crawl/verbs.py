"""What the verb ``mirabelle crawl`` can be asked for, by name."""

from mirabelle.crawl.checking import check
from mirabelle.crawl.crawling import crawl
from mirabelle.crawl.explaining import explain
from mirabelle.crawl.repairing import repair
from mirabelle.crawl.reparsing import reparse

__all__ = ["check", "crawl", "explain", "repair", "reparse"]
