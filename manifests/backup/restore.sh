#!/bin/sh
# Replaces the databases by the copies of $STAMP (as in studies-STAMP.dump; empty: the newest). The
# present databases are renamed to NAME_before_TIME, so that a wrong choice loses nothing.
set -eu
now=$(date -u +%Y%m%dt%H%M%Sz)
stamp=${STAMP:-}
if [ -z "$stamp" ]; then
  stamp=$(cd "$FOLDER" && ls mlflow-*.dump | sort | tail -n 1 | sed 's/^mlflow-//; s/\.dump$//')
fi
for database in studies mlflow; do
  if [ ! -f "$FOLDER/$database-$stamp.dump" ]; then
    echo "There is no $database-$stamp.dump. There are:" >&2
    ls "$FOLDER" >&2
    exit 1
  fi
done
for database in studies mlflow; do
  dropdb --if-exists "${database}_restored"
  createdb --owner="$database" "${database}_restored"
  pg_restore --exit-on-error --single-transaction --dbname="${database}_restored" \
    "$FOLDER/$database-$stamp.dump"
done
for database in studies mlflow; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres <<SQL
REVOKE ALL ON DATABASE ${database}_restored FROM PUBLIC;
ALTER DATABASE $database WITH ALLOW_CONNECTIONS false;
SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity WHERE datname = '$database';
ALTER DATABASE $database RENAME TO ${database}_before_$now;
ALTER DATABASE ${database}_restored RENAME TO $database;
ALTER DATABASE ${database}_before_$now WITH ALLOW_CONNECTIONS true;
SQL
  echo "$database is that of $stamp; the one before is ${database}_before_$now"
done
