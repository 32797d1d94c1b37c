#!/bin/bash
# backup.sh FOLDER: copies the PostgreSQL server, all five databases as of one moment, while the shop sells on.
#
# One moment for all is what counts: a purchase lies in four databases, and copies made one after the other could have it in
# some and not in others. So this is a copy of the server, and not five dumps. Where the services' databases are on servers
# of their own, use those servers' point-in-time recovery, all to the same time.
#
# The server is found as psql finds it: PGHOST, PGPORT, PGUSER (who may replicate), PGPASSWORD.
set -euo pipefail

pg_basebackup --pgdata="${1:?say where to}" --format=tar --gzip --wal-method=stream --checkpoint=fast --no-password
du -sh "$1"
