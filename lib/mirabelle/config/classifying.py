"""The part of a configuration that says what is learnt from labels, and judged on which pictures. Touches nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mirabelle.config.section import Grid, Params, Patterns, Section
from mirabelle.evaluation import SplitBy


class Classify(Section):
    """The classifier."""

    estimator: str = Field("LogisticRegression", description="Any classifier of pyspark.ml.classification, by name.")
    params: Params = Field(default_factory=dict, description="Its parameters, by Spark's own names.")
    features: Literal["reduced", "full"] = Field(
        "reduced", description="Train on the PCA's output, or on all features."
    )
    grid: Grid = Field(
        default_factory=dict, description="Parameters to choose by cross-validation: `{regParam: [0.0, 0.01, 0.1]}`."
    )
    folds: int = Field(3, ge=2, description="Folds of that cross-validation, and of choosing thresholds.")
    train_split: str = Field("Training", description="The split to learn from, where the path or table tells splits.")
    test_split: str = Field("Test", description="The split to be judged on.")
    test_share: float = Field(
        0.2, gt=0, lt=1, description="Share held out where nothing tells splits, or where group_by is given."
    )
    seed: int = Field(0, description="Of every random choice in splitting and training.")
    group_by: Patterns = Field(
        (),
        description="A label column, or a regular expression on the path (its first group, else the whole match):"
        " pictures that agree in it stay on one side, and one without a value is a group of its own. Of several,"
        " `[registration, taken]`, pictures that agree in any. Takes the place of the path's own splits.",
    )
    hold_out: dict[str, Patterns] = Field(
        default_factory=dict,
        description="Judge on whole values of label columns, `{source: [web]}`, and learn from the rest but for what"
        " shares a group with them.",
    )
    chain: tuple[str, ...] = Field(
        (),
        description="Two label columns, a coarse one and a fine one, `[constructor, model_type]`: a classifier of the"
        " first, then one for each of its labels.",
    )
    min_rows: int = Field(
        20,
        ge=2,
        description="Pictures to learn from that a coarse label needs for a classifier of its own; one with fewer is"
        " the whole answer.",
    )
    networks: dict[str, str] = Field(
        default_factory=dict,
        description="Networks of this output that take the place of classifiers in the chain, by their ids:"
        " `{constructor: ID}` answers first; `{Boeing: ID}`, taught by `finetune.step: Boeing`, is this label's step.",
    )
    precision: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of right answers that a chain is to give: one that is not sure enough of the fine label"
        " answers the coarse one or nothing. Thresholds are chosen on pictures to learn from, by folds.",
    )

    @model_validator(mode="after")
    def _two_in_a_chain(self) -> Classify:
        if self.chain and len(set(self.chain)) != 2:
            raise ValueError("classify.chain wants two label columns, a coarse one and a fine one")
        for name in ("networks", "precision"):
            if getattr(self, name) and not self.chain:
                raise ValueError(f"classify.{name} is of a chain; set classify.chain, too")
        return self

    def split_by(self) -> SplitBy:
        """What decides which pictures are learnt from."""
        folds = self.folds if self.grid or self.precision else 0
        names = (self.train_split, self.test_split)
        return SplitBy(self.group_by, self.hold_out, *names, self.test_share, self.seed, folds)
