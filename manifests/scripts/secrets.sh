#!/bin/sh
# Creates the secrets of the services and the steps with random passwords; existing secrets are not
# changed. Values are passed by standard input, so that no process list shows them.
# Usage: secrets.sh NAMESPACE
set -eu
namespace=${1:?usage: secrets.sh NAMESPACE}

is_missing() {
  [ -z "$(kubectl -n "$namespace" get secret "$1" --ignore-not-found -o name)" ]
}

value_of() {
  kubectl -n "$namespace" get secret "$1" -o go-template="{{index .data \"$2\" | base64decode}}"
}

create() {
  name=$1 && shift
  {
    printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\nstringData:\n' "$name"
    printf '  %s\n' "$@"
  } | kubectl -n "$namespace" create -f -
}

random() {
  openssl rand -hex 24
}

if is_missing nas-postgres; then
  create nas-postgres "postgres-password: '$(random)'" "study-password: '$(random)'" \
    "mlflow-password: '$(random)'"
fi
if is_missing nas-study; then
  password=$(value_of nas-postgres study-password)
  create nas-study "url: 'postgresql://studies:$password@nas-postgres:5432/studies'"
fi
if is_missing nas-mlflow-server; then
  create nas-mlflow-server "admin-username: admin" "admin-password: '$(random)'" \
    "flask-secret-key: '$(random)'"
fi
if is_missing nas-mlflow; then
  create nas-mlflow "username: nas-steps" "password: '$(random)'"
fi
# Keys for Kubeflow's SeaweedFS, which seaweedfs.sh registers there. For another object store, create
# this secret with its keys before you run this script.
if is_missing nas-s3; then
  create nas-s3 "access-key-id: 'nas-$namespace'" "secret-access-key: '$(random)'"
fi
