// What the page of operations promises, looked at in a real browser on a running shop. The checks run one after the other:
// some of them have a process killed.
import { AxeBuilder } from '@axe-core/playwright';
import { expect, test } from '@playwright/test';

const { SHOP, CONTROL, PICTURES, PASSWORD } = process.env;
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const LONG = 60_000; // for what Consul, a breaker or a busy machine takes its time with

/** control has something done to a process of the shop. */
async function control(what, ...names) {
  for (const name of names) {
    const answer = await fetch(`${CONTROL}/${what}/${name}`, { method: 'POST' });
    if (!answer.ok) throw new Error(`${what} ${name}: ${await answer.text()}`);
  }
}

/** watchful notes whatever a page does that it should not: errors, what its policy forbids, and going elsewhere. */
function watchful(page) {
  const wrong = [];
  page.on('pageerror', (e) => wrong.push(e.message));
  page.on('console', (m) => {
    // What is not answered with 200 is told here too; those that are meant to happen have their own checks.
    if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) wrong.push(m.text());
  });
  page.on('request', (r) => { if (!r.url().startsWith(SHOP)) wrong.push(`it asks for ${r.url()}`); });
  return wrong;
}

async function signIn(page, email = 'admin@souk.example', password = PASSWORD) {
  await page.goto('/ops');
  await page.getByLabel('E-mail').fill(email);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

async function look(browser, options = {}) {
  const context = await browser.newContext({ baseURL: SHOP, ...options });
  const page = await context.newPage();
  const wrong = watchful(page);
  await signIn(page);
  await expect(page.locator('#live')).toHaveText('live', { timeout: LONG });
  await expect(page.locator('.tile').first()).toBeVisible({ timeout: LONG });
  return { context, page, wrong };
}

const tile = (page, caller, callee) => page.locator(`#tile-${caller}-${callee}`);
const row = (page, name) => page.locator('#instances').getByRole('row').filter({ has: page.getByRole('rowheader', { name: new RegExp(`^${name}\\b`) }) });

async function accessible(page) {
  // It looks at every element for a long time: nothing must change meanwhile.
  const pause = page.getByRole('button', { name: 'Pause' });
  const live = await pause.isVisible();
  if (live) await pause.click();
  const { violations } = await new AxeBuilder({ page }).withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']).analyze();
  if (live) await pause.click();
  expect(violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join(' | ')}`)).toEqual([]);
}

test('the door says why it stays shut', async ({ page }) => {
  const wrong = watchful(page);
  await page.goto('/ops');
  await accessible(page);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert')).toHaveText('Say who you are.');
  await expect(page.getByLabel('E-mail')).toBeFocused();
  await signIn(page, 'admin@souk.example', 'not the password');
  await expect(page.getByRole('alert')).not.toBeEmpty();
  await expect(page.locator('#shop')).toBeHidden();
  expect(page.url()).toBe(`${SHOP}/ops`);
  expect(wrong).toEqual([]);
});

test('a customer is not let in', async ({ page }) => {
  await signIn(page, 'alice@souk.example');
  await expect(page.getByRole('alert')).toContainText('may not see');
  await expect(page.locator('#shop')).toBeHidden();
});

test('an admin gets in by keyboard alone and finds the way', async ({ page }) => {
  const wrong = watchful(page);
  await page.goto('/ops');
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to the content' })).toBeFocused();
  await page.keyboard.press('Tab');
  await page.keyboard.type('admin@souk.example');
  await page.keyboard.press('Tab');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await expect(page.locator('#live')).toHaveText('live', { timeout: LONG });

  const sixty = page.getByRole('radio', { name: '60 s' });
  await page.getByRole('radio', { name: '10 s' }).focus();
  await page.keyboard.press('ArrowRight');
  await expect(sixty).toBeChecked();
  const pause = page.getByRole('button', { name: 'Pause' });
  await page.keyboard.press('Tab');
  await expect(pause).toBeFocused();
  expect(await pause.evaluate((el) => getComputedStyle(el).outlineStyle)).toBe('solid');
  await page.keyboard.press('Space');
  await expect(pause).toHaveAttribute('aria-pressed', 'true');
  await expect(page.locator('#live')).toHaveText('paused');
  await page.keyboard.press('Space');
  await expect(page.locator('#live')).toHaveText('live');

  const callers = row(page, 'order-1').locator('summary');
  await callers.focus();
  await page.keyboard.press('Enter');
  await expect(row(page, 'order-1').locator('.seen')).toContainText('coordinator-1', { timeout: LONG });
  const node = page.getByRole('link', { name: /^product / });
  await node.focus();
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/#instance-product/);
  expect(wrong).toEqual([]);
});

test('tiles tell rate, success and latency, and agree with themselves', async ({ browser }) => {
  const { context, page, wrong } = await look(browser);
  for (const [caller, callee] of [['gateway', 'product'], ['gateway', 'order'], ['order', 'coordinator'], ['coordinator', 'payment']]) {
    const t = tile(page, caller, callee);
    await expect(t.locator('.rate')).toHaveText(/^[1-9][\d.]*\/s$|^0\.[\d]+\/s$/, { timeout: LONG });
    await expect(t.locator('.success b')).toHaveText(/^(100|9\d\.\d+) %$/);
    await expect(t.locator('.success')).toContainText('raw');
    await expect(t.getByRole('img')).toHaveAttribute('aria-label', /p50 .*s, p90 .*s, p99 .*s/);
    await expect(t.locator('.counts')).toContainText('success');
  }
  // Something is drawn where the heat map is.
  const inked = await tile(page, 'gateway', 'product').locator('canvas').evaluate((c) => {
    const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
    return data.some((v) => v !== 0);
  });
  expect(inked).toBe(true);
  await expect(page.locator('#consul')).toContainText('up to date');
  await expect(page.locator('#lookups tbody tr')).toHaveCount(8);
  await expect(page.locator('#instances tbody tr')).toHaveCount(8);
  await expect(page.locator('#graph .node')).toHaveCount(6);
  await context.close();
  expect(wrong).toEqual([]);
});

test('histograms are added up before a percentile is taken', async ({ page }) => {
  await page.goto('/ops');
  const got = await page.evaluate(async () => {
    const { Sum, quantile } = await import('/ops/model.js');
    const bounds = [1000, 2000, 4000]; // µs
    const traffic = (latency) => ({ calls: { success: 1 }, tries: { ok: 1, failed: 0 }, retries: 0, latency });
    // 99 quick calls of one process, and 1 slow one of another: the p99 of both is not the mean of 1 ms and 4 ms.
    const sum = new Sum(4).add(traffic([[0, 99]])).add(traffic([[2, 1]]));
    const clientErrors = new Sum(4);
    clientErrors.calls = { success: 5, client_error: 4, failure: 1, canceled: 7 };
    return {
      latency: sum.latency, p50: quantile(sum.latency, bounds, 0.5), p99: quantile(sum.latency, bounds, 0.99), p100: quantile(sum.latency, bounds, 1),
      none: Number.isNaN(quantile([0, 0, 0, 0], bounds, 0.5)), beyond: quantile([0, 0, 0, 1], bounds, 0.5), effective: clientErrors.effective,
    };
  });
  expect(got.latency).toEqual([99, 0, 1, 0]);
  expect(got.p50).toBeCloseTo(50 / 99);
  expect(got.p99).toBeCloseTo(1);
  expect(got.p100).toBeCloseTo(4);
  expect(got.none).toBe(true);
  expect(got.beyond).toBe(4);
  expect(got.effective).toBeCloseTo(0.9);
});

test('who comes second sees the past', async ({ browser }) => {
  const first = await look(browser);
  await first.page.waitForTimeout(8000); // of a past
  const second = await first.context.newPage();
  const told = second.waitForResponse('**/ops/stream');
  await signIn(second);
  await told;
  await expect(tile(second, 'gateway', 'product')).toBeVisible({ timeout: LONG });
  const line = await tile(second, 'gateway', 'product').locator('.rateline').getAttribute('d');
  expect(line.split('L').length).toBeGreaterThan(6);
  await first.context.close();
});

for (const [name, options] of Object.entries({
  'desktop-light': { viewport: { width: 1440, height: 900 }, colorScheme: 'light' },
  'desktop-dark': { viewport: { width: 1440, height: 900 }, colorScheme: 'dark' },
  'phone-light': { ...PHONE, colorScheme: 'light', reducedMotion: 'reduce' },
  'phone-dark': { ...PHONE, colorScheme: 'dark' },
})) {
  test(`${name} is accessible and fits`, async ({ browser }) => {
    const { context, page, wrong } = await look(browser, options);
    await accessible(page);
    const { wide, room } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, room: document.documentElement.clientWidth }));
    expect(wide).toBeLessThanOrEqual(room);
    if (options.isMobile) {
      const small = await page.locator('button:visible, summary:visible').evaluateAll((list) => list.filter((el) => el.getBoundingClientRect().height < 44).map((el) => el.textContent));
      expect(small).toEqual([]);
    }
    expect(await page.evaluate(() => document.getAnimations().length)).toBe(0); // what moves all the time tires
    await page.screenshot({ path: `${PICTURES}/${name}.png` });
    await context.close();
    expect(wrong).toEqual([]);
  });
}

test('an instance that dies is seen to, and so is its return', async ({ browser }) => {
  const { context, page, wrong } = await look(browser);
  await control('kill', 'product-2');
  await expect(page.locator('#events')).toContainText('product-2: passing → critical', { timeout: LONG });
  await expect(row(page, 'product-2')).toContainText('critical');
  await expect(page.getByRole('status')).toContainText('product-2 is critical', { timeout: LONG });
  await expect(page.locator('#events')).toContainText('product-2 cannot be read');
  await expect(page.locator('#live')).toHaveText('live');
  await page.screenshot({ path: `${PICTURES}/trouble.png`, fullPage: true });
  await control('start', 'product-2');
  await expect(row(page, 'product-2')).toContainText('passing', { timeout: LONG });
  await expect(page.locator('#events')).toContainText('product-2 is read again', { timeout: LONG });
  await context.close();
  expect(wrong).toEqual([]);
});

test('a breaker opens and closes before one\'s eyes', async ({ browser }) => {
  const { context, page, wrong } = await look(browser);
  await control('kill', 'payment-1', 'payment-2');
  const t = tile(page, 'coordinator', 'payment');
  await expect(t.locator('.breakers')).toContainText(/open/, { timeout: LONG });
  await expect(t.locator('header .badge')).toContainText('breaker');
  await expect(page.getByRole('status')).toContainText('breaker', { timeout: LONG });
  await expect(page.locator('#events')).toContainText(/payment-[12] ejected/, { timeout: LONG });
  await accessible(page); // in trouble too
  await page.screenshot({ path: `${PICTURES}/breaker.png` });
  await control('start', 'payment-1', 'payment-2');
  await expect(t.locator('.breakers')).not.toContainText(/ open| half/, { timeout: 2 * LONG });
  await t.locator('summary').click();
  await expect(t.locator('.moves')).toContainText('half open → closed');
  await context.close();
  expect(wrong).toEqual([]);
});

test('the page outlives its gateway', async ({ browser }) => {
  const { context, page } = await look(browser);
  await control('kill', 'gateway-1');
  await expect(page.locator('#live')).toHaveText('reconnecting', { timeout: LONG });
  await control('start', 'gateway-1');
  await expect(page.locator('#live')).toHaveText('live', { timeout: LONG });
  await expect(tile(page, 'gateway', 'product').locator('.rate')).not.toHaveText('0/s', { timeout: LONG });
  await context.close();
});

test('a token that is refused is renewed', async ({ page }) => {
  let refusals = 0;
  await page.route('**/ops/stream', (r) => (refusals++ === 0 ? r.fulfill({ status: 401, contentType: 'application/problem+json', body: '{"detail":"expired"}' }) : r.continue()));
  const renewed = page.waitForResponse('**/api/v1/auth/refresh');
  await signIn(page);
  expect((await renewed).status()).toBe(200);
  await expect(page.locator('#live')).toHaveText('live', { timeout: LONG });
  expect(refusals).toBe(2);
});

test('who signs out is out', async ({ browser }) => {
  const { context, page, wrong } = await look(browser);
  const ended = page.waitForResponse('**/api/v1/auth/logout');
  await page.getByRole('button', { name: 'Sign out' }).click();
  expect((await ended).status()).toBe(204);
  await expect(page.locator('#shop')).toBeHidden();
  await expect(page.getByLabel('E-mail')).toBeFocused();
  expect(await page.evaluate(() => [...Object.keys(localStorage), ...Object.keys(sessionStorage), document.cookie].join(''))).toBe('');
  await context.close();
  expect(wrong).toEqual([]);
});
