#!/bin/sh
# Creates the account of the steps, from the secret nas-mlflow, in the MLflow server; sets the password
# of an existing account. Run it when the server is up, and after a change of the secret.
# Usage: mlflow_account.sh NAMESPACE
set -eu
namespace=${1:?usage: mlflow_account.sh NAMESPACE}
template='{{index .data "username" | base64decode}}{{"\n"}}{{index .data "password" | base64decode}}{{"\n"}}'
account=$(kubectl -n "$namespace" get secret nas-mlflow -o go-template="$template")
echo "$account" | kubectl -n "$namespace" exec -i deployment/nas-mlflow -c mlflow -- \
  python3 -c "$(cat "$(dirname "$0")/mlflow_account.py")"
