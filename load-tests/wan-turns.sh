# Runs in the Pod of wan.sh, in busybox's shell: every way to every distance once. Prints for each its way, the state of the discovery cache,
# the round trip in ms and the time in µs.
# usage: turns <empty|filled> <round> <Pods that are there> <distance>…
set -eu
cache=$1 round=${2##*-} pods=$3
shift 3

# A process of its own. It must list every Pod.
take() {
  way=$1 distance=$2 kubeconfig=/opt/kube/$1 context=load-wan/warm-$2
  case $way in
    direct) kubeconfig=/opt/runs/direct context=warm-$distance ;;
    nothing-open) kubeconfig=/opt/kube/kubeconfig context=load-wan/cold-$distance ;;
  esac
  folder=/tmp/discovery-$way
  [ "$cache" = filled ] || { folder=/tmp/discovery-new; rm -rf "$folder"; }
  begun=$EPOCHREALTIME
  kubectl --kubeconfig "$kubeconfig" --context "$context" --cache-dir "$folder" get pods -A >/tmp/listed
  ended=$EPOCHREALTIME
  [ "$(wc -l </tmp/listed)" = $((pods + 1)) ] || { echo "$way at $distance ms did not list $pods Pods" >&2; exit 1; }
  echo "$way $cache $distance $((${ended/./} - ${begun/./}))"
}

# Another begins each round.
ways='direct kubeconfig kubeconfig-reverse nothing-open'
ways=$(echo "$ways $ways" | cut -d ' ' -f $((round % 4 + 1))-$((round % 4 + 4)))
for distance in "$@"; do
  for way in $ways; do take "$way" "$distance"; done
done
