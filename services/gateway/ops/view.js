// What is seen. Elements are made once and changed in place, so that focus, selection and open parts stay as they are.
import { Graph, heat, sparkline } from './chart.js';
import { ago, keyOf, latency, levelOf, number, percent, quantile, stalenessLevel, words, worst } from './model.js';

const $ = (id) => document.getElementById(id);

/** h makes an element: h('p', {class: 'x', onclick: f}, 'text', child). */
export function h(tag, attributes = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children.filter((c) => c !== null));
  return el;
}

function text(el, value) {
  if (el.textContent !== value) el.textContent = value;
}

function attr(el, name, value) {
  if (el.getAttribute(name) !== value) el.setAttribute(name, value);
}

/** keyed keeps the children of an element in step with a list: one for each key, in the list's order. */
function keyed(parent, list, key, make, change) {
  const kept = new Map([...parent.children].map((el) => [el.dataset.key, el]));
  let next = parent.firstElementChild;
  for (const item of list) {
    const k = key(item);
    let el = kept.get(k);
    if (!el) {
      el = make(item);
      el.dataset.key = k;
    }
    kept.delete(k);
    if (el === next) next = next.nextElementSibling;
    else parent.insertBefore(el, next);
    change(el, item);
  }
  for (const el of kept.values()) el.remove();
}

const mark = () => h('span', { class: 'mark', 'aria-hidden': 'true' });

function badge(el, level, said) {
  if (!el.firstChild) el.append(mark(), document.createTextNode(''));
  el.className = 'badge';
  attr(el, 'data-level', level);
  if (el.lastChild.nodeValue !== said) el.lastChild.nodeValue = said;
}

/** figure writes a number and its unit. */
function figure(el, n, unit = '') {
  if (!el.firstChild) el.append(document.createTextNode(''), h('span', { class: 'unit' }));
  if (el.firstChild.nodeValue !== n) el.firstChild.nodeValue = n;
  text(el.lastChild, unit);
}

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

const breakerLevel = (state) => ({ closed: 'ok', half_open: 'warn', open: 'bad' })[state] || 'idle';

export class View {
  #tiles = new Map();
  #graph = new Graph($('graph'));
  #rows = new Map(); // by pair: the buckets that its heat map shows

  constructor(model) {
    this.model = model;
    this.window = 10;
  }

  draw() {
    const { model } = this;
    if (!model.state) return;
    this.now = Date.parse(model.state.at);
    this.#verdict(model.troubles());
    this.#numbers();
    this.#calls();
    this.#instances();
    this.#services();
    this.#events();
    this.#registry();
  }

