#!/bin/bash
# restore.sh FOLDER DATA: makes DATA, which must not exist or be empty, the data folder of a PostgreSQL server as it was when
# backup.sh ended. Started on it, the server replays what was written during the copy; then what was in doubt is settled by
# the services themselves, as after a power cut.
set -euo pipefail
from=${1:?say where the backup is} data=${2:?say where to}

if [ -n "$(ls -A "$data" 2>/dev/null)" ]; then
  echo "$data is not empty: move it away first" >&2
  exit 1
fi
mkdir -p "$data"
tar -xzf "$from/base.tar.gz" -C "$data"
tar -xzf "$from/pg_wal.tar.gz" -C "$data/pg_wal"
chmod 700 "$data"
[ "$(id -u)" != 0 ] || chown --reference="$data/PG_VERSION" "$data"
pg_verifybackup --no-parse-wal --manifest-path="$from/backup_manifest" "$data"
