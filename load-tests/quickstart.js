// Lists and gets through the gateway: CONNECT once per connection, then keep-alive, as kubectl and controllers do.
// k6 takes the proxy with its login from HTTPS_PROXY and the connector CA from SSL_CERT_FILE. quickstart.sh starts one k6 per tenant.
//   TARGET    address of the target, https://host:port
//   VUS       connections (default 4), DURATION of the load (default 20s)
import http from 'k6/http';
import { check } from 'k6';
import { Rate } from 'k6/metrics';

const target = __ENV.TARGET;
const reused = new Rate('connection_reused');

export const options = {
  vus: Number(__ENV.VUS || 4),
  duration: __ENV.DURATION || '20s',
  // The address belongs to a test cluster and to nobody else: a redirect must not lead away from it.
  maxRedirects: 0,
  summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max'],
  thresholds: {
    checks: ['rate==1'],
    http_req_failed: ['rate==0'],
    // Of the whole way, the target's own time included, on a small machine that runs all of it.
    'http_req_duration{call:get}': ['med<50', 'p(95)<250'],
    'http_req_duration{call:list}': ['med<100', 'p(95)<400'],
    // A tunnel per connection, not per request.
    connection_reused: ['rate>0.95'],
  },
};

function call(name, path, kind) {
  const response = http.get(`${target}${path}`, { tags: { call: name } });
  reused.add(response.timings.tls_handshaking === 0);
  check(response, {
    'status is 200': (r) => r.status === 200,
    'the object is what was asked for': (r) => r.status === 200 && r.json('kind') === kind,
  });
}

export default function () {
  call('get', '/api/v1/namespaces/default', 'Namespace');
  call('list', '/api/v1/namespaces/kube-system/pods?limit=50', 'PodList');
}
