#!/bin/sh
# Copies the databases to $FOLDER and removes copies older than $KEEP_DAYS. If a copy cannot be read
# back, nothing is removed.
set -eu
now=$(date -u +%Y%m%dT%H%M%SZ)
part=
trap '[ -z "$part" ] || rm -f "$part"' EXIT
for database in studies mlflow; do
  part="$FOLDER/$database-$now.part"
  pg_dump --format=custom --file="$part" "$database"
  pg_restore --list "$part" >/dev/null
  mv "$part" "$FOLDER/$database-$now.dump"
  echo "$database: $(du -h "$FOLDER/$database-$now.dump" | cut -f1) in $database-$now.dump"
done
find "$FOLDER" -name '*.dump' -mtime "+$KEEP_DAYS" -exec rm {} +
find "$FOLDER" -name '*.part' -mtime +1 -exec rm {} +  # of a pod that was killed
