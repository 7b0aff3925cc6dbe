"""KFP's object store as the launcher sees it: files only, and little patience."""

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cluster.spec import Json

RETRY_TIMEOUT_S = 11.0
"""N9: so long the launcher's client tries again (maxRetries 5 of KFP's default configuration)."""
BUCKET = "mlpipeline"


class StoreError(Exception):
    """The launcher gives up; its container ends with exit code 1."""


class Gate:
    """A TCP port before a server that can be shut: connections are refused then."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._open.getsockname()[1])
        self._lock = threading.Lock()
        self._pairs: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._open,), daemon=True).start()

    def shut(self) -> None:
        with self._lock:
            with contextlib.suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)
            self._open.close()
            for one in self._pairs:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def open(self) -> None:
        with self._lock:
            if self._open.fileno() < 0:
                self._open = socket.create_server(("127.0.0.1", self.port))
                threading.Thread(target=self._accept, args=(self._open,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._pairs += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class ArtifactStore:
    """The bucket of KFP's artifacts.

    Args:
        client: of boto3, for the bucket's server.
        endpoint: HOST:PORT as KFP knows it; steps find it in their executor input.
        scheme: of the pipeline root, minio or s3.
    """

    def __init__(self, client: Any, endpoint: str, *, scheme: str = "minio") -> None:
        self._client, self.endpoint = client, endpoint
        self.root = f"{scheme}://{BUCKET}/v2/artifacts"

    def session(self) -> Json:
        """As recorded in `store_session_info` of a real run."""
        parameters = {
            "accessKeyKey": "accesskey",
            "disableSSL": "true",
            "endpoint": self.endpoint,
            "fromEnv": "false",
            "maxRetries": "5",
            "region": "minio",
            "secretKeyKey": "secretkey",
            "secretName": "mlpipeline-minio-artifact",
        }
        return {"Provider": "minio", "Params": parameters}

    def upload(self, path: Path, uri: str) -> None:
        """K: v2/objectstore/object_store.go:115-146: each file; nothing for an empty folder."""
        key = _key(uri)
        if path.is_dir():
            for file in sorted(one for one in path.rglob("*") if one.is_file()):
                self._patiently("upload_file", str(file), BUCKET, f"{key}/{file.relative_to(path)}")
        elif path.exists():  # K: launcher_v2.go:826: an output without a file is only a warning
            self._patiently("upload_file", str(path), BUCKET, key)

    def download(self, uri: str, path: Path) -> None:
        """K: v2/objectstore/object_store.go:176-204: an absent prefix gives an absent path (C1)."""
        key = _key(uri)
        listed = self._patiently("list_objects_v2", Bucket=BUCKET, Prefix=key)
        while True:
            for one in listed.get("Contents", ()):
                if one["Key"] == key or one["Key"].startswith(f"{key}/"):
                    file = path / one["Key"][len(key) + 1 :] if one["Key"] != key else path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._patiently("download_file", BUCKET, one["Key"], str(file))
            if not listed.get("IsTruncated"):
                return
            token = listed["NextContinuationToken"]
            listed = self._patiently(
                "list_objects_v2", Bucket=BUCKET, Prefix=key, ContinuationToken=token
            )

    def _patiently(self, method: str, *arguments: Any, **options: Any) -> Any:
        start = time.monotonic()
        while True:
            try:
                return getattr(self._client, method)(*arguments, **options)
            except (BotoCoreError, ClientError, OSError) as error:
                if time.monotonic() - start > RETRY_TIMEOUT_S:
                    raise StoreError(f"{method}: {error}") from error
                time.sleep(0.5)


def _key(uri: str) -> str:
    return uri.split("://")[1].removeprefix(f"{BUCKET}/")
