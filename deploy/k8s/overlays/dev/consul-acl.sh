#!/bin/sh
# Gives every service the token in its Secret: it may register that service, have certificates signed for it, and see where
# the others are. The management token, in CONSUL_HTTP_TOKEN, is in the servers' own Secret, which makes it valid from the start.
# Running this again is harmless.
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
  rules="service \"$service\" { policy = \"write\" } service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }"
  until consul acl policy read -name="$service" >/dev/null 2>&1 || consul acl policy create -name="$service" -rules="$rules" >/dev/null; do sleep 1; done
  give "$(cat "/run/tokens/$service")" -description="$service" -policy-name="$service"
done
echo done
