"""Settings of the dataset: which pictures, how often, at which sizes, and how each is told.

A folder's rules may be told for all in `[dataset]`, and for each of several folders in `[[dataset.blocks]]`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from velatura.schema import Settings

Side = Annotated[int, Field(ge=64, le=4096)]


class FolderSettings(Settings):
    """How the pictures of one folder are trained."""

    path: str = "dataset"
    """Folder of pictures with `.txt` captions; relative to the recipe."""
    repeats: int = Field(default=1, ge=1)
    """How often an epoch holds each picture, times what its folder's name says (`10_mara`); raise it for the smaller
    of two sets."""
    trigger: str = ""
    """Words put in front of every caption that does not hold them; they will call the style up."""
    resolution: Side | None = None
    """Side of a square of the training area, in pixels; "none": the base's own."""
    further_resolutions: list[Side] = Field(default=[])
    """Sides at which every picture is trained as well, as often as at `resolution`; for a LoRA that is to be painted
    at several sizes. What is held out is measured at `resolution` alone."""
    flip: bool = False
    """Also train on mirrored pictures; not where left and right matter, as in faces and writing."""
    crops: int = Field(default=1, ge=1, le=16)
    """Windows cut of each picture that is longer than its bucket, one of which is taken each time: 1, its middle; more:
    spread over its length by chance."""
    captions: Literal["random", "in_turn", "first"] = "random"
    """Which of several captions of a picture is told: any, another in each epoch, or always the first."""
    prefix: str = ""
    """Words in front of every caption, trigger included."""
    suffix: str = ""
    """Words behind every caption."""
    separator: str = Field(default=",", min_length=1)
    """What parts the tags of a caption."""
    shuffle: bool = False
    """Tell the tags in another order each time, so that none counts for where it stands; for tags, not sentences."""
    keep_tokens: int = Field(default=0, ge=0)
    """Tags at the beginning that are neither shuffled nor left out; 1 for a trigger in front."""
    keep_separator: str = ""
    """Mark in captions, such as `|||`, whose left side is kept instead, and the right side of a second one too."""
    tag_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the tags that are left out each time; 0.1 or so keeps a style from hanging on single tags."""
    caption_dropout: float = Field(default=0.05, ge=0, le=1)
    """Share of the samples trained without their caption."""
    caption_dropout_every: int = Field(default=0, ge=0)
    """Every so-manyth epoch is trained without captions; 0: none."""
    wildcards: bool = False
    """Read `{a|b}` in captions as a choice and `__x__` as a line of `wildcards/x.txt` beside the recipe; doubled braces
    are braces."""
    variants: int = Field(default=16, ge=1, le=1000)
    """How many wordings of a caption are drawn where it is shuffled, loses tags or has wildcards. Each is encoded once,
    before training: more of them take longer to begin with and more room in the cache."""


class BlockSettings(FolderSettings):
    """One of several folders; what it leaves out is as `[dataset]` says."""

    role: Literal["set", "class"] = "set"
    """What its pictures are: of the set that is learnt, or of the class, trained beside it to keep what the base knows
    (regularisation)."""


class DatasetSettings(FolderSettings):
    """The pictures, and how captions are read."""

    hold_out: float = Field(default=0.2, ge=0, le=0.5)
    """Share of the pictures kept out of training, to judge by."""
    regularisation: str = "reg"
    """Folder in the dataset with pictures of the class, trained as often as the set's own to keep what the base knows;
    `reg` is used where it is there, another must be there; none: no such pictures."""
    prior_weight: float = Field(default=1.0, ge=0)
    """What the loss of pictures of the class counts, where there are any; 0: they are left out."""
    blocks: list[BlockSettings] = Field(default=[])
    """Several folders, each with rules of its own, as `[[dataset.blocks]]`, or `[[dataset]]` for short; where there are
    any, they are the dataset, and `path` is none of it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_blocks(cls, tree: Any) -> Any:
        """What a block leaves out is as for all."""
        if not isinstance(tree, dict) or not isinstance(tree.get("blocks"), list):
            return tree
        shared = {name: tree[name] for name in FolderSettings.model_fields if name in tree}
        blocks = [{**shared, **block} if isinstance(block, dict) else block for block in tree["blocks"]]
        return {**tree, "blocks": blocks}

    @property
    def triggers(self) -> tuple[str, ...]:
        """The trigger of each folder of the set that has one, each once."""
        told = (one.trigger for one in self.folders if one.role == "set" and one.trigger)
        return tuple(dict.fromkeys(told))

    @property
    def folders(self) -> tuple[BlockSettings, ...]:
        """The blocks; without any, the one folder that `[dataset]` itself names."""
        if self.blocks:
            return tuple(self.blocks)
        return (BlockSettings.model_construct(**{name: getattr(self, name) for name in FolderSettings.model_fields}),)
