#!/bin/sh
# Once for a shop: turns the key in Consul's ACLs, and puts for every service a token into that service's volume: with it the service
# may register itself and nobody else, have certificates signed in its own name, and see where the others are. Running this again
# is harmless, and mends what is missing.
set -eu
umask 077
admin=/tokens/admin/token # may do everything, and stays here

token() { # token FILE: one that nobody knows, made once
  [ -s "$1" ] || { cat /proc/sys/kernel/random/uuid >"$1.new" && mv "$1.new" "$1"; }
}
give() { # give FILE WHAT...
  file=$1; shift
  token "$file"
  until consul acl token read -self -token-file="$file" >/dev/null 2>&1; do
    consul acl token create -secret="$(cat "$file")" "$@" >/dev/null || sleep 1
  done
}

token $admin
until CONSUL_HTTP_TOKEN_FILE=$admin consul acl token read -self >/dev/null 2>&1; do
  consul acl bootstrap $admin >/dev/null 2>&1 || sleep 1
done
export CONSUL_HTTP_TOKEN_FILE=$admin

give /tokens/admin/agent -description=servers -node-identity=consul:dc1
consul acl set-agent-token agent "$(cat /tokens/admin/agent)" >/dev/null

for service in gateway user product order payment coordinator; do
  dir=/tokens/$service
  chmod 1777 "$dir" # the service keeps its certificate there, for a start without Consul
  rules="service \"$service\" { policy = \"write\" } service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }"
  until consul acl policy read -name="$service" >/dev/null 2>&1; do
    consul acl policy create -name="$service" -rules="$rules" >/dev/null || sleep 1
  done
  give "$dir/token" -description="$service" -policy-name="$service"
  chmod 0444 "$dir/token" # for the service, which is another user; nobody else has the volume
done
echo "a token for each service"
