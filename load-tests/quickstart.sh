#!/bin/bash
# Several tenants at once, each with a connector, a ServiceAccount and a k6 of its own. `make load` runs it beside a cluster of its own:
# wants what config/samples/install.sh wants, and K6. TENANTS, VUS and DURATION bound the load.
set -euo pipefail
source "$(dirname "$0")/../config/samples/install.sh"
: "${K6:?set it to the k6 binary}"

tenants() { seq -f 'tenant-%g' 1 "${TENANTS:-3}"; }

# Load goes to networks for tests only (RFC 2544, loopback).
own_target() {
  case $TARGET_ADDRESS in
    https://198.18.* | https://198.19.* | https://127.*) ;;
    *) echo "$TARGET_ADDRESS is not a test network's address: no load goes there" >&2; exit 1 ;;
  esac
}

tenant() {
  step "kubectl create namespace $1"
  DEMO=$1 apply_sample connector.yaml
  step "kubectl wait --for condition=Ready -n $1 connector/k8s-connector --timeout 60s"
}

# One k6; its summary goes to a file, so that those of all tenants can be read one after the other.
load() {
  local token host
  token=$(kubectl create token default -n "$1" --audience connectors.alauda.io --duration 30m)
  host=$(kubectl get connector k8s-connector -n "$1" -o jsonpath='{.status.proxy.httpAddress.url}')
  HTTPS_PROXY="http://$1%2Fk8s-connector:$token@${host#http://}" SSL_CERT_FILE=$scratch/ca.crt TARGET=$TARGET_ADDRESS \
    "$K6" run --quiet --no-usage-report --address localhost:0 load-tests/quickstart.js >"$scratch/$1.txt" 2>&1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
{
  install_connectors
  target_account
  own_target
  for tenant in $(tenants); do tenant "$tenant"; done
} >/dev/null
kubectl get configmap connectors-ca-bundle -n connectors-system -o 'jsonpath={.data.ca\.crt}' >"$scratch/ca.crt"

echo "load: $(tenants | wc -l) tenants, ${VUS:-4} connections each, ${DURATION:-20s}, through the gateway to $TARGET_ADDRESS"
declare -A running
for tenant in $(tenants); do load "$tenant" & running[$tenant]=$!; done
failed=
for tenant in $(tenants); do
  outcome=passed
  wait "${running[$tenant]}" || { outcome='FAILED'; failed=yes; }
  printf '\n=== %s: thresholds %s\n' "$tenant" "$outcome"
  cat "$scratch/$tenant.txt"
done
printf '\n=== as one of the gateways counted\n'
kubectl get --raw /api/v1/namespaces/connectors-system/services/connectors-gateway-admin:9090/proxy/metrics \
  | grep -E '^connectors_gateway_(requests|tunnels)'
[ -z "$failed" ]
