#!/bin/bash
# The quick start, typed step by step, and the proof that the Pod never held the target's token. `make demo` runs it on a cluster of its
# own; on an existing one run it with KUBECONFIG and TARGET_KUBECONFIG set, the images of `make release-images` in the nodes' reach.
set -euo pipefail
source "$(dirname "$0")/install.sh"

quick_start() {
  step "kubectl create ns $DEMO"
  apply_sample connector.yaml
  step "kubectl wait --for condition=Ready -n $DEMO connector/k8s-connector --timeout 60s"
  step "kubectl get connector k8s-connector -n $DEMO"
  apply_sample job.yaml
  step "kubectl wait --for condition=Complete -n $DEMO job/k8s-access --timeout 90s"
  step "kubectl logs -f job/k8s-access -n $DEMO"
  apply_sample inspect.yaml
  step "kubectl wait --for condition=Ready -n $DEMO pod/inspect-k8s-access --timeout 60s"
  step "kubectl exec -n $DEMO inspect-k8s-access -- cat /opt/kube/kubeconfig"
}

# The Job listed the target's Pods, not those of this cluster: only the target answers to the name of the account in its token.
the_target_answered() {
  local seen
  seen=$(kubectl exec -n $DEMO inspect-k8s-access -- kubectl auth whoami -o 'jsonpath={.status.userInfo.username}')
  [ "$seen" = system:serviceaccount:default:reader ] || { echo "the target saw $seen instead of its own account" >&2; return 1; }
}

# All that the Pods can read: environment, arguments and files of a Pod with the Job's volume, and the Job's Pod as it was made.
pod_contents() {
  kubectl exec -n $DEMO inspect-k8s-access -- sh -c 'env; cat /proc/1/environ; find /opt /var/run/secrets /tmp -type f -exec cat {} +'
  kubectl get pods -n $DEMO -o yaml
  kubectl logs -n $DEMO job/k8s-access
}

# Everything below kubelet's folder that the driver can write to, the volumes of all Pods included.
driver_folders() {
  find /var/lib/kubelet/plugins /var/lib/kubelet/plugins_registry /var/lib/kubelet/pods -type f -exec cat {} +
}

# Looks for a token as it is and in base64. The bytes may be binary, and a token may stand at any offset of an encoded text.
holds() {
  local token=$1 text
  text=$(mktemp)
  cat >"$text"
  local found=1 offset
  grep -qaF -e "$token" "$text" && found=0
  for offset in 0 1 2; do
    grep -qaF -e "$(printf %s "${token:offset}" | base64 -w0 | sed -E 's/.{4}$//')" "$text" && found=0
  done
  rm "$text"
  return $found
}

search() {
  local where=$1 contents=$2 own
  own=$(kubectl exec -n $DEMO inspect-k8s-access -- cat /opt/kube/context.token)
  # The same search must find what is there, or its silence would prove nothing.
  holds "$own" < <($contents) || { echo "the search of $where does not even find the Pod's own token" >&2; return 1; }
  if holds "$TARGET_TOKEN" < <($contents); then
    echo "the target's token is in $where" >&2
    return 1
  fi
  echo "searched $where: the Pod's own token is there, the target's token is not"
}

# Seconds since 1970 at which the Pod's own token ends.
token_end() {
  kubectl exec -n $DEMO inspect-k8s-access -- cat /opt/kube/context.token | cut -d. -f2 | tr '_-' '/+' | base64 -d 2>/dev/null | sed -E 's/.*"exp":([0-9]+).*/\1/'
}

who_held_what() {
  echo
  echo "The Pod held a token of its own ServiceAccount, for the gateway only; it ends at $(date -d "@$(token_end)" +%H:%M:%S) and the target would refuse it."
  echo "The gateway checked it, read the target's token from Secret k8s-secret and put it in on the way; it keeps it in memory only."
  echo "The target saw its own account system:serviceaccount:default:reader, and never the Pod's token."
}

install_connectors
target_account
quick_start
the_target_answered
who_held_what
echo
search "the Pod (environment, arguments, mounted files)" pod_contents
if [ -d /var/lib/kubelet/plugins/connectors-csi ]; then
  search "the driver's folders on the node" driver_folders
else
  echo "the driver's folders are on the nodes: search /var/lib/kubelet there as well"
fi
