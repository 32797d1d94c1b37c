// What is known: the last two minutes by second, the state, the events. No DOM in here.

export const KEPT = 120; // seconds, as the server keeps them
const EVENTS = 200;

/** Sum is traffic added up. Latencies are added as histograms; quantiles are taken of the sum and never added. */
export class Sum {
  constructor(buckets) {
    this.calls = {};
    this.ok = 0; // tries
    this.failed = 0;
    this.retries = 0;
    this.latency = new Array(buckets).fill(0);
  }

  add(t) {
    for (const [result, n] of Object.entries(t.calls)) this.calls[result] = (this.calls[result] || 0) + n;
    this.ok += t.tries.ok;
    this.failed += t.tries.failed;
    this.retries += t.retries;
    for (const [bucket, n] of t.latency) this.latency[bucket] += n;
    return this;
  }

  get total() { return Object.values(this.calls).reduce((a, n) => a + n, 0); }

  /** effective is the share of calls that ended well for their callers, of those that they waited for. A client's own mistake
   *  is no failure of the callee; an answer from a fallback is no success. NaN without calls. */
  get effective() {
    const { success = 0, client_error = 0, canceled = 0 } = this.calls;
    return (success + client_error) / (this.total - canceled);
  }

  /** raw is the share of tries that ended well: what the callers would have seen without retries. NaN without tries. */
  get raw() { return this.ok / (this.ok + this.failed); }
}

/** quantile of a histogram in ms, by a straight line within its bucket; NaN if it is empty. boundsUs are the upper bounds of
 *  all buckets but the last. */
export function quantile(counts, boundsUs, q) {
  const total = counts.reduce((a, n) => a + n, 0);
  if (total === 0) return NaN;
  let rank = q * total;
  for (let i = 0; i < counts.length; i++) {
    if (counts[i] > 0 && rank <= counts[i]) {
      const low = i === 0 ? 0 : boundsUs[i - 1];
      const high = i < boundsUs.length ? boundsUs[i] : low; // the last has no end
      return (low + (high - low) * (rank / counts[i])) / 1000;
    }
    rank -= counts[i];
  }
  return NaN;
}

/** levelOf says how bad a success rate is: the thresholds of Hystrix, with its two middle ones as one. */
export function levelOf(success) {
  if (Number.isNaN(success)) return 'idle';
  const errors = 1 - success;
  if (errors < 0.01) return 'ok';
  return errors < 0.25 ? 'warn' : 'bad';
}

export const worst = (levels) => ['bad', 'warn', 'ok'].find((l) => levels.includes(l)) || 'idle';

export const keyOf = (t) => `${t.caller} ${t.callee}`;

export class Model {
  constructor() {
    this.boundsUs = [];
    this.seconds = []; // {at, pairs: Map of key to traffic, instances: Map of ID to tries}
    this.state = null;
    this.events = []; // newest first
    this.seen = new Set(); // keys of all pairs that have had traffic
  }

  history(h) {
    this.boundsUs = h.bounds_us;
    this.seconds = [];
    h.seconds.forEach((s) => this.#second(s));
    this.events = [];
    this.#events(h.events);
  }

  tick(t) {
    this.#second(t.second);
    this.state = t.state;
    this.#events(t.events);
  }

  #second(s) {
    this.seconds.push({
      at: Date.parse(s.at),
      pairs: new Map(s.traffic.map((t) => [keyOf(t), t])),
      instances: new Map(s.instances.map((i) => [i.id, i])),
    });
    if (this.seconds.length > KEPT) this.seconds.shift();
    for (const t of s.traffic) this.seen.add(keyOf(t));
  }

