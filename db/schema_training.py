"""Tables of adapters and training runs."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.column_types import Base, CleanJson, Id, check, check_one_of, now

AdapterState = Literal["registered", "promoted", "retired"]
RunState = Literal["running", "succeeded", "failed", "stopped"]


class AdapterRow(Base):
    """A LoRA or DoRA adapter; its bytes are in `adapter_chunk`."""

    __tablename__ = "adapter"
    __table_args__ = (
        UniqueConstraint("sha256"),
        check("sha256", "length(sha256) = 64"),
        check_one_of("state", AdapterState),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str]
    name: Mapped[str]
    base: Mapped[str]
    config: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    metrics: Mapped[Any] = mapped_column(CleanJson, nullable=True)
    dataset_sha256: Mapped[str | None]
    state: Mapped[str] = mapped_column(default="registered")
    created_at: Mapped[float] = mapped_column(default=now())


class AdapterChunk(Base):
    """A chunk of an adapter's bytes, at most 1 MiB, in order of `position`."""

    __tablename__ = "adapter_chunk"
    __table_args__ = (
        check("size", "length(data) BETWEEN 1 AND 1048576"),
        check("position", "position >= 0"),
    )

    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes]


class AdapterPaper(Base):
    """A paper that an adapter was trained on, and which must not be used to judge it."""

    __tablename__ = "adapter_paper"
    __table_args__ = (check("paper_sha256", "length(paper_sha256) = 64"),)

    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True
    )
    paper_sha256: Mapped[str] = mapped_column(primary_key=True)


class TrainingRun(Base):
    """A run of the trainer and its result."""

    __tablename__ = "training_run"
    __table_args__ = (UniqueConstraint("name"), check_one_of("state", RunState))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    state: Mapped[str] = mapped_column(default="running")
    config: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    dataset_sha256: Mapped[str]
    adapter_id: Mapped[int | None] = mapped_column(ForeignKey("adapter.id"))
    versions: Mapped[Any] = mapped_column(CleanJson, nullable=True)
    started_at: Mapped[float] = mapped_column(default=now())
    finished_at: Mapped[float | None]


class TrainingMetric(Base):
    """One metric of a run at a step."""

    __tablename__ = "training_metric"
    __table_args__ = (check("step", "step >= 0"),)

    run_id: Mapped[int] = mapped_column(
        ForeignKey("training_run.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
