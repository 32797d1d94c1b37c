// The page: sign in, look, draw.
import { Model } from './model.js';
import { View } from './view.js';
import * as session from './session.js';

const $ = (id) => document.getElementById(id);
const SILENCE = 5000; // ms; the server speaks every second

let looking = null; // ends the stream
let paused = false;

function show(signedIn) {
  $('door').hidden = signedIn;
  $('shop').hidden = !signedIn;
  $('tools').hidden = !signedIn;
  document.body.classList.toggle('signed-out', !signedIn);
}

function live(level, said) {
  $('live').dataset.level = level;
  if ($('live-text').textContent !== said) $('live-text').textContent = said;
}

/** leave shows the door, and why. */
function leave(why) {
  looking?.abort();
  looking = null;
  $('verdict').replaceChildren();
  document.title = 'Souk: operations';
  show(false);
  $('refusal').textContent = why;
  $('email').focus();
}

$('sign-in').addEventListener('submit', async (e) => {
  e.preventDefault();
  const { email, password } = e.target.elements;
  $('refusal').textContent = '';
  for (const field of [email, password]) field.removeAttribute('aria-invalid');
  const empty = [email, password].find((field) => field.value.trim() === '');
  if (empty) {
    empty.setAttribute('aria-invalid', 'true');
    $('refusal').textContent = empty === email ? 'Say who you are.' : 'The password is missing.';
    empty.focus();
    return;
  }
  const button = e.target.querySelector('button');
  button.disabled = true;
  try {
    await session.signIn(email.value.trim(), password.value);
  } catch (refused) {
    $('refusal').textContent = refused.message;
    password.focus();
    return;
  } finally {
    button.disabled = false;
  }
  password.value = '';
  look();
});

$('sign-out').addEventListener('click', () => {
  session.signOut();
  leave('');
});

async function look() {
  looking = new AbortController();
  const { signal } = looking;
  const model = new Model();
  const view = new View(model);
  const draw = () => { if (!document.hidden && model.state) view.draw(); };
  clear();

  $('pause').onclick = () => {
    paused = !paused;
    $('pause').setAttribute('aria-pressed', String(paused));
    if (!paused) draw();
  };
  for (const radio of document.querySelectorAll('[name="window"]')) {
    radio.onchange = () => { view.window = Number(radio.value); draw(); };
    if (radio.checked) view.window = Number(radio.value);
  }
  document.addEventListener('visibilitychange', draw, { signal });
  window.addEventListener('resize', draw, { signal });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw, { signal });

  for (let failures = 0; !signal.aborted;) {
    try {
      for await (const event of session.look(signal, SILENCE)) {
        if (event.name === 'bye') break;
        const data = JSON.parse(event.data);
        if (event.name === 'history') model.history(data);
        if (event.name === 'tick') model.tick(data);
        if (failures > 0 || $('shop').hidden) show(true);
        failures = 0;
        live(paused ? 'warn' : 'ok', paused ? 'paused' : 'live');
        if (!paused) draw();
      }
    } catch (e) {
      if (signal.aborted) return;
      if (e.status === 401) { leave(e.message); return; }
      if (e.status === 403) {
        session.signOut();
        leave('This account may not see how the shop is doing.');
        return;
      }
    }
    if (signal.aborted) return;
    failures++;
    live('bad', 'reconnecting');
    const pause = Math.min(10_000, 500 * 2 ** Math.min(failures, 5)) * (0.5 + Math.random() / 2);
    await new Promise((go) => { setTimeout(go, pause); signal.addEventListener('abort', go, { once: true }); });
  }
}

/** clear removes what an earlier session has left. */
function clear() {
  for (const id of ['tiles', 'events', 'numbers', 'consul', 'graph']) $(id).replaceChildren();
  $('instances').tBodies[0].replaceChildren();
  paused = false;
  $('pause').setAttribute('aria-pressed', 'false');
}

show(false);
