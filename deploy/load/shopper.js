// A shop full of customers, for k6: they look around, search, buy, and sometimes change their mind. What each of them does
// is decided by SEED and by how many have come before, so a run can be repeated; how many come in a second is RATE. They
// arrive whether or not the shop keeps up.
//
//   make load                              a shop of its own, with everything around this
//   k6 run -e RATE=5 -e DURATION=1m deploy/load/shopper.js     any shop, with the customers of its seed
import http from 'k6/http';
import exec from 'k6/execution';
import { check, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { uuidv4, Random } from './random.js';

const gateway = __ENV.GATEWAY || 'http://127.0.0.1:8080';
const seed = Number(__ENV.SEED || 1);
const rate = Number(__ENV.RATE || 5);
// People to be: [{"email": …, "password": …}, …], and goods to buy: product ids.
const people = JSON.parse(__ENV.PEOPLE || '[{"email":"alice@souk.example","password":"open-sesame-1001"},{"email":"bob@souk.example","password":"open-sesame-1001"}]');
const goods = JSON.parse(__ENV.GOODS || '[]');
const admin = { email: 'admin@souk.example', password: __ENV.ADMIN_PASSWORD || 'open-sesame-1001' };

// Of a hundred customers, so many come for this.
const visits = [[50, browse], [25, search], [20, checkout], [5, refund]];
const words = ['tea', 'bowl', 'lamp', 'wool', 'honey', 'brass', 'olive', 'rug'];

export const options = {
  scenarios: {
    shop: {
      executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: __ENV.DURATION || '60s',
      preAllocatedVUs: people.length, maxVUs: people.length,
    },
  },
  thresholds: {
    wrong: ['count==0'], // answers that a customer should not get
    dropped_iterations: ['count==0'], // customers who found nobody free to be: the shop was too slow for RATE
    pay_ms: ['p(95)<500', 'p(99)<1000'],
    catalogue_ms: ['p(95)<250'],
  },
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max', 'count'],
  discardResponseBodies: false,
  userAgent: 'souk-load',
  noCookiesReset: true,
};

const paid = new Counter('orders_paid');
const refunded = new Counter('orders_refunded');
const wrong = new Counter('wrong');
const payTime = new Trend('pay_ms');
const catalogueTime = new Trend('catalogue_ms');

export default function () {
  const random = new Random(seed * 1000003 + exec.scenario.iterationInTest);
  let dice = random.below(100);
  for (const [share, visit] of visits) {
    if (dice < share) return visit(random);
    dice -= share;
  }
}

function browse(random) {
  const page = look('?sort=price&page_size=20');
  if (!page) return;
  if (page.next_page_token) look(`?sort=price&page_size=20&page_token=${page.next_page_token}`);
  const item = random.of(page.items);
  if (item) ask('GET', `/products/${item.id}`, null, { name: '/products/{id}' });
}

function search(random) {
  const page = look(`?q=${random.of(words)}`);
  const item = page && random.of(page.items);
  if (item) ask('GET', `/products/${item.id}`, null, { name: '/products/{id}' });
}

function look(query) {
  const answer = ask('GET', `/products${query}`, null, { name: '/products' });
  catalogueTime.add(answer.timings.duration);
  return answer.status === 200 ? answer.json() : null;
}

// checkout buys one to three of something. Who is told that the outcome is not known, or that others are at it, asks again with
// the same key.
function checkout(random) {
  const token = tokenOf('me', people[(exec.vu.idInTest - 1) % people.length]);
  const product = goods.length ? random.of(goods) : (random.of(look('?sort=price').items) || {}).id;
  if (!token || !product) return null;
  const placed = ask('POST', '/orders', { lines: [{ product_id: product, quantity: 1 + random.below(3) }] }, { name: '/orders', token, want: 201 });
  if (placed.status !== 201) return null;
  const id = placed.json('id');
  const key = uuidv4();
  for (let tries = 0; tries < 50; tries++) {
    const answer = ask('POST', `/orders/${id}/pay`, {}, { name: '/orders/{id}/pay', token, key, also: [202, 409] });
    payTime.add(answer.timings.duration);
    if (answer.status === 200) {
      paid.add(1);
      ask('GET', `/orders/${id}`, null, { name: '/orders/{id}', token });
      return answer.json();
    }
    if (answer.status === 202 || answer.status === 409 && answer.json('code') === 'busy') continue;
    if (answer.status === 409 && goods.length) wrong.add(1); // in a shop that nobody has prepared things run out
    return null;
  }
  wrong.add(1);
  return null;
}

function refund(random) {
  const order = checkout(random);
  const token = order && tokenOf('admin', admin);
  if (!token) return;
  // The payment service may not have heard yet that what is decided is decided: then it says 409, and is asked again.
  for (let tries = 0; tries < 25; tries++) {
    const answer = ask('POST', `/payments/${order.payment_id}/refunds`, { reason: 'changed my mind', restock: true },
      { name: '/payments/{id}/refunds', token, want: 201, also: [202, 409] });
    if (answer.status === 201) refunded.add(1);
    if (answer.status !== 409) return;
    sleep(0.2);
  }
  wrong.add(1);
}

// Each virtual user keeps its sign-ins. A token is good for ten minutes.
const sessions = {};

function tokenOf(who, person) {
  const s = sessions[who];
  if (s && Date.now() < s.until) return s.token;
  const answer = ask('POST', '/auth/login', person, { name: '/auth/login' });
  if (answer.status !== 200) return null;
  // Who comes to a shop that nobody has prepared brings money.
  if (!s && who === 'me' && !goods.length) {
    ask('POST', '/wallets/USD/top-ups', { amount: { amount: 10000000, currency: 'USD' }, card: { number: '4242424242424242', exp_month: 12, exp_year: 2040, cvc: '123' } },
      { name: '/wallets/{currency}/top-ups', token: answer.json('access_token'), want: 201 });
  }
  sessions[who] = { token: answer.json('access_token'), until: Date.now() + 8 * 60 * 1000 };
  return sessions[who].token;
}

function ask(method, path, body, { name, token, key, want = 200, also = [] }) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (method === 'POST') headers['Idempotency-Key'] = key || uuidv4();
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = http.request(method, `${gateway}/api/v1${path}`, body ? JSON.stringify(body) : null,
    { headers, tags: { name: `${method} ${name}` }, timeout: '15s' });
  if (!check(answer, { [`${method} ${name} is answered`]: (a) => a.status === want || also.includes(a.status) })) {
    wrong.add(1);
    console.error(`${method} ${path}: ${answer.status} ${answer.error} ${String(answer.body).slice(0, 300)}`);
  }
  return answer;
}

export function handleSummary(data) {
  const files = {};
  if (__ENV.SUMMARY) files[__ENV.SUMMARY] = JSON.stringify(data.metrics);
  files.stdout = Object.entries(data.metrics)
    .filter(([, m]) => m.type === 'trend' || m.type === 'counter')
    .map(([name, m]) => `${name}: ${Object.entries(m.values).map(([k, v]) => `${k}=${Math.round(v * 100) / 100}`).join(' ')}\n`).sort().join('');
  return files;
}
