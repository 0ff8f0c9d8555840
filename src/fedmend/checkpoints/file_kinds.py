"""Files that hold no weights that can be read here, by their first bytes: what they are, and what to do."""

from __future__ import annotations

import zipfile

from fedmend.errors import CheckpointError

_WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz", ".tar")
_STARTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the model itself; fetch the model with `git lfs pull`",
    ),
    (b"\x89HDF", "is an HDF5 file, as Keras writes them; fedmend reads weights of PyTorch models"),
    (b"\x93NUMPY", "is a single array of NumPy; save all arrays with numpy.savez, or a state_dict()"),
    (b"GGUF", "is a GGUF file, whose weights are quantised; ask for the PyTorch weights"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"Rar!", "is a RAR archive; unpack it first"),
)
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")
_ONNX_FIELDS = b"\x12\x1a\x22\x2a\x32\x3a\x42"


def refuse_other_kinds(head: bytes) -> None:
    """Refuse a file that begins so, if it is of a known kind that holds no readable weights.

    Args:
        head: the first 512 bytes.

    Raises:
        CheckpointError: it is; the message continues "FILE ...".
    """
    for start, what in _STARTS:
        if head.startswith(start):
            raise CheckpointError(what)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        raise CheckpointError(
            "is a web page, such as an error or login page saved by a download; download the model again"
        )
    if head.lstrip().startswith(b"{") and b'"weight_map"' in head:
        raise CheckpointError(
            "is the index of a checkpoint in several files; join these into one first (see Model files in the "
            "documentation)"
        )
    if head[4:8] == b"TFL3":
        raise CheckpointError("is a TensorFlow Lite model; fedmend reads weights of PyTorch models")
    if len(head) > 2 and head[0] == 8 and 0 < head[1] < 32 and head[2] in _ONNX_FIELDS:
        raise CheckpointError(
            "is an ONNX model, which holds no state_dict; ask for the PyTorch weights it was made from"
        )
    if head[257:262] == b"ustar":
        raise CheckpointError(
            "is a tar archive; unpack it first, or if torch itself wrote it, load it with torch and save it again"
        )


def kind_of_archive(archive: zipfile.ZipFile) -> str:
    """What a zip archive is: "torch" (of ``torch.save``) or "arrays" (``.npz``).

    Raises:
        CheckpointError: another one; the message continues "FILE ...".
    """
    names = [entry.filename for entry in archive.infolist()]
    last = {name.rpartition("/")[2] for name in names}
    folders = {part for name in names for part in name.split("/")[:-1][:3]}
    if "constants.pkl" in last or ("model.json" in last and "code" in folders):
        raise CheckpointError(
            "is a TorchScript archive, which holds code; save the model's state_dict() instead"
        )
    if "archive_format" in last or "serialized_exported_program.json" in last:
        raise CheckpointError("is a program exported by torch.export; save the model's state_dict() instead")
    if ".data" in folders and "extern_modules" in last:
        raise CheckpointError(
            "is a torch.package archive, which holds code; save the model's state_dict() instead"
        )
    if any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "arrays"
    if "model.weights.h5" in last:
        raise CheckpointError("is a Keras model; fedmend reads weights of PyTorch models")
    packed = [name for name in names if name.lower().endswith(_WEIGHTS)]
    if packed:
        raise CheckpointError("is a zip archive with a model file inside; unpack it first")
    raise CheckpointError("is a zip archive without weights; expected what torch.save or numpy.savez writes")
