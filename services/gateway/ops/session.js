// Who is looking. Tokens are kept in memory only: they are gone with the page.

/** Refusal is an answer that is not the one hoped for; status 0 means that there was none. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function post(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), cache: 'no-store' });
  } catch {
    throw new Refusal(0, 'The shop cannot be reached.');
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(answer.status, said.detail || said.title || `The shop answers ${answer.status}.`);
  return said;
}

let tokens = null;
let renewing = null; // a refresh token is good once, so there is one renewal at a time

function keep(said) {
  // A tenth of its life is left for it to travel and for clocks to differ.
  tokens = { access: said.access_token, refresh: said.refresh_token, renewAt: Date.now() + said.expires_in * 900 };
}

export async function signIn(email, password) {
  keep(await post('/api/v1/auth/login', { email, password }));
}

/** signOut ends the session here at once, and at the shop if it can be reached. */
export function signOut() {
  const refresh = tokens?.refresh;
  tokens = null;
  if (refresh) post('/api/v1/auth/logout', { refresh_token: refresh }).catch(() => {});
}

/** token is a token that is good, or a Refusal: 401 means to sign in again. */
export async function token(anew = false) {
  if (!tokens) throw new Refusal(401, 'Sign in first.');
  if (anew || Date.now() > tokens.renewAt) {
    renewing ??= post('/api/v1/auth/refresh', { refresh_token: tokens.refresh }).then(keep).finally(() => { renewing = null; });
    try {
      await renewing;
    } catch (e) {
      if (e.status >= 400 && e.status < 500 && e.status !== 429) {
        tokens = null;
        throw new Refusal(401, 'Your session has ended. Sign in again.');
      }
      throw e;
    }
  }
  if (!tokens) throw new Refusal(401, 'Sign in first.');
  return tokens.access;
}

/** look yields the server's events {name, data} until the stream ends, signal aborts or nothing comes for a while. */
export async function* look(signal, silence) {
  const ask = async (anew) => fetch('/ops/stream', { headers: { Authorization: `Bearer ${await token(anew)}` }, signal, cache: 'no-store' });
  let answer = await ask(false);
  if (answer.status === 401) answer = await ask(true);
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refusal(answer.status, said.detail || `The shop answers ${answer.status}.`);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      const { value, done } = await within(reader.read(), silence);
      if (done) return;
      text += value;
      for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
        const event = { name: 'message', data: '' };
        for (const line of text.slice(0, end).split('\n')) {
          if (line.startsWith('event: ')) event.name = line.slice(7);
          if (line.startsWith('data: ')) event.data += line.slice(6);
        }
        if (event.data) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Refusal(0, 'Nothing comes any more.')), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
