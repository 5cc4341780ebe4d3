#!/bin/sh
# One operation by curl, with what the given kubeconfig says; the last line that it prints is the result.
#   client.sh KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md
set -eu
kubeconfig=$1 operation=$2 name=$3

setting() { sed -n "s/^ *$1: //p" "$kubeconfig"; }

# Through the proxy the login of proxy-url says who asks; without one the token does. curl's proxies are at port 1080 unless told.
request() {
  setting certificate-authority-data | base64 -d >"/tmp/$name.ca"
  proxy=$(setting proxy-url)
  if [ -n "$proxy" ]; then
    set -- --proxy "$proxy:80" "$@"
  else
    set -- --header "Authorization: Bearer $(cat "${kubeconfig%/*}/$(setting tokenFile)")" "$@"
  fi
  ${run-} curl --silent --show-error --no-buffer --fail-with-body --cacert "/tmp/$name.ca" "$@"
}

server() { echo "$(setting server)/api/v1/namespaces/clients$1"; }

# The names, or the values, of all that is in the answer.
field() { sed -n "s/^ *\"$1\": \"\([^\"]*\)\".*/\1/p"; }

list() { request "$(server '/configmaps?labelSelector=for%3Dlist')" | field name | paste -s -d ,; }

# The state of now comes first, then each change.
watch() {
  mkfifo "/tmp/$name"
  run=exec request "$(server '/configmaps?watch=1&fieldSelector=metadata.name%3Dwatched')" >"/tmp/$name" &
  exec 3<"/tmp/$name"
  read -r now <&3
  echo watching
  read -r changed <&3
  kill $!
  echo "$changed" | sed 's/.*"data":{"value":"\([^"]*\)".*/changed to \1/'
}

write() {
  made="{\"metadata\":{\"name\":\"$name\"},\"data\":{\"value\":\"1\"}}"
  created=$(request --json "$made" "$(server /configmaps)" | field value)
  patch='Content-Type: application/merge-patch+json'
  patched=$(request -X PATCH --header "$patch" --data '{"data":{"value":"2"}}' "$(server "/configmaps/$name")" | field value)
  request -X DELETE "$(server "/configmaps/$name")" >/dev/null
  request "$(server "/configmaps/$name")" 2>/dev/null | grep -q '"reason": "NotFound"'
  echo "created $created, patched $patched, gone"
}

# Follows until four lines have come.
logs() { request "$(server '/pods/server/log?follow=true&tailLines=1')" 2>/dev/null | head -n 4 | paste -s -d ,; }

# Neither WebSocket nor SPDY: as near as curl gets to a Pod's streams.
streams() { request -X POST "$(server "/pods/server/$1")"; }

case $operation in
  version) curl --version | sed -n '1s/^curl \([^ ]*\).*/\1/p' ;;
  plain) curl --silent --show-error --config "$kubeconfig" ;;
  list | watch | write | logs) $operation ;;
  exec) streams 'exec?command=cat&stdin=true&stdout=true' ;;
  copy) streams 'exec?command=tar&command=xf&command=-&stdin=true&stdout=true' ;;
  forward) streams 'portforward?ports=8000' ;;
  *) echo "unknown operation $operation" >&2; exit 1 ;;
esac
