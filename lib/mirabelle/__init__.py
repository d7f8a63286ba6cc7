"""Mirabelle: a bucket of pictures into features, and features into decisions, on Apache Spark."""

__version__ = "0.1.0"
