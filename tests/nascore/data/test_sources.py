"""Names of sources, the digits and CIFAR; archives and folders have files of their own."""

import hashlib
import pickle
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nascore.config import DataConfig
from nascore.data.sources import read
from nascore.errors import InputError


def refusal(source: str, **settings: object) -> str:
    with pytest.raises(InputError) as caught:
        read(DataConfig(source=source, **settings))  # type: ignore[arg-type]
    return str(caught.value)


def test_digits_are_scaled_to_bytes() -> None:
    raw = read(DataConfig(source="digits"))
    assert raw.images is not None
    assert raw.images.shape == (1797, 8, 8, 1)
    assert raw.images.dtype == np.uint8
    assert (raw.images.min(), raw.images.max()) == (0, 255)
    assert np.abs(raw.images[..., 0] / 255 - load_digits().images / 16).max() <= 0.5 / 255
    assert raw.classes == tuple("0123456789")
    assert raw.num_test == 0


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("digit", "did you mean 'digits'?"),
        ("imagefolders:x", "did you mean 'imagefolder'?"),
        ("qqq", "unknown source; use digits, cifar10, cifar100, omniglot, npz:PATH or"),
        ("some/where.npz", "did you mean 'npz:some/where.npz'?"),
        ("/", "did you mean 'imagefolder:/'?"),
        ("npz", "names no path; write npz:PATH"),
        ("cifar10:/data", "cifar10 takes no path; write 'cifar10' (data.root"),
        ("s3://bucket/data.npz", "does not say what is there; write 'npz:s3://bucket/data.npz'"),
        ("s3://bucket/data", "does not say what is there; write 'imagefolder:s3://bucket/data'"),
        ("npz:s3://bucket/data.npz", "S3 cannot be read here"),
        ("npz:s3://bucket", "names no object"),
        ("imagefolder:s3://B/data", "is no S3 URI"),
        ("imagefolder:s3://bucket/a/../b", "has a key with '.' or '..'"),
        ("omniglot:s3://bucket/data", "omniglot takes no path"),
    ],
)
def test_wrong_names_get_a_hint(source: str, hint: str) -> None:
    message = refusal(source)
    assert message.startswith(f"data.source = {source}: ")
    assert hint in message


def test_reading_needs_no_torch() -> None:
    """`prepare_data` is the first step; it must not wait for an import it does not use."""
    script = (
        "import sys; from nascore.config import DataConfig; import nascore.data.prepared; "
        "from nascore.data.sources import read; read(DataConfig(source='digits')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- CIFAR ----------------------------------------------------------------------------------


def test_cifar_that_is_nowhere_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no server: every download fails
    # The process keeps the first opener, and its proxies, for all later downloads.
    monkeypatch.setattr(urllib.request, "_opener", None)
    message = refusal("cifar10", root=tmp_path)
    assert message.startswith(f"data.root = {tmp_path}: cifar10 is not there and cannot be down")
    assert "npz:PATH" in message


def test_cifar_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in torchvision's form with few images; only their checksums are made to fit."""
    from torchvision.datasets import CIFAR100

    rng = np.random.default_rng(0)
    folder = tmp_path / CIFAR100.base_folder
    folder.mkdir()
    pixels = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)

    def store(name: str, content: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    images = {"data": pixels.reshape(6, -1), "fine_labels": [0, 1, 0, 1, 0, 1]}
    names = {"fine_label_names": ["apple", "train"]}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", store("train", images)]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", store("test", images)]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": store("meta", names)})
    raw = read(DataConfig(source="cifar100", root=tmp_path))
    assert raw.images is not None
    assert np.array_equal(raw.images[:6], pixels.transpose(0, 2, 3, 1))
    assert (raw.classes, raw.num_test, raw.size) == (("apple", "train"), 6, 32)
