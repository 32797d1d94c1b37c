#!/bin/bash
# Prints the Secrets of the dev overlay with values that nobody knows: secrets.sh | kubectl apply -f -
# Once for a cluster: PostgreSQL keeps the passwords that it was made with. SEED_PASSWORD is that of the seeded accounts.
set -euo pipefail

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
uuid() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | sed -E 's/(.{8})(.{4})(.{4})(.{4})(.{12})/\1-\2-\3-\4-\5/'; }
secret() { # secret NAME KEY VALUE [KEY VALUE]...
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: souk, labels: {app.kubernetes.io/part-of: souk}}\nstringData:\n' "$1"
  shift
  while [ $# -gt 0 ]; do
    printf "  %s: '%s'\n" "$1" "$2"
    shift 2
  done
}

cat "$(dirname "$0")/base/namespace.yaml"
postgres=(postgres "$(password)")
secret gateway consul-token "$(uuid)"
for service in user product order payment coordinator; do
  password=$(password)
  postgres+=("$service" "$password")
  secret "$service" consul-token "$(uuid)" \
    kek "$(head -c 32 /dev/urandom | base64)" \
    database-url "postgres://$service:$password@postgres:5432/$service?sslmode=disable"
done
secret postgres "${postgres[@]}"
management=$(uuid) agent=$(uuid)
secret consul management-token "$management" agent-token "$agent" \
  acl.json '{"acl": {"tokens": {"initial_management": "'"$management"'", "agent": "'"$agent"'"}}}'
secret seed password "${SEED_PASSWORD:-open-sesame-1001}"
