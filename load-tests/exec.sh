#!/bin/bash
# SIZE MiB through `kubectl exec`, into a Pod and out of it (written there in pieces of 64 or 4 KiB: each may become a message of its own),
# directly and through the gateway in turns, ROUNDS times: throughput of either, and what it cost the gateway. `make load-exec` runs it
# beside a cluster of its own, which is its own target: only a cluster with a kubelet has exec. Wants what config/samples/install.sh wants,
# and to be on the node.
set -euo pipefail
source "$(dirname "$0")/../config/samples/install.sh"

DEMO=load-exec
POD=inspect-k8s-access
SIZE=${SIZE:-1024}

# An account that may run commands in Pods.
account() {
  kubectl create serviceaccount operator -n "$DEMO"
  kubectl create role operator --verb get,create --resource pods,pods/exec -n "$DEMO"
  kubectl create rolebinding operator --role operator --serviceaccount "$DEMO:operator" -n "$DEMO"
}

setting() {
  install_connectors
  kubectl create namespace "$DEMO"
  account
  TARGET_TOKEN=$(kubectl create token operator -n "$DEMO" --duration 1h) TARGET_ADDRESS=https://kubernetes.default.svc:443
  apply_sample connector.yaml
  step "kubectl wait --for condition=Ready -n $DEMO connector/k8s-connector --timeout 60s"
  apply_sample inspect.yaml
  step "kubectl wait --for condition=Ready -n $DEMO pod/$POD --timeout 60s"
  kubectl get configmap kube-root-ca.crt -n "$DEMO" -o 'jsonpath={.data.ca\.crt}' | kubectl exec -i -n "$DEMO" "$POD" -- sh -c 'cat >/tmp/ca.crt'
}

gateways() { pgrep -x connectors-gate; }
# Clock ticks of user and system time of all gateways.
ticks() { for pid in $(gateways); do cat "/proc/$pid/stat"; done | awk '{ sum += $14 + $15 } END { print sum }'; }
memory() { for pid in $(gateways); do awk -v field="$1:" '$1 == field { print $2 }' "/proc/$pid/status"; done; }
forget_peak() { for pid in $(gateways); do echo 5 >"/proc/$pid/clear_refs"; done; }
# KiB by which the one that grew most has grown: its peak now, less what it had.
growth() { paste <(echo "$1") <(memory VmHWM) | awk '{ grown = $2 - $1; if (grown > most) most = grown } END { print most + 0 }'; }

# One stream: `way` direct or gateway, `direction` in, out-64 or out-4. Tells MiB/s, the gateways' CPU seconds and the growth of one.
stream() {
  local way=$1 protocol=$2 direction=$3 flags='' line
  [ "$way" = gateway ] || flags="--kubeconfig /dev/null --server https://kubernetes.default.svc --certificate-authority /tmp/ca.crt --token $TARGET_TOKEN"
  [ "$protocol" = websocket ] && protocol=true || protocol=false
  case $direction in
    out-*) line="kubectl $flags exec -n $DEMO $POD -- dd if=/dev/zero bs=${direction#out-}k count=$(((SIZE << 10) / ${direction#out-})) 2>/dev/null | wc -c" ;;
    in) line="head -c $((SIZE << 20)) /dev/zero | kubectl $flags exec -i -n $DEMO $POD -- wc -c" ;;
  esac
  local before start spent end carried
  forget_peak
  before=$(memory VmRSS) spent=$(ticks) start=$EPOCHREALTIME
  carried=$(kubectl exec -n "$DEMO" "$POD" -- sh -c "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=$protocol; export KUBECTL_REMOTE_COMMAND_WEBSOCKETS; $line")
  end=$EPOCHREALTIME
  [ "$carried" = $((SIZE << 20)) ] || { echo "$way $2 $direction: $carried bytes of $((SIZE << 20)) arrived" >&2; return 1; }
  echo "$(((SIZE * 1000000) / (${end/[.,]/} - ${start/[.,]/}))) $(($(ticks) - spent)) $(growth "$before")"
}

# The words of two streams in a row.
report() {
  awk -v size="$SIZE" -v hertz="$(getconf CLK_TCK)" '{
    printf "%-10s %-6s %12s %12s %6.2f %16.2f %12s\n", $1, $2, $3, $6, $6 / $3, $7 / hertz * 1024 / size, $8
  }' <<<"$*"
}

setting >/dev/null
echo "load-exec: $SIZE MiB through kubectl exec, ${ROUNDS:-2} rounds; CPU and growth are the gateway's"
printf '%-10s %-6s %12s %12s %6s %16s %12s\n' protocol way 'direct MiB/s' 'gateway' ratio 'CPU s per GiB' 'growth KiB'
for round in $(seq "${ROUNDS:-2}"); do
  for protocol in websocket spdy; do
    for direction in in out-64 out-4; do
      direct=$(stream direct "$protocol" "$direction")
      through=$(stream gateway "$protocol" "$direction")
      report "$protocol" "$direction" $direct $through
    done
  done
done
