"""Bytes against the checksums that were recorded when they were written."""

from __future__ import annotations

from collections.abc import Iterator

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.formats.shards import MANIFEST, read_manifest
from pde_data.storage import sha256


def checksums(subject: Subject) -> Iterator[Row]:
    """SHA-256 of the file, or of each shard, as in its manifest."""
    path = subject.path
    record = path / MANIFEST if path.is_dir() else path.with_name(f"{path.name}.manifest.json")
    if not record.is_file():
        yield skipped("checksum", "file", f"no {record.name}")
        return
    content = read_manifest(record)
    if path.is_dir():
        expected = {path / shard["file"]: shard["sha256"] for shard in content["shards"]}
    else:
        expected = {path: content.get("sha256")}
    changed = [file.name for file, digest in expected.items() if sha256(file) != digest]
    remedy = f"{', '.join(changed[:3])} changed since written, or damaged; generate or download again"
    yield judged("checksum", record.name, len(changed), 0, remedy)
