"""The description of a folder by the format that wrote it, for the model card."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contents:
    """The part of a model card that depends on the format.

    Attributes:
        library: `library_name` of the hub.
        task: `pipeline_tag` of the hub.
        summary: a sentence about what the folder holds.
        code: lines of Python that load and use it; `{path}` stands for the folder or its name on the hub.
        notes: sentences about what differs from the run.
        measured: lines of a Markdown table about what was measured in the export.
    """

    library: str
    task: str
    summary: str
    code: str
    notes: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
