"""What an adapter file says about itself."""

from __future__ import annotations

from collections.abc import Mapping

from velatura import tensorfile
from velatura.tensorfile import RawTensor


def hashes(tensors: Mapping[str, RawTensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The hashes by which other programs know the file.

    As kohya's trainer has it, they are of the file as it would be with its `ss_` metadata alone, so
    that a title or a thumbnail can be edited later. `sshs_legacy_hash` is of 64 KiB from 1 MiB on, and of
    nothing where the file is smaller.
    """
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    bare = tensorfile.to_bytes(tensors, training)
    digest = tensorfile.tensor_hash(bare)
    return {
        "sshs_model_hash": digest,
        "sshs_legacy_hash": tensorfile.legacy_hash(bare),
        "modelspec.hash_sha256": f"0x{digest}",
    }
