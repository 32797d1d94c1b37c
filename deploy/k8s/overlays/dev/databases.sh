#!/bin/bash
# Run once on an empty data folder: a database and a login per service, closed to the others.
set -euo pipefail
for service in user product order payment coordinator; do
  psql -v ON_ERROR_STOP=1 -v service="$service" -v password="$(cat "/run/passwords/$service")" -U postgres <<'SQL'
CREATE ROLE :"service" LOGIN PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service";
REVOKE CONNECT ON DATABASE :"service" FROM PUBLIC;
SQL
done