  #events(list) {
    for (const e of list) this.events.unshift({ ...e, time: Date.parse(e.at) });
    this.events.sort((a, b) => b.time - a.time || b.id - a.id);
    this.events.length = Math.min(this.events.length, EVENTS);
  }

  /** last gives the last n seconds, fewer if there are not so many. */
  last(n) { return this.seconds.slice(-n); }

  get buckets() { return this.boundsUs.length + 1; }

  /** sum adds up the traffic of the last n seconds whose pairs are wanted. */
  sum(n, wanted) {
    const sum = new Sum(this.buckets);
    for (const s of this.last(n)) {
      for (const [key, t] of s.pairs) if (wanted(key, t)) sum.add(t);
    }
    return sum;
  }

  /** span is how many seconds a sum of the last n really covers. */
  span(n) { return Math.max(1, Math.min(n, this.seconds.length)); }

  pair(key) { return this.state?.pairs.find((p) => keyOf(p) === key); }

  tries(n, id) {
    const t = { ok: 0, failed: 0 };
    for (const s of this.last(n)) {
      const i = s.instances.get(id);
      if (i) { t.ok += i.ok; t.failed += i.failed; }
    }
    return t;
  }

  /** troubles is everything that is not as it should be, worst first: {level, text, at: id of the element that shows it}. */
  troubles() {
    const { state } = this;
    if (!state) return [];
    const found = [];
    const say = (level, text, at) => found.push({ level, text, at });
    if (state.consul.error) say('bad', 'Consul does not answer', 'registry-title');
    else if (!state.consul.leader) say('bad', 'Consul has no leader', 'registry-title');
    for (const p of state.pairs) {
      for (const b of p.breakers) {
        if (b.state !== 'closed') say(b.state === 'open' ? 'bad' : 'warn', `${p.caller} → ${p.callee}: ${b.class} breaker ${words(b.state)}`, `tile-${p.caller}-${p.callee}`);
      }
    }
    for (const i of state.instances) {
      const at = `instance-${i.id}`;
      if (i.health !== 'passing') say(i.health === 'critical' ? 'bad' : 'warn', `${i.name} is ${i.health}`, at);
      else if (i.reading !== 'live' && i.reading !== 'not read yet') say('warn', `${i.name} cannot be read`, at);
      const out = i.seen_from.filter((s) => s.state !== 'in_service').length;
      if (out > 0) say('warn', `${i.name} is ejected by ${out} of ${i.seen_from.length}`, at);
    }
    const stale = state.consul.lookups.filter((l) => stalenessLevel(l.staleness_ms) !== 'ok');
    if (stale.length > 0) say(worst(stale.map((l) => stalenessLevel(l.staleness_ms))), `${stale.length} look-ups are stale`, 'registry-title');
    for (const key of this.seen) {
      const success = this.sum(10, (k) => k === key).effective;
      const level = levelOf(success);
      if (level === 'warn' || level === 'bad') say(level, `${key.replace(' ', ' → ')}: ${percent(1 - success)} errors`, `tile-${key.replace(' ', '-')}`);
    }
    return found.sort((a, b) => (a.level === 'bad' ? 0 : 1) - (b.level === 'bad' ? 0 : 1));
  }
}

/** stalenessLevel of knowledge about instances: amber after 30 s, red after five minutes. */
export function stalenessLevel(ms) {
  if (ms < 30_000) return 'ok';
  return ms < 300_000 ? 'warn' : 'bad';
}

// How things are said.

export const words = (name) => name.replaceAll('_', ' ');

/** number with about three digits that mean something. */
export function number(n) {
  if (Number.isNaN(n)) return '–';
  if (n >= 100_000) return `${Math.round(n / 1000)}k`;
  if (n >= 10_000) return `${(n / 1000).toFixed(1)}k`;
  if (n >= 100) return String(Math.round(n));
  if (n >= 10) return n.toFixed(n % 1 ? 1 : 0);
  return n === 0 ? '0' : n.toFixed(n >= 1 ? 1 : 2);
}

/** percent never rounds up to 100: a failure must show. */
export function percent(share) {
  if (Number.isNaN(share)) return '–';
  if (share === 1 || share === 0) return `${share * 100} %`;
  if (share > 0.999) return `${(Math.floor(share * 100_000) / 1000).toFixed(3)} %`;
  if (share > 0.99 || share < 0.1) return `${(Math.floor(share * 10_000) / 100).toFixed(2)} %`;
  return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

/** latency splits ms into a number and its unit. */
export function latency(ms) {
  if (Number.isNaN(ms)) return ['–', ''];
  if (ms >= 1000) return [(ms / 1000).toFixed(ms >= 10_000 ? 0 : 1), 's'];
  if (ms >= 100) return [ms.toFixed(0), 'ms'];
  return [ms.toFixed(ms >= 10 ? 1 : 2), 'ms'];
}

export function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}
