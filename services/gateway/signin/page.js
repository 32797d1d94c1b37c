// Signing in, with a password or another provider, and saying yes or no to what another program wants to do for you.
// Tokens are kept in memory only: they are gone with the page.

const at = (id) => document.getElementById(id);
const request = new URLSearchParams(location.search).get('request');
let token = null;

function show(id) {
  for (const s of ['door', 'link', 'consent']) at(s).hidden = s !== id;
}

function say(text) {
  at('said').textContent = text;
}

/** ask gives the answer's status and what it says. */
async function ask(method, path, body) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
    return { status: answer.status, said: await answer.json().catch(() => ({})) };
  } catch {
    return { status: 0, said: { detail: 'The shop cannot be reached.' } };
  }
}

async function signedIn(said) {
  token = said.access_token;
  if (!request) {
    show(null);
    say(`Signed in as ${said.user.display_name} (${said.user.email}).`);
    return;
  }
  const of = await ask('GET', `/api/v1/oauth/requests/${encodeURIComponent(request)}`);
  if (of.status !== 200) {
    show(null);
    say(of.said.detail);
    return;
  }
  at('client').textContent = of.said.client;
  at('who').textContent = said.user.email;
  at('host').textContent = of.said.redirect_host;
  at('scopes').replaceChildren(...of.said.scopes.map((s) => Object.assign(document.createElement('li'), { textContent: s.meaning })));
  say('');
  show('consent');
}

async function providers() {
  const list = await ask('GET', '/api/v1/auth/providers');
  const links = (list.said.items ?? []).map((p) => {
    const a = document.createElement('a');
    a.href = p.start + (request ? `?request=${encodeURIComponent(request)}` : '');
    a.textContent = `Sign in with ${p.label}`;
    return a;
  });
  at('providers').replaceChildren(...links);
}

at('password-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const a = await ask('POST', '/api/v1/auth/login', { email: at('email').value, password: at('password').value });
  if (a.status === 200) await signedIn(a.said);
  else say(a.said.detail);
});

at('link-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const a = await ask('POST', '/api/v1/auth/providers/link', { password: at('link-password').value });
  if (a.status === 200) await signedIn(a.said);
  else say(a.said.detail);
});

at('consent-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const a = await ask('POST', `/api/v1/oauth/requests/${encodeURIComponent(request)}/${e.submitter.value}`);
  if (a.status === 200) location.assign(a.said.location);
  else say(a.said.detail);
});

// Who comes back from a provider has a cookie that says so; everybody else is at the door.
const back = await ask('POST', '/api/v1/auth/providers/session');
if (back.status === 200) {
  await signedIn(back.said);
} else if (back.said.code === 'link_required') {
  show('link');
} else {
  if (back.said.code !== 'no_sign_in') say(back.said.detail);
  await providers();
  show('door');
}
