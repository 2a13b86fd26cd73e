"""The first format: secrets and their versions, data keys, master keys, keyslots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TOMBSTONES = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    """Make every table."""
    _create_store_tables()
    _create_secret_tables()


def _create_store_tables() -> None:
    op.create_table(
        "store_meta",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("store_id", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("slot_table_mac", sa.LargeBinary, nullable=False),
        sa.Column("sealed_state", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "keyslot",
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("wrapped_root", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "master_key",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key_id", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("custody", sa.Text, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("wraps_reserved", sa.Integer, nullable=False),
        sa.Column("retiring", sa.Integer, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("key_id", "version"),
        sa.UniqueConstraint("name", "version"),
    )


def _create_secret_tables() -> None:
    op.create_table(
        "secret",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.Text, nullable=False, unique=True),
        sa.Column("latest", sa.Integer, nullable=False),
        sa.Column("deleted_at", sa.Integer),
    )
    op.create_index("secret_deleted", "secret", ["deleted_at"], sqlite_where=TOMBSTONES)
    op.create_table(
        "secret_version",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("secret_id", sa.Integer, sa.ForeignKey("secret.id"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.UniqueConstraint("secret_id", "version"),
    )
    op.create_table(
        "data_key",
        sa.Column("id", sa.Integer, sa.ForeignKey("secret_version.id"), primary_key=True),
        sa.Column("master_key", sa.Integer, sa.ForeignKey("master_key.id"), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    )
    op.create_index("data_key_master", "data_key", ["master_key"])