  #verdict(troubles) {
    const el = $('verdict');
    if (!el.firstChild) el.append(mark(), h('span', { class: 'what' }));
    attr(el, 'data-level', troubles.length ? troubles[0].level : 'ok');
    const said = troubles.slice(0, 3);
    if (troubles.length > 3) said.push({ text: `and ${troubles.length - 3} more` });
    if (troubles.length === 0) said.push({ text: 'All is well' });
    keyed(el.lastChild, said, (t) => t.text, (t) => (t.at ? h('a', { href: `#${t.at}` }, t.text) : h('span', {}, t.text)), () => {});
    document.title = troubles.length ? `(${troubles.length}) Souk: operations` : 'Souk: operations';
  }

  #numbers() {
    const { model, window } = this;
    const { instances, pairs, consul } = model.state;
    const edge = model.sum(window, (_, t) => t.caller === 'gateway');
    const all = model.sum(window, () => true);
    const breakers = pairs.flatMap((p) => p.breakers);
    const open = breakers.filter((b) => b.state === 'open').length;
    const half = breakers.filter((b) => b.state === 'half_open').length;
    const out = instances.filter((i) => i.seen_from.some((s) => s.state !== 'in_service')).length;
    const well = instances.filter((i) => i.health === 'passing').length;
    const stalest = Math.max(consul.staleness_ms, ...consul.lookups.map((l) => l.staleness_ms), 0);
    const p = (q) => latency(quantile(edge.latency, model.boundsUs, q));
    const span = model.span(window);
    const success = levelOf(edge.effective);
    keyed($('numbers'), [
      { name: 'Requests at the edge', value: [number(edge.total / span), '/s'], note: `${number(all.total / span)} /s in all`, level: 'ok' },
      { name: 'Success at the edge', value: [percent(edge.effective), ''], note: `raw ${percent(edge.raw)}`, level: success },
      { name: 'p99 at the edge', value: p(0.99), note: `p50 ${p(0.5).join(' ')} · p90 ${p(0.9).join(' ')}`, level: 'ok' },
      { name: 'Retries', value: [number(all.retries / span), '/s'], note: `${percent(all.retries / all.total)} of calls`, level: 'ok' },
      { name: 'Breakers open', value: [String(open), ''], note: half ? `${half} half open` : 'none half open', level: worst([open ? 'bad' : 'ok', half ? 'warn' : 'ok']) },
      { name: 'Instances passing', value: [`${well}`, `of ${instances.length}`], note: out ? `${out} ejected by a caller` : 'none ejected', level: worst([well < instances.length ? 'bad' : 'ok', out ? 'warn' : 'ok']) },
      { name: 'Registry', value: consul.error ? ['away', ''] : [consul.leader ? 'live' : 'no leader', ''], note: stalest ? `stale by ${ago(stalest)}` : 'nothing is stale', level: consul.error || !consul.leader ? 'bad' : stalenessLevel(stalest) },
    ], (n) => n.name, (n) => h('div', {}, h('dt', {}, n.name), h('dd'), h('dd', { class: 'note' })), (el, n) => {
      attr(el, 'data-level', n.level);
      figure(el.children[1], ...n.value);
      text(el.children[2], n.note);
    });
  }

  #calls() {
    const { model } = this;
    const troubled = model.state.pairs.filter((p) => p.breakers.some((b) => b.state !== 'closed')).map(keyOf);
    const order = (k) => (k.startsWith('gateway ') ? `0${k}` : `1${k}`);
    const keys = [...new Set([...model.seen, ...troubled])].sort((a, b) => (order(a) < order(b) ? -1 : 1));
    const quiet = model.state.pairs.map(keyOf).filter((k) => !keys.includes(k));
    text($('quiet'), quiet.length ? `Quiet so far: ${quiet.map((k) => k.replace(' ', ' → ')).join(', ')}.` : '');
    $('no-calls').hidden = keys.length > 0;
    for (const k of this.#tiles.keys()) if (!keys.includes(k)) this.#tiles.delete(k);
    keyed($('tiles'), keys, (k) => k, (k) => {
      const tile = new Tile(k);
      this.#tiles.set(k, tile);
      return tile.el;
    }, (_, k) => this.#tiles.get(k).draw(this));
  }

  #instances() {
    const { model, window } = this;
    keyed($('instances').tBodies[0], model.state.instances, (i) => i.id, row, (el, i) => {
      const [name, health, seen, ewma, inflight, rate, errors, failure] = el.cells;
      const tries = model.tries(window, i.id);
      const n = tries.ok + tries.failed;
      text(name.firstChild, i.name);
      const since = i.started.startsWith('0001') ? '' : `, up ${ago(this.now - Date.parse(i.started))}`;
      text(name.lastChild, `${i.addr}${i.zone ? `, ${i.zone}` : ''}, ${i.version}${since}`);
      badge(health.firstChild, { passing: 'ok', critical: 'bad' }[i.health] || 'warn', i.health);
      const unread = i.reading === 'live' ? '' : `cannot be read: ${i.reading}`;
      const why = [i.output, unread].filter(Boolean).join('; ');
      text(health.lastChild, why);
      attr(health.lastChild, 'title', why);
      this.#seen(seen, i);
      figure(ewma.firstChild, ...latency(i.seen_from.length ? Math.max(...i.seen_from.map((s) => s.ewma_ms)) : NaN));
      text(inflight.firstChild, String(i.seen_from.reduce((a, s) => a + s.inflight, 0)));
      text(rate.firstChild, number(n / model.span(window)));
      text(errors.firstChild, percent(tries.failed / n));
      errors.firstChild.className = tries.failed ? 'failed' : '';
      const last = i.seen_from.map((s) => s.failure).filter(Boolean).sort((a, b) => (a.at < b.at ? 1 : -1))[0];
      text(failure.firstChild, last ? `${words(last.outcome)}, ${ago(this.now - Date.parse(last.at))} ago` : 'none');
      text(failure.lastChild, last ? last.text : '');
      attr(failure.lastChild, 'title', last ? last.text : '');
    });
  }

  #seen(cell, i) {
    const out = i.seen_from.filter((s) => s.state !== 'in_service');
    const open = cell.firstChild;
    const said = i.seen_from.length === 0 ? 'nobody calls it' : out.length ? `ejected by ${out.length} of ${i.seen_from.length}` : 'in service';
    open.hidden = i.seen_from.length === 0;
    cell.lastChild.hidden = !open.hidden;
    text(cell.lastChild, said);
    badge(open.firstChild.firstChild, out.length ? 'warn' : 'ok', said);
    keyed(open.lastChild, i.seen_from, (s) => s.process, () => h('li', {}, h('b'), document.createTextNode('')), (el, s) => {
      text(el.firstChild, this.#name(s.process));
      const until = s.state === 'ejected' ? ` for ${ago(Date.parse(s.until) - this.now)} more` : '';
      el.lastChild.nodeValue = `: ${words(s.state)}${until}, ${latency(s.ewma_ms).join(' ')}, ${s.inflight} in flight`;
    });
  }

  /** #name is what people call the instance with an ID. */
  #name(id) { return this.model.state.instances.find((i) => i.id === id)?.name || id; }

  #services() {
    const { model, window } = this;
    const { instances, pairs } = model.state;
    const names = [...new Set([...instances.map((i) => i.service), ...pairs.flatMap((p) => [p.caller, p.callee])])].sort();
    const span = model.span(window);
    const services = names.map((name) => {
      const mine = instances.filter((i) => i.service === name);
      const well = mine.filter((i) => i.health === 'passing').length;
      const asked = model.sum(window, (_, t) => t.callee === name);
      const level = well === 0 ? 'bad' : well < mine.length ? 'warn' : 'ok';
      const rate = name === 'gateway' ? model.sum(window, (_, t) => t.caller === name).total : asked.total;
      const sub = `${well}/${mine.length} · ${number(rate / span)}/s`;
      return { name, level, sub, href: `#instance-${mine[0]?.id || ''}` };
    });
    this.#graph.draw(services, pairs.map((p) => {
      const key = keyOf(p);
      const sum = model.sum(window, (k) => k === key);
      const level = worst([levelOf(sum.effective), ...p.breakers.map((b) => (b.state === 'closed' ? 'idle' : breakerLevel(b.state)))]);
      return { from: p.caller, to: p.callee, level, rate: sum.total / span, label: `${p.caller} → ${p.callee}: ${number(sum.total / span)}/s, ${percent(sum.effective)} success` };
    }));
  }

  #events() {
    $('no-events').hidden = this.model.events.length > 0;
    keyed($('events'), this.model.events, (e) => String(e.id), (e) => {
      const { level, what, detail } = tell(e, (id) => this.#name(id));
      const el = h('li', { 'data-level': level }, mark(), h('div', {}, h('span', {}, what), h('small', {}, h('time', { datetime: e.at }, clock(e.time)), detail ? `, ${detail}` : '')));
      return el;
    }, () => {});
  }

  #registry() {
    const { consul, instances } = this.model.state;
    keyed($('consul'), [
      ['Leader', consul.leader || 'none'],
      ['Index', String(consul.index)],
      ['Last answer', consul.error ? `${ago(consul.staleness_ms)} ago: ${consul.error}` : 'up to date'],
    ], ([name]) => name, ([name]) => {
      const el = h('div', {}, h('dt', {}, name), h('dd'));
      el.style.display = 'contents';
      return el;
    }, (el, [, value]) => text(el.lastChild, value));

    const table = $('lookups');
    const services = [...new Set(consul.lookups.map((l) => l.service))].sort();
    const processes = [...new Set(consul.lookups.map((l) => l.process))].sort((a, b) => (this.#name(a) < this.#name(b) ? -1 : 1));
    const head = table.tHead.rows[0] || table.tHead.insertRow();
    keyed(head, ['', ...services], (s) => s, (s) => (s ? h('th', { scope: 'col' }, h('span', {}, s)) : h('td', {}, h('span', { class: 'sr' }, 'Process'))), () => {});
    keyed(table.tBodies[0], processes, (p) => p, () => h('tr', {}, h('th', { scope: 'row', 'data-key': '' })), (el, p) => {
      text(el.firstChild, this.#name(p));
      const mine = new Map(consul.lookups.filter((l) => l.process === p).map((l) => [l.service, l]));
      keyed(el, ['', ...services], (s) => s, () => h('td'), (cell, s) => {
        if (!s) return;
        const l = mine.get(s);
        const level = !l ? 'idle' : l.source === 'none' ? 'bad' : stalenessLevel(l.staleness_ms);
        attr(cell, 'data-level', level);
        text(cell, !l ? '·' : l.staleness_ms ? `${l.instances}, ${ago(l.staleness_ms)}` : String(l.instances));
        attr(cell, 'title', l ? `${words(l.source)}${l.error ? `: ${l.error}` : ''}` : 'does not call it');
      });
    });
    if (instances.length === 0) table.tBodies[0].replaceChildren();
  }

  /** rowsOf are the buckets that the heat map of a pair shows. They only ever grow, or the picture would jump. */
  rowsOf(key, histograms) {
    const used = histograms.flatMap((hist) => hist.map(([bucket]) => bucket));
    let [from, to] = this.#rows.get(key) || [8, 16]; // 0.5 ms to 16 ms
    if (used.length) {
      from = Math.min(from, ...used);
      to = Math.max(to, ...used);
    }
    this.#rows.set(key, [from, to]);
    return [from, to];
  }
}

function row(i) {
  const cell = (label, ...children) => h('td', label ? { role: 'cell', 'data-label': label } : { role: 'cell' }, ...children);
  const num = (label) => { const c = cell(label, h('span')); c.classList.add('n'); return c; };
  return h('tr', { role: 'row', id: `instance-${i.id}` },
    h('th', { role: 'rowheader', scope: 'row' }, h('span'), h('small')),
    cell('', h('span'), h('small')),
    cell('', h('details', {}, h('summary', {}, h('span')), h('ul', { class: 'seen' })), h('span', { class: 'muted' })),
    num('EWMA'), num('In flight'), num('Tries/s'), num('Errors'),
    cell('Last failure', h('span'), h('small')));
}

/** Tile is one caller and callee. */
class Tile {
  constructor(key) {
    const [caller, callee] = key.split(' ');
    this.key = key;
    this.state = h('span');
    this.rate = h('p', { class: 'rate' });
    this.spark = sparkline();
    this.effective = h('b');
    this.raw = h('span');
    this.quantiles = [0.5, 0.9, 0.99].map((q) => ({ q, el: h('dd') }));
    this.canvas = h('canvas', { role: 'img' });
    this.axis = h('div', { class: 'axis', 'aria-hidden': 'true' });
    this.counts = h('ul', { class: 'counts' });
    this.breakers = h('ul', { class: 'breakers' });
    this.moves = h('ol', { class: 'moves' });
    this.more = h('details', {}, h('summary', {}, 'Breaker changes'), this.moves);
    this.el = h('li', { class: 'tile card', id: `tile-${caller}-${callee}` },
      h('header', {}, h('h3', {}, caller, h('span', { class: 'to', 'aria-label': 'calls' }, '→'), callee), this.state),
      h('div', { class: 'top' }, this.rate, this.spark.el, h('p', { class: 'success' }, this.effective, this.raw)),
      h('dl', { class: 'quantiles' }, ...this.quantiles.map(({ q, el }) => h('div', {}, h('dt', {}, `p${q * 100}`), el))),
      h('div', { class: 'heat' }, this.canvas, this.axis, h('p', { class: 'span', 'aria-hidden': 'true' }, h('span', {}, '60 s ago'), h('span', {}, 'now'))),
      this.counts, this.breakers, this.more);
  }

  draw(view) {
    const { model, window } = view;
    const sum = model.sum(window, (k) => k === this.key);
    const pair = model.pair(this.key);
    const span = model.span(window);
    const success = levelOf(sum.effective);
    const open = pair?.breakers.filter((b) => b.state !== 'closed') || [];
    const level = worst([success, ...open.map((b) => breakerLevel(b.state))]);
    attr(this.el, 'data-level', level);
    badge(this.state, level, open.length ? `breaker ${words(open.find((b) => b.state === 'open')?.state || 'half_open')}` : { ok: 'healthy', warn: 'failing in part', bad: 'failing', idle: 'quiet' }[level]);
    figure(this.rate, number(sum.total / span), '/s');
    this.spark.draw(model.seconds.map((s) => Object.values(s.pairs.get(this.key)?.calls || {}).reduce((a, n) => a + n, 0)));
    text(this.effective, percent(sum.effective));
    text(this.raw, `raw ${percent(sum.raw)}`);
    const said = this.quantiles.map(({ q, el }) => {
      const value = latency(quantile(sum.latency, model.boundsUs, q));
      figure(el, ...value);
      return `p${q * 100} ${value.join(' ')}`;
    });
    this.#heat(view, said);
    this.#counts(sum);
    this.#breakers(view, pair);
  }

  #heat(view, said) {
    const histograms = view.model.last(60).map((s) => s.pairs.get(this.key)?.latency || []);
    const rows = view.rowsOf(this.key, histograms);
    heat(this.canvas, histograms, rows);
    attr(this.canvas, 'aria-label', `Latencies of the last 60 seconds. ${said.join(', ')}.`);
    const [from, to] = rows;
    const bounds = view.model.boundsUs;
    const lines = [1000, 10_000, 100_000, 1_000_000].filter((us) => us > (bounds[from - 1] || 0) && us < bounds[Math.min(to, bounds.length - 1)]);
    keyed(this.axis, lines, String, (us) => h('span', {}, us < 1_000_000 ? `${us / 1000} ms` : `${us / 1_000_000} s`), (el, us) => {
      const bucket = bounds.findIndex((b) => us < b);
      const low = bounds[bucket - 1] || 0;
      const height = bucket + (us - low) / (bounds[bucket] - low) - from;
      el.style.top = `${Math.min(96, Math.max(4, 100 - (height / (to - from + 1)) * 100)).toFixed(1)}%`;
    });
  }

  #counts(sum) {
    const good = ['success', 'client_error', 'canceled', 'fallback'];
    const list = Object.entries(sum.calls).filter(([result]) => result !== 'success').map(([result, n]) => ({ result, n, failed: !good.includes(result) }));
    list.sort((a, b) => (a.result < b.result ? -1 : 1));
    list.unshift({ result: 'success', n: sum.calls.success || 0 });
    list.push({ result: 'retries', n: sum.retries });
    keyed(this.counts, list, (c) => c.result, (c) => h('li', c.failed ? { class: 'failed' } : {}, h('b'), ` ${words(c.result)}`), (el, c) => text(el.firstChild, number(c.n)));
  }

  #breakers(view, pair) {
    const list = pair?.breakers || [];
    keyed(this.breakers, list, (b) => `${b.process} ${b.class}`, () => h('li'), (el, b) => {
      const at = pair.processes > 1 ? ` at ${nameOf(view, b.process)}` : '';
      const since = ago(view.now - Date.parse(b.since));
      const probe = b.state === 'open' ? `, probes in ${ago(Date.parse(b.probe) - view.now)}` : '';
      badge(el, breakerLevel(b.state), `${words(b.class)} ${words(b.state)}${at} for ${since}${probe}`);
    });
    const [caller, callee] = this.key.split(' ');
    const moves = view.model.events.filter((e) => e.kind === 'breaker' && e.callee === callee && serviceOf(view, e.process) === caller).slice(0, 8);
    this.more.hidden = moves.length === 0;
    keyed(this.moves, moves, (e) => String(e.id), (e) => h('li', {}, h('time', { datetime: e.at }, clock(e.time)), h('span', {}, `${e.class}: ${words(e.from)} → ${words(e.to)}`)), () => {});
    text(this.more.firstChild, `Breaker changes (${moves.length})`);
  }
}

