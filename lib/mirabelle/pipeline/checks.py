"""What a configuration is held to before Spark starts and any image is read. Driver only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mirabelle import listing
from mirabelle.config import Config
from mirabelle.errors import ConfigError, UserError
from mirabelle.network import backbones
from mirabelle.network.preparing import check_weights, shape_of
from mirabelle.storage import absolute, open_store


def validate(config: Config, stages: Sequence[str]) -> None:
    """Everything about a configuration that can be judged before Spark starts and any image is read.

    Raises:
        ConfigError: with every mistake.
        UserError: the only mistake, if it is of another kind.
    """

    def check_backbone() -> None:
        row = backbones.find(config.backbone.name)
        backbones.check(row, shape_of(config)[0])
        if "extract" in stages:
            check_weights(config)

    def check_output() -> None:
        open_store(config.output)
        output = absolute(config.output)
        odd = set(output) & set("[]{}*?\\")
        if odd:
            raise ConfigError(
                f"output {config.output!r}: Spark takes {' '.join(sorted(odd))} in a path for a pattern; leave it out"
            )

    def check_group() -> None:
        for group_by in config.classify.group_by:
            try:
                re.compile(group_by)
            except re.error as error:
                raise ConfigError(
                    f"classify.group_by {group_by!r} is neither a column nor a regular expression: {error}"
                ) from error

    def check_estimator() -> None:
        from mirabelle.spark import classify

        classify.check_estimator(config.classify)

    checks: list[Callable[[], object]] = [
        check_backbone,
        check_output,
        lambda: open_store(config.images.root),
    ]
    if "extract" in stages and config.images.layout is not None:
        checks.append(lambda: listing.compile_layout(str(config.images.layout)))
    if "train" in stages:
        checks += [check_estimator, check_group]
    mistakes: list[UserError] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            mistakes.append(error)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        raise ConfigError(*(str(mistake) for mistake in mistakes))
