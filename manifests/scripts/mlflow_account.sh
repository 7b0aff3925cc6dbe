#!/bin/sh
# Makes the account of the steps, as the secret nas-mlflow has it, in the MLflow server; gives it that
# password when the account is there. Run it when the server is up, and after a change of the secret.
# Usage: mlflow_account.sh NAMESPACE
set -eu
namespace=${1:?usage: mlflow_account.sh NAMESPACE}
template='{{index .data "username" | base64decode}}{{"\n"}}{{index .data "password" | base64decode}}{{"\n"}}'
account=$(kubectl -n "$namespace" get secret nas-mlflow -o go-template="$template")
echo "$account" | kubectl -n "$namespace" exec -i deployment/nas-mlflow -c mlflow -- \
  python3 -c "$(cat "$(dirname "$0")/mlflow_account.py")"
