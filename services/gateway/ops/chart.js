// What is drawn.
import { KEPT } from './model.js';

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

function set(el, name, value) {
  if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

/** spark draws the rate of two minutes, the newest at the right. */
export function sparkline() {
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'rateline' });
  const el = svg('svg', { class: 'spark', viewBox: '0 0 119 36', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, area, line);
  return {
    el,
    draw(values) {
      const top = Math.max(1, ...values);
      const start = KEPT - values.length;
      const points = values.map((v, i) => `${start + i},${(35 - (v / top) * 33).toFixed(1)}`);
      set(line, 'd', points.length ? `M${points.join('L')}` : '');
      set(area, 'd', points.length ? `M${start},36L${points.join('L')}L119,36Z` : '');
    },
  };
}

const COLUMNS = 60;
let ramp = null;
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { ramp = null; });

function colours() {
  if (!ramp) {
    const style = getComputedStyle(document.documentElement);
    ramp = [1, 2, 3, 4, 5].map((i) => style.getPropertyValue(`--heat-${i}`).trim());
  }
  return ramp;
}

/** heatmap draws the latencies of 60 seconds, a column each, the newest at the right; slow is up. rows are the buckets that
 *  are shown, [from, to]. */
export function heat(canvas, histograms, [from, to]) {
  const scale = Math.min(2, window.devicePixelRatio || 1);
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (width === 0) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const ink = canvas.getContext('2d');
  ink.clearRect(0, 0, width, height);
  const most = Math.log1p(Math.max(1, ...histograms.flatMap((h) => h.map(([, n]) => n))));
  const rows = to - from + 1;
  const gap = width / COLUMNS > 4 ? 1 : 0;
  histograms.forEach((h, i) => {
    const column = COLUMNS - histograms.length + i;
    const x = Math.round((column * width) / COLUMNS);
    const w = Math.round(((column + 1) * width) / COLUMNS) - x - gap;
    for (const [bucket, n] of h) {
      const row = to - Math.min(to, Math.max(from, bucket));
      const y = Math.round((row * height) / rows);
      ink.fillStyle = colours()[Math.min(4, Math.floor((Math.log1p(n) / most) * 4.999))];
      ink.fillRect(x, y, w, Math.max(1, Math.round(((row + 1) * height) / rows) - y - gap));
    }
  });
}

/** graph draws services as nodes around an ellipse, the gateway at the left, and an arrow for each pair. */
export class Graph {
  #root;
  #nodes = new Map();
  #edges = new Map();
  #places = '';

  constructor(root) {
    this.#root = root;
    this.edges = svg('g');
    this.nodes = svg('g');
    set(root, 'viewBox', '0 0 400 330');
    root.append(this.edges, this.nodes);
  }

  /** draw takes services [{name, level, sub, href}] and pairs [{from, to, level, rate, label}]. */
  draw(services, pairs) {
    const names = services.map((s) => s.name);
    const at = this.#place(names);
    for (const s of services) {
      const node = this.#nodes.get(s.name) || this.#node(s);
      const [x, y] = at.get(s.name);
      set(node.g, 'transform', `translate(${x} ${y})`);
      set(node.g, 'data-level', s.level);
      if (node.sub.textContent !== s.sub) node.sub.textContent = s.sub;
    }
    const wanted = new Set();
    for (const p of pairs) {
      const key = `${p.from} ${p.to}`;
      wanted.add(key);
      const edge = this.#edges.get(key) || this.#edge(key);
      const width = p.rate > 0 ? Math.min(6, 1.5 + Math.log10(1 + p.rate) * 1.6) : 1;
      const { d, head } = arrow(at.get(p.from), at.get(p.to), width);
      set(edge.line, 'd', d);
      set(edge.line, 'stroke-width', width.toFixed(1));
      set(edge.line, 'data-level', p.level);
      set(edge.head, 'd', head);
      set(edge.head, 'data-level', p.level);
      if (edge.title.textContent !== p.label) edge.title.textContent = p.label;
    }
    this.#sweep(this.#edges, wanted, (e) => e.g);
    this.#sweep(this.#nodes, new Set(names), (n) => n.g);
  }

  #sweep(map, wanted, element) {
    for (const [key, value] of map) {
      if (!wanted.has(key)) {
        element(value).remove();
        map.delete(key);
      }
    }
  }

  #place(names) {
    const at = new Map();
    const others = names.filter((n) => n !== 'gateway');
    const around = names.includes('gateway') ? names.length : others.length;
    const spot = (turn) => [200 - 150 * Math.cos(turn), 165 - 158 * Math.sin(turn)].map((v) => Math.round(v));
    if (names.includes('gateway')) at.set('gateway', spot(0));
    others.forEach((n, i) => at.set(n, spot(((i + (names.includes('gateway') ? 1 : 0)) * 2 * Math.PI) / around)));
    return at;
  }

  #node(s) {
    const sub = svg('text', { class: 'sub', y: 14 });
    const name = svg('text', { class: 'name', y: -2 });
    name.textContent = s.name;
    const a = svg('a', { href: s.href }, svg('rect', { x: -48, y: -21, width: 96, height: 42, rx: 9 }), name, ' ', sub);
    const g = svg('g', { class: 'node' }, a);
    this.nodes.append(g);
    const node = { g, a, sub };
    this.#nodes.set(s.name, node);
    return node;
  }

  #edge(key) {
    const title = svg('title');
    const line = svg('path', { class: 'edge' }, title);
    const head = svg('path', { class: 'head' });
    const g = svg('g', {}, line, head);
    this.edges.append(g);
    const edge = { g, line, head, title };
    this.#edges.set(key, edge);
    return edge;
  }
}

/** arrow from one node's edge to another's, bent to its right so that there and back are two lines. */
function arrow(from, to, width) {
  const bend = 0.09;
  const middle = [(from[0] + to[0]) / 2 - (to[1] - from[1]) * bend, (from[1] + to[1]) / 2 + (to[0] - from[0]) * bend];
  const start = border(from, middle, 2);
  const size = 5 + width;
  const end = border(to, middle, 3);
  const length = Math.hypot(end[0] - middle[0], end[1] - middle[1]) || 1;
  const u = [(end[0] - middle[0]) / length, (end[1] - middle[1]) / length];
  const neck = [end[0] - u[0] * size, end[1] - u[1] * size];
  const f = (p) => p.map((v) => v.toFixed(1)).join(',');
  const left = [neck[0] - u[1] * size * 0.5, neck[1] + u[0] * size * 0.5];
  const right = [neck[0] + u[1] * size * 0.5, neck[1] - u[0] * size * 0.5];
  return { d: `M${f(start)}Q${f(middle)} ${f(neck)}`, head: `M${f(end)}L${f(left)}L${f(right)}Z` };
}

/** border is where the line from a node's middle towards p leaves its box. */
function border(node, p, gap) {
  const dx = p[0] - node[0];
  const dy = p[1] - node[1];
  const t = Math.min((48 + gap) / Math.max(1e-6, Math.abs(dx)), (21 + gap) / Math.max(1e-6, Math.abs(dy)));
  return [node[0] + dx * t, node[1] + dy * t];
}
