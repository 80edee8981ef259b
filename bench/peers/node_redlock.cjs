// node-redlock in Node.js: speaks the same JSON lines as bench/worker.
//
// First line in: the spec of bench/worker/spec.py. Out: {"ready": true}; in: "go" (or
// "acquire"/"release" for kind "handoff"); out: figures, as worker/record.py names them.
"use strict";
const readline = require("node:readline");
const { performance } = require("node:perf_hooks");
const { default: Redis } = require("ioredis");
const { default: Redlock } = require("redlock");

const FLOOR = 1e-7, LOG_STEP = Math.log(1.03), ALL_RUN_WITHIN = 15;
const send = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const now = () => performance.now() / 1000;
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const turn = () => new Promise((done) => setImmediate(done));
const quantile = (sorted, share) =>
  sorted.length ? sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] : 0;

// CLOCK_MONOTONIC in seconds, as Python's time.monotonic().
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;

class Load {
  constructor(spec, redlock) {
    this.spec = spec;
    this.redlock = redlock;
    this.stopping = false;
    this.overlaps = 0;
    this.inside = new Map();
    this.begin();
    this.pending = new Array(spec.tasks).fill(0);
  }

  begin() {
    this.waits = Array.from({ length: this.spec.tasks }, () => []);
    this.cpu = process.cpuUsage();
    this.began = now();
  }

  async work(task) {
    const { spec } = this;
    const name = spec.hot ? spec.prefix : `${spec.prefix}:${spec.number}:${task}`;
    while (!this.stopping) {
      const began = (this.pending[task] = now());
      const lock = await this.redlock.acquire([name], spec.ttl * 1000);
      this.waits[task].push(now() - began);
      this.pending[task] = 0;
      if (this.inside.get(name)) this.overlaps++;
      this.inside.set(name, true);
      if (spec.body === 0) await turn();
      else if (spec.body) await pause(spec.body);
      this.inside.set(name, false);
      await lock.release();
    }
  }

  figures() {
    const end = now();
    const cpu = process.cpuUsage(this.cpu);
    const counts = this.waits.map((waits) => waits.length);
    // Who still waits has waited so long at least: as worker/record.py.
    this.pending.forEach((since, task) => { if (since) this.waits[task].push(end - since); });
    const every = Float64Array.from(this.waits.flat()).sort();
    const longest = this.waits.map((waits) => waits.reduce((a, b) => Math.max(a, b), 0));
    const histogram = {};
    for (const wait of every) {
      const at = Math.max(0, Math.trunc(Math.log(Math.max(wait, FLOOR) / FLOOR) / LOG_STEP));
      histogram[at] = (histogram[at] ?? 0) + 1;
    }
    return {
      seconds: end - this.began, cycles: counts.reduce((a, b) => a + b, 0),
      client_cpu: (cpu.user + cpu.system) / 1e6,
      p50: quantile(every, 0.5), p99: quantile(every, 0.99),
      longest: Math.max(0, ...longest), starved: counts.filter((count) => !count).length,
      counts, longest_by_task: longest,
      histogram, overlaps: this.overlaps,
    };
  }
}

async function handoff(lines, spec, redlock) {
  let lock;
  send({ ready: true });
  for await (const line of lines) {
    if (line === "acquire") {
      lock = await redlock.acquire([spec.prefix], spec.ttl * 1000);
      send({ at: monotonic() });
    } else if (line === "release") {
      const at = monotonic();
      await lock.release();
      send({ at });
    } else return;
  }
}

// As bench/worker/warmup.py.
async function warmUp(spec, load) {
  await pause(spec.warmup);
  if (spec.hot) return;
  const until = now() + ALL_RUN_WITHIN;
  while (!load.waits.every((waits) => waits.length) && now() < until) await pause(0.05);
  await pause(spec.warmup);
}

async function cycles(lines, spec, redlock) {
  const load = new Load(spec, redlock);
  for (let task = 0; task < spec.tasks; task++)
    load.work(task).catch((error) => { send({ error: String(error) }); process.exit(0); });
  await warmUp(spec, load);
  send({ ready: true });
  if ((await lines.next()).value !== "go") return;
  load.begin();
  await pause(spec.seconds);
  send(load.figures());
  load.stopping = true;
}

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const spec = JSON.parse((await lines.next()).value);
  // retryCount -1 waits without end, as its documentation says; the rest are defaults.
  const redlock = new Redlock(spec.url.split(",").map((url) => new Redis(url)), { retryCount: -1 });
  redlock.on("error", () => {});
  await (spec.kind === "handoff" ? handoff : cycles)({ next: () => lines.next(),
    [Symbol.asyncIterator]: () => lines }, spec, redlock);
}

main().catch((error) => send({ error: String(error) })).finally(() => process.exit(0));
