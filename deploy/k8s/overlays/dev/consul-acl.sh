#!/bin/sh
# Gives every service the token in its Secret: it may register that service, and see where the others are. The management
# token, in CONSUL_HTTP_TOKEN, is in the servers' own Secret, which makes it valid from the start. Running this again is
# harmless.
set -eu
until consul members >/dev/null 2>&1; do sleep 1; done
give() {
  secret=$1; shift
  if consul acl token read -self -token="$secret" >/dev/null 2>&1; then
    return
  fi
  until consul acl token create -secret="$secret" "$@" >/dev/null; do sleep 1; done
  echo "given:" "$@"
}
give "$AGENT_TOKEN" -description=servers -node-identity=consul-0:dc1
for service in gateway user product order payment coordinator; do
  give "$(cat "/run/tokens/$service")" -description="$service" -service-identity="$service"
done
echo done
