"""Make an account in the MLflow server of this container; see mlflow_account.sh.

It runs inside that container, which knows the administrator. Name and password are two lines of
standard input.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request

_SERVER = os.environ.get("NAS_MLFLOW", "http://localhost:5000") + "/api/2.0/mlflow/users/"


def _ask(method: str, what: str, body: dict[str, str]) -> None:
    names = ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD")
    account = ":".join(os.environ[name] for name in names)
    request = urllib.request.Request(_SERVER + what, json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=60):
        pass


def main() -> None:
    """Create the account, or give it the password."""
    username, password = sys.stdin.read().split("\n")[:2]
    account = {"username": username, "password": password}
    try:
        try:
            _ask("POST", "create", account)
            print(f"account {username} was made")
        except urllib.error.HTTPError as error:
            if "RESOURCE_ALREADY_EXISTS" not in error.read().decode():
                raise
            _ask("PATCH", "update-password", account)
            print(f"account {username} was there, and has the password of the secret")
    except OSError as error:
        detail = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
        sys.exit(f"MLflow did not take the account: {error} {detail}")


if __name__ == "__main__":
    main()
