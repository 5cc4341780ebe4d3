// One operation of the official JavaScript client through the given kubeconfig; the last line that it prints is the result.
//   node client.mjs KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import * as k8s from '@kubernetes/client-node';

const namespace = 'clients';
const pod = 'server';
const container = 'server';
const [kubeconfig, operation, name] = process.argv.slice(2);

function load() {
  const config = new k8s.KubeConfig();
  config.loadFromFile(kubeconfig);
  return config;
}

// The client does not read a user's tokenFile; its own name for the same, which it reads again every minute, is this.
function helped() {
  const config = load();
  if (!config.getCurrentUser().token) {
    const tokenFile = path.join(path.dirname(kubeconfig), 'context.token');
    config.getCurrentUser().authProvider = { name: 'tokenFile', config: { tokenFile } };
  }
  return config;
}

async function list(config) {
  const found = await config.makeApiClient(k8s.CoreV1Api).listNamespacedConfigMap({ namespace, labelSelector: 'for=list' });
  return found.items.map((item) => item.metadata.name).join();
}

// Says when it watches, and ends with the first change after that.
async function watch(config) {
  const fieldSelector = 'metadata.name=watched';
  const found = await config.makeApiClient(k8s.CoreV1Api).listNamespacedConfigMap({ namespace, fieldSelector });
  const { resourceVersion } = found.metadata;
  const watch = new k8s.Watch(config);
  // It would give up after 30 s without an event.
  watch.requestTimeoutMs = 3_600_000;
  return new Promise((resolve, reject) => {
    const seen = (type, object) => resolve(`changed to ${object.data.value}`);
    const ended = (error) => reject(error ?? new Error('the watch ended without an event'));
    watch.watch(`/api/v1/namespaces/${namespace}/configmaps`, { fieldSelector, resourceVersion }, seen, ended)
      .then(() => console.log('watching'));
  });
}

async function write(config) {
  const api = config.makeApiClient(k8s.CoreV1Api);
  const created = await api.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: { value: '1' } } });
  const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
  const patched = await api.patchNamespacedConfigMap({ name, namespace, body: { data: { value: '2' } } }, merge);
  await api.deleteNamespacedConfigMap({ name, namespace });
  const gone = await api.readNamespacedConfigMap({ name, namespace }).then(() => 'still there', (error) => error.code === 404 ? 'gone' : error);
  return `created ${created.data.value}, patched ${patched.data.value}, ${gone}`;
}

// Follows until four lines have come.
async function logs(config) {
  const lines = new PassThrough();
  const end = await new k8s.Log(config).log(namespace, pod, container, lines, { follow: true, tailLines: 1 });
  let text = '';
  for await (const chunk of lines) {
    text += chunk;
    if (text.split('\n').length > 4) break;
  }
  end.abort();
  return text.split('\n').slice(0, 4).join();
}

async function exec(config) {
  let out = '';
  const stdout = new Writable({ write: (chunk, _, done) => { out += chunk; done(); } });
  const command = ['sh', '-c', 'read line; echo "got $line"; exit 7'];
  const status = await new Promise((resolve, reject) => {
    const stdin = Readable.from([Buffer.from('hello\n')]);
    new k8s.Exec(config).exec(namespace, pod, container, command, stdout, process.stderr, stdin, false, resolve).catch(reject);
  });
  return `${out.trim()}, exit ${status.details.causes[0].message}`;
}

// Cp does not tell when a copy has ended: then the command that it runs in the Pod has, and what it unpacks here is written.
class EndingExec extends k8s.Exec {
  exec(...words) {
    const told = words.pop();
    const status = new Promise((resolve, reject) => {
      super.exec(...words, (status) => told(status).then(resolve, reject)).catch(reject);
    });
    const stdout = words[4];
    this.ended = Promise.all([status, stdout && finished(stdout)]);
  }
}

// Brings a file into the Pod and back, and says what came back. Cp packs folders.
async function copy(config) {
  const [here, back] = [`/tmp/${name}-here`, `/tmp/${name}-back`];
  fs.mkdirSync(here);
  fs.copyFileSync('/tmp/file', `${here}/${name}`);
  const command = new EndingExec(config);
  const cp = new k8s.Cp(config, command);
  await cp.cpToPod(namespace, pod, container, here, '/tmp');
  await command.ended;
  await cp.cpFromPod(namespace, pod, container, name, back, '/tmp');
  await command.ended;
  const sum = createHash('sha256').update(fs.readFileSync(`${back}/${name}`)).digest('hex');
  [here, back].forEach((folder) => fs.rmSync(folder, { recursive: true }));
  await new Promise((resolve) => new k8s.Exec(config).exec(namespace, pod, container, ['rm', `/tmp/${name}`], process.stdout, null, null, false, resolve));
  return sum;
}

// Downloads one file eight times at once and says whether all are the same.
async function forward(config) {
  const forward = new k8s.PortForward(config);
  const failed = (socket) => (error) => { console.error(error); socket.destroy(); };
  const server = net.createServer((socket) => forward.portForward(namespace, pod, [8000], socket, null, socket).catch(failed(socket)));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const sums = await Promise.all(Array.from({ length: 8 }, () => download(`http://127.0.0.1:${server.address().port}/file`)));
  if (sums.some((sum) => sum !== sums[0])) throw new Error(`the downloads differ: ${sums}`);
  return `8 of ${sums[0]}`;
}

function download(url) {
  return new Promise((resolve, reject) => {
    http.get(url, { agent: false }, async (response) => {
      const sum = createHash('sha256');
      for await (const chunk of response) sum.update(chunk);
      resolve(sum.digest('hex'));
    }).on('error', reject);
  });
}

function version() {
  return JSON.parse(fs.readFileSync('/node_modules/@kubernetes/client-node/package.json')).version;
}

const operations = { plain: () => list(load()), list, watch, write, logs, exec, copy, forward };
try {
  console.log(operation === 'version' ? version() : await operations[operation](operation === 'plain' ? null : helped()));
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
