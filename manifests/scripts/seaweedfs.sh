#!/bin/sh
# Creates the buckets nas-mlflow and nas-state in Kubeflow's SeaweedFS, and allows the keys of the
# secret nas-s3 to read and write these buckets only. May be run again.
# Usage: seaweedfs.sh NAMESPACE
set -eu
namespace=${1:?usage: seaweedfs.sh NAMESPACE}

key() {
  kubectl -n "$namespace" get secret nas-s3 -o go-template="{{index .data \"$1\" | base64decode}}"
}

weed() {
  kubectl -n kubeflow exec -i deployment/seaweedfs -c seaweedfs -- weed shell
}

user=$(key access-key-id)
secret=$(key secret-access-key)
# Its output contains the account with the secret, and it fails for an existing bucket; so the result
# is checked instead of the exit status.
said=$(weed <<COMMANDS
s3.bucket.create -name nas-mlflow
s3.bucket.create -name nas-state
s3.configure -user $user -access_key $user -secret_key $secret -buckets nas-mlflow,nas-state -actions Read,Write,List,Tagging -apply
COMMANDS
) || true
case $said in
  *"$secret"*) echo "the keys of nas-s3 may use the buckets" ;;
  *) echo "the keys of nas-s3 could not be made known" >&2 && exit 1 ;;
esac
buckets=$(echo s3.bucket.list | weed)
for bucket in nas-mlflow nas-state; do
  case $buckets in
    *"$bucket"*) echo "bucket $bucket is there" ;;
    *) echo "bucket $bucket could not be made" >&2 && exit 1 ;;
  esac
done