const nameOf = (view, id) => view.model.state.instances.find((i) => i.id === id)?.name || id;
const serviceOf = (view, id) => view.model.state.instances.find((i) => i.id === id)?.service;

/** tell puts an event into words. */
function tell(e, name) {
  const by = e.process ? `seen by ${name(e.process)}` : '';
  switch (e.kind) {
    case 'breaker':
      return { level: breakerLevel(e.to), what: `${e.class} breaker to ${e.callee}: ${words(e.from)} → ${words(e.to)}`, detail: by };
    case 'ejected':
      return { level: 'warn', what: `${name(e.instance)} ejected for ${ago(e.for_ms)}`, detail: `${words(e.reason)}, ${by}` };
    case 'readmitted':
      return { level: 'ok', what: `${name(e.instance)} readmitted`, detail: by };
    case 'registered':
      return { level: e.to === 'passing' ? 'ok' : 'idle', what: `${e.instance} registered`, detail: e.to };
    case 'deregistered':
      return { level: 'idle', what: `${e.instance} deregistered`, detail: '' };
    case 'health':
      return { level: { passing: 'ok', critical: 'bad' }[e.to] || 'warn', what: `${name(e.instance)}: ${e.from} → ${e.to}`, detail: (e.reason || '').slice(0, 160) };
    case 'unreadable':
      return { level: 'warn', what: `${name(e.process)} cannot be read`, detail: e.reason };
    case 'read_again':
      return { level: 'ok', what: `${name(e.process)} is read again`, detail: '' };
    case 'consul_away':
      return { level: 'bad', what: 'Consul does not answer', detail: e.reason };
    case 'consul_back':
      return { level: 'ok', what: 'Consul answers again', detail: '' };
    case 'leader':
      return { level: e.to ? 'ok' : 'bad', what: e.to ? `Consul is led by ${e.to}` : 'Consul has lost its leader', detail: '' };
    default:
      return { level: 'idle', what: words(e.kind), detail: by };
  }
}
