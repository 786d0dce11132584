// Brings the dashboard together: which view is shown, when it looks again, and the keyboard.

import { EVERY, has, learn, look, now, store } from './data.js';
import { el, put, span } from './ui.js';
import { Overview } from './overview.js';
import { Traffic } from './traffic.js';
import { Endpoints } from './endpoints.js';
import { Requests } from './requests.js';
import { Connections } from './connections.js';
import { Certificates } from './certificates.js';
import { Configuration } from './configuration.js';
import { Timeline } from './timeline.js';
import { Explain } from './explain.js';

/** The views, in order: name, title, what of the API they need, and what shows them. */
const VIEWS = [
  ['overview', 'Overview', null, Overview],
  ['traffic', 'Traffic', null, Traffic],
  ['endpoints', 'Endpoints', '/v1/endpoints', Endpoints],
  ['requests', 'Requests', '/v1/requests', Requests],
  ['connections', 'Connections', '/v1/connections', Connections],
  ['certificates', 'Certificates', '/v1/certificates', Certificates],
  ['configuration', 'Configuration', '/v1/config/history', Configuration],
  ['timeline', 'Timeline', '/v1/timeline', Timeline],
  ['explain', 'Explain', '/v1/explain', Explain],
];

const main = document.getElementById('view');
const nav = document.getElementById('nav');
const live = document.getElementById('live');
const facts = document.getElementById('facts');

let views = [];
let shown = null;

/** A part of the address; what is encoded wrongly is taken as it is. */
function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

/** Shows the view that the address names. */
function show() {
  const [name, ...rest] = location.hash.slice(1).split('/').map(decoded);
  const view = views.find((one) => one.name === name) ?? views[0];
  if (!view) return;
  if (shown !== view) {
    shown?.made.hide?.();
    view.made ??= new view.Make();
    main.replaceChildren(el('h1.hidden', view.title), view.made.node);
    for (const one of views) {
      if (one === view) one.link.setAttribute('aria-current', 'page');
      else one.link.removeAttribute('aria-current');
    }
    // On a phone the names of the views scroll.
    view.link.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    document.title = `${view.title} – Ravelin`;
    shown = view;
    view.made.show?.(rest.join('/'));
  } else {
    view.made.show?.(rest.join('/'));
  }
  if (now()) view.made.update();
}

function build() {
  const open = VIEWS.filter(([, , path]) => path === null || has(path));
  views = open.map(([name, title, , Make], at) => {
    const link = el('a', { href: `#${name}`, 'aria-keyshortcuts': String(at + 1) }, title);
    return { name, title, Make, link, made: null };
  });
  nav.replaceChildren(el('ul', views.map((view) => el('li', view.link))));
}

/** Looks again and again; what goes wrong is said and tried again. */
async function follow() {
  for (;;) {
    const began = Date.now();
    try {
      if (!store.paths.size) {
        await learn();
        build();
        show();
      }
      if (!document.hidden || !now()) {
        const stats = await look();
        put(facts, `${stats.version} · generation ${stats.generation} · up ${span(stats.uptime)} · pid ${stats.pid}`);
        say('live', 'on');
        shown?.made.update();
      }
    } catch (error) {
      say(error instanceof TypeError ? 'not reached' : error.message, 'lost');
    }
    await new Promise((resolve) => { setTimeout(resolve, Math.max(200, EVERY * 1000 - (Date.now() - began))); });
  }
}

function say(text, tone) {
  put(live, text);
  live.className = `live ${tone}`;
}

const THEMES = ['auto', 'light', 'dark'];
const themeButton = document.getElementById('theme');

function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  themeButton.textContent = theme[0].toUpperCase() + theme.slice(1);
  themeButton.setAttribute('aria-label', `Colours: ${theme === 'auto' ? 'as the system' : theme}`);
  try { localStorage.setItem('theme', theme); } catch { /* then it is not kept */ }
}

function themeNow() {
  try { return THEMES.includes(localStorage.getItem('theme')) ? localStorage.getItem('theme') : 'auto'; } catch { return 'auto'; }
}

const turnTheme = () => setTheme(THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length]);

/** What keys do, beside the numbers of the views. */
const KEYS = [
  ['/', 'To the filter of this view', () => main.querySelector('input[type=search]')?.focus()],
  ['j', 'Next row', () => step(1)],
  ['k', 'Previous row', () => step(-1)],
  ['Enter', 'Open the row', null],
  ['p', 'Hold or follow the live requests', () => shown?.made.hold?.()],
  ['t', 'Other colours', turnTheme],
  ['?', 'These keys', () => keys()],
  ['Esc', 'Leave a filter, close what is open', null],
];

/** To the next row, or the one before. */
function step(by) {
  const rows = [...main.querySelectorAll('tbody tr[tabindex], tbody tr')].filter((row) => row.offsetParent && !row.classList.contains('more'));
  const at = rows.indexOf(document.activeElement?.closest?.('tr'));
  const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  if (!row) return;
  if (!row.hasAttribute('tabindex')) row.tabIndex = -1;
  row.focus();
}

function keys() {
  if (document.querySelector('dialog[open]')) return;
  const line = ([key, words]) => el('tr', el('th', { scope: 'row' }, el('kbd', key)), el('td', words));
  const numbers = views.map((view, at) => [String(at + 1), view.title]);
  const dialog = el('dialog.keys', { 'aria-label': 'Keyboard shortcuts' },
    el('h2', 'Keyboard shortcuts'),
    el('table', el('tbody', [...numbers, ...KEYS].map(line))),
    el('div.row.end', el('button', { type: 'button', onclick: () => dialog.close() }, 'Close')));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.('input, select, textarea');
  if (typing) {
    if (event.key === 'Escape') typing.blur();
    return;
  }
  if (document.querySelector('dialog[open]')) return;
  const view = /^[1-9]$/.test(event.key) ? views[Number(event.key) - 1] : null;
  const key = KEYS.find(([one, , act]) => one === event.key && act);
  if (view) location.hash = view.name;
  else if (key) key[2]();
  else return;
  event.preventDefault();
});

document.getElementById('keys').addEventListener('click', keys);
themeButton.addEventListener('click', turnTheme);
window.addEventListener('hashchange', () => { show(); main.focus({ preventScroll: true }); window.scrollTo(0, 0); });
window.addEventListener('looked', () => shown?.made.update());
setTheme(themeNow());
follow();
